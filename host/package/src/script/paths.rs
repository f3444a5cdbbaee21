//! Resolves the paths in scripts and configs to paths in the package.

use super::LineFault;
use sleap_rtc_protocol::path::{PathError, RelPath};

/// A file or folder that a script names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPath {
    /// The path as it is written.
    pub written: String,
    /// The path in the package: the written one, or only the file name if that is a path of another
    /// machine or leads out of the package.
    pub path: RelPath,
}

impl NamedPath {
    /// The file name alone. An export puts files of several folders into one.
    pub fn bare(&self) -> Option<RelPath> {
        RelPath::new(self.path.file_name()).ok().filter(|bare| *bare != self.path)
    }
}

/// A folder of the package. `None` is its top.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Folder(Option<RelPath>);

impl Folder {
    /// The folder at this path.
    pub fn of(path: Option<RelPath>) -> Self {
        Self(path)
    }

    /// The folder that `text` names, relative to this one.
    pub(crate) fn enter(&self, text: &str) -> Result<Self, LineFault> {
        if is_foreign(text) {
            return Err(LineFault::Folder(text.chars().take(120).collect()));
        }
        let joined = self.join(text);
        match joined.is_empty() {
            true => Ok(Self(None)),
            false => Ok(Self(Some(RelPath::new(joined)?))),
        }
    }

    /// Whether `written`, which only a shell could evaluate, is this folder.
    pub(crate) fn is_called(&self, written: &str) -> bool {
        let own = ["$PWD", "${PWD}", "$(pwd)", "`pwd`"].contains(&written);
        own || (self.0.is_none() && names_top(written))
    }

    /// Resolves `text` relative to this folder.
    pub fn place(&self, text: &str) -> Result<NamedPath, PathError> {
        let name = |text: &str| text.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
        let trimmed = text.trim_end_matches(['/', '\\']);
        let joined = self.join(trimmed);
        let is_outside = is_foreign(text) || joined.starts_with("../");
        let path = if is_outside { name(trimmed) } else { joined };
        Ok(NamedPath { written: text.to_owned(), path: RelPath::new(path)? })
    }

    /// The path of `text` from the top of the package. A `..` that leads out of it remains.
    fn join(&self, text: &str) -> String {
        let own = self.0.iter().flat_map(|folder| folder.as_str().split('/'));
        let mut parts: Vec<&str> = own.collect();
        for part in text.split(['/', '\\']) {
            match part {
                "." | "" => {}
                ".." if parts.last().is_some_and(|last| *last != "..") => {
                    parts.pop();
                }
                part => parts.push(part),
            }
        }
        parts.join("/")
    }
}

/// Whether `written`, which only a shell could evaluate, is the folder of the script: the top of the
/// package.
pub(crate) fn names_top(written: &str) -> bool {
    let own = ["dirname", "${0%/*}", "$SLURM_SUBMIT_DIR", "$PBS_O_WORKDIR"];
    own.iter().any(|own| written.contains(own))
}

/// Whether `text` is a path on some machine, not in the package.
pub fn is_foreign(text: &str) -> bool {
    let drive = text.as_bytes().get(1) == Some(&b':')
        && text.starts_with(|c: char| c.is_ascii_alphabetic());
    text.starts_with(['/', '\\', '~']) || drive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_start_at_a_folder_and_never_leave_the_package() {
        let top = Folder::default();
        let sub = top.enter("./sub/").unwrap();
        for (folder, text, expected) in [
            (&top, "a.slp", "a.slp"),
            (&top, "./models\\x/", "models/x"),
            (&sub, "a.slp", "sub/a.slp"),
            (&sub, "../a.slp", "a.slp"),
            (&sub, "C:\\data\\a.slp", "a.slp"),
            (&sub, "/home/x/a.slp", "a.slp"),
            (&sub, "~/a.slp", "a.slp"),
            (&top, "../other/a.slp", "a.slp"),
            (&sub, "../../a.slp", "a.slp"),
        ] {
            assert_eq!(folder.place(text).unwrap().path.as_str(), expected, "{text}");
        }
        assert_eq!(sub.enter("..").unwrap(), top);
        for (folder, text) in [(&top, ".."), (&sub, "../.."), (&top, ""), (&top, "/")] {
            assert!(folder.place(text).is_err(), "{text}");
        }
        assert!(top.enter("/home/x").is_err());
        assert!(top.enter("..").is_err());
    }
}
