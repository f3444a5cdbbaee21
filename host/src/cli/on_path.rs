//! Which program the command `sleap-rtc` starts: the Python program has the same name.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// What the shell finds under the name of this program.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OnPath {
    /// This program.
    This,
    /// Another one.
    Other(PathBuf),
    Nothing,
}

impl OnPath {
    /// For the program in the file `own`.
    pub(crate) fn find(own: &Path) -> Self {
        Self::among(own, &env::var_os("PATH").unwrap_or_default())
    }

    fn among(own: &Path, path: &OsStr) -> Self {
        let name = format!("sleap-rtc{}", env::consts::EXE_SUFFIX);
        let mut files = env::split_paths(path).map(|folder| folder.join(&name));
        let real = |file: &Path| file.canonicalize().ok();
        match files.find(|file| file.is_file()) {
            None => Self::Nothing,
            Some(first) if real(&first) == real(own) => Self::This,
            Some(first) => Self::Other(first),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn another_program_of_this_name_is_noticed_if_it_comes_first() {
        let site = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let folder = site.path().join(name);
            fs::create_dir(&folder).unwrap();
            folder
        };
        let [empty, linked, ours, theirs] = ["empty", "linked", "ours", "theirs"].map(folder);
        let (own, other) = (ours.join("sleap-rtc"), theirs.join("sleap-rtc"));
        fs::write(&own, "").unwrap();
        fs::write(&other, "").unwrap();
        std::os::unix::fs::symlink(&own, linked.join("sleap-rtc")).unwrap();
        let found = |folders: &[&Path]| OnPath::among(&own, &env::join_paths(folders).unwrap());
        assert_eq!(found(&[&empty]), OnPath::Nothing);
        assert_eq!(found(&[&empty, &ours, &theirs]), OnPath::This);
        assert_eq!(found(&[&linked, &theirs]), OnPath::This);
        assert_eq!(found(&[&empty, &theirs, &ours]), OnPath::Other(other));
    }
}
