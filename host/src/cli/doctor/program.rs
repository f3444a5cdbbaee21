//! Which `sleap-rtc` the shell finds: the Python program has the same name.

use crate::cli::findings::Finding;
use crate::cli::version;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

/// What is checked.
const CHECK: &str = "program";

pub(crate) fn check() -> Finding {
    match env::current_exe() {
        Ok(own) => judge(&own, &env::var_os("PATH").unwrap_or_default()),
        Err(error) => {
            Finding::ok(CHECK, format!("version {}, at an unknown path: {error}", version::text()))
        }
    }
}

fn judge(own: &Path, path: &OsStr) -> Finding {
    let folders = env::split_paths(path);
    let first = folders.map(|folder| folder.join("sleap-rtc")).find(|file| file.is_file());
    let (place, real) = (own.display(), |file: &Path| fs::canonicalize(file).ok());
    match first {
        Some(first) if real(&first) != real(own) => Finding::warn(
            CHECK,
            format!("`sleap-rtc` starts {}, not this program, {place}", first.display()),
            "put the folder of this program first on PATH, or run it by its full path",
        ),
        Some(_) => Finding::ok(CHECK, format!("version {}, at {place}", version::text())),
        None => Finding::ok(
            CHECK,
            format!("version {}, at {place}, which is not on PATH", version::text()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::findings::Verdict;

    #[test]
    fn another_program_of_this_name_is_found_out() {
        let site = tempfile::tempdir().unwrap();
        let program = |folder: &str| {
            let folder = site.path().join(folder);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("sleap-rtc"), folder.as_os_str().as_encoded_bytes()).unwrap();
            folder
        };
        let (ours, theirs) = (program("ours"), program("theirs"));
        let linked = site.path().join("linked");
        fs::create_dir(&linked).unwrap();
        std::os::unix::fs::symlink(ours.join("sleap-rtc"), linked.join("sleap-rtc")).unwrap();
        let verdict = |folders: &[&Path]| {
            judge(&ours.join("sleap-rtc"), &env::join_paths(folders).unwrap()).verdict
        };
        assert_eq!(verdict(&[&ours, &theirs]), Verdict::Ok);
        assert_eq!(verdict(&[&linked, &theirs]), Verdict::Ok);
        assert_eq!(verdict(&[site.path()]), Verdict::Ok);
        assert_eq!(verdict(&[&theirs, &ours]), Verdict::Warn);
    }
}
