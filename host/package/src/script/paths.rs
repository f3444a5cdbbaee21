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
    /// All of the written path, if the package cannot have it.
    outside: Option<String>,
}

/// The most parts of a path, counted from its end, by which a package is searched for the file.
const MAX_PARTS: usize = 32;

impl NamedPath {
    /// Whether it is a path of another machine, or leads out of the package.
    pub fn is_outside(&self) -> bool {
        self.outside.is_some()
    }

    /// The paths at which the package may have the file, from the whole path to the file name alone. An
    /// export puts files of several folders into one.
    pub fn candidates(&self) -> impl Iterator<Item = RelPath> {
        let whole = self.outside.as_deref().unwrap_or(self.path.as_str());
        let is_elsewhere = |part: &str| matches!(part, ".." | "~") || is_foreign(part);
        let is_name = |part: &&str| !(self.is_outside() && is_elsewhere(part));
        let parts: Vec<&str> = whole.split('/').filter(is_name).collect();
        let longest = parts.len().saturating_sub(MAX_PARTS);
        (longest..parts.len()).filter_map(move |first| RelPath::new(parts[first..].join("/")).ok())
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
        let path = RelPath::new(if is_outside { name(trimmed) } else { joined.clone() })?;
        Ok(NamedPath { written: text.to_owned(), path, outside: is_outside.then_some(joined) })
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
    let is_apart = |c: char| c.is_whitespace() || "$(){}`\"'".contains(c);
    let parts: Vec<&str> = written.split(is_apart).filter(|part| !part.is_empty()).collect();
    match parts[..] {
        [
            "SLURM_SUBMIT_DIR" | "PBS_O_WORKDIR" | "0%/*" | "BASH_SOURCE%/*" | "BASH_SOURCE[0]%/*",
        ] => true,
        // `$(cd "$(dirname "$0")" && pwd)` and its many forms, but not the folder above.
        _ => {
            parts.iter().filter(|part| **part == "dirname").count() == 1
                && parts.iter().any(|part| SCRIPT.contains(part))
                && parts.iter().all(|part| SCRIPT.contains(part) || AROUND_SCRIPT.contains(part))
        }
    }
}

/// The names of a script within itself, and what may stand around them.
const SCRIPT: [&str; 3] = ["0", "BASH_SOURCE", "BASH_SOURCE[0]"];
const AROUND_SCRIPT: [&str; 19] = [
    "dirname",
    "cd",
    "pwd",
    "realpath",
    "readlink",
    "-P",
    "-L",
    "-e",
    "-f",
    "-m",
    "-s",
    "--",
    "&&",
    ";",
    "&>",
    "&>/dev/null",
    ">/dev/null",
    "/dev/null",
    "2>&1",
];

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
        for (text, expected) in [
            ("C:\\data\\x\\a.slp", ["data/x/a.slp", "x/a.slp", "a.slp"].as_slice()),
            ("../../x/a.slp", &["x/a.slp", "a.slp"]),
            ("~/a.slp", &["a.slp"]),
            ("x/a.slp", &["x/a.slp", "a.slp"]),
            ("a.slp", &["a.slp"]),
        ] {
            let place = top.place(text).unwrap();
            assert!(place.candidates().map(String::from).eq(expected.iter().copied()), "{text}");
        }
        for (folder, text) in [(&top, ".."), (&sub, "../.."), (&top, ""), (&top, "/")] {
            assert!(folder.place(text).is_err(), "{text}");
        }
        assert!(top.enter("/home/x").is_err());
        assert!(top.enter("..").is_err());
    }

    #[test]
    fn only_the_folder_of_the_script_is_the_top() {
        for written in [
            "$(dirname \"$0\")",
            "$(dirname -- \"$0\")",
            "`dirname $0`",
            "$(dirname \"${BASH_SOURCE[0]}\")",
            "$(dirname \"$(readlink -f \"$0\")\")",
            "$(dirname $(realpath $0))",
            "$(cd \"$(dirname \"$0\")\" && pwd -P)",
            "$( cd -- \"$( dirname -- \"${BASH_SOURCE[0]}\" )\" &> /dev/null && pwd )",
            "${0%/*}",
            "$SLURM_SUBMIT_DIR",
            "${SLURM_SUBMIT_DIR}",
        ] {
            assert!(names_top(written), "{written}");
        }
        for written in [
            "$(dirname \"$(dirname \"$0\")\")",
            "$(dirname models/a.yaml)",
            "$(dirname \"$CONFIG\")",
            "$(cd \"$(dirname \"$0\")/..\" && pwd)",
            "$(cd \"$(dirname \"$0\")\"/sub && pwd)",
            "$(dirname)",
            "$0",
            "$SLURM_SUBMIT_DIR_OLD",
        ] {
            assert!(!names_top(written), "{written}");
        }
    }
}
