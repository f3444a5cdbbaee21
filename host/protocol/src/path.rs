//! Relative paths of files that other machines name.
//!
//! | what | where it is checked |
//! |---|---|
//! | a path from a peer, a package or a script | [`RelPath::new`], here |
//! | a name in a zip, tar or folder | `package::names`, which composes it for [`RelPath`] |
//! | all paths of a manifest together | `Manifest::check_files` in [`crate::transfer`] |
//! | what a path leads to on a disk | `confined` in `transfer::storage` |

use crate::text::Printable;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

const MAX_PATH_BYTES: usize = 1024;
const MAX_NAME_BYTES: usize = 255;

/// A relative path that stays below any folder that it is joined to.
///
/// Parts are separated by `/`. No part is empty, `.`, `..` or longer than 255 bytes, and none contains a
/// control character or a backslash. Names that only Windows rejects are allowed: see
/// [`RelPath::is_portable`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelPath(String);

/// Why a path is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The path is empty, or longer than 1,024 bytes.
    #[error("a file path of {0} bytes is rejected; 1 to {MAX_PATH_BYTES} bytes are allowed")]
    Length(usize),
    /// A part of the path leads out of its folder, or is not a file name.
    #[error("the file path {path:?} is rejected: {why}")]
    Part {
        /// The path as it arrived, shortened.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl RelPath {
    /// Checks that `text` is such a path.
    pub fn new(text: impl Into<String>) -> Result<Self, PathError> {
        let text = text.into();
        if text.is_empty() || text.len() > MAX_PATH_BYTES {
            return Err(PathError::Length(text.len()));
        }
        match text.split('/').find_map(problem_with) {
            None => Ok(Self(text)),
            Some(why) => Err(PathError::Part { path: Printable::line(&text, 120).into(), why }),
        }
    }

    /// The path, with `/` between its parts.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// Whether every system accepts these names. Windows rejects some that others use.
    pub fn is_portable(&self) -> bool {
        self.0.split('/').all(is_portable)
    }

    /// This path below `folder` on this system.
    pub fn below(&self, folder: &std::path::Path) -> std::path::PathBuf {
        let mut path = folder.to_path_buf();
        self.names_here().for_each(|name| path.push(&*name));
        path
    }

    /// The names of its parts on this system.
    pub fn names_here(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.0.split('/').map(|part| if cfg!(windows) { portable(part) } else { part.into() })
    }

    /// This path with names that every system accepts. Portable ones stay as they are.
    ///
    /// ```
    /// use sleap_rtc_protocol::path::RelPath;
    ///
    /// let path = RelPath::new("runs/12:30/aux.ckpt")?;
    /// assert_eq!(path.portable(), "runs/12%3A30/%61ux.ckpt");
    /// # Ok::<(), sleap_rtc_protocol::path::PathError>(())
    /// ```
    pub fn portable(&self) -> String {
        self.0.split('/').map(portable).collect::<Vec<_>>().join("/")
    }

    /// What two paths have in common that are one file where case does not count: on Windows and macOS.
    ///
    /// ```
    /// use sleap_rtc_protocol::path::RelPath;
    ///
    /// let (greek, micro) = (RelPath::new("\u{3bc}.slp")?, RelPath::new("\u{b5}.SLP")?);
    /// assert_eq!(greek.without_case(), micro.without_case());
    /// # Ok::<(), sleap_rtc_protocol::path::PathError>(())
    /// ```
    pub fn without_case(&self) -> String {
        self.portable()
            .chars()
            .flat_map(|c| only(c.to_uppercase()).unwrap_or(c).to_lowercase())
            .collect()
    }
}

/// The only character, as file systems compare names: one by one.
fn only(mut chars: impl Iterator<Item = char>) -> Option<char> {
    chars.next().filter(|_| chars.next().is_none())
}

fn problem_with(part: &str) -> Option<&'static str> {
    if part.is_empty() {
        Some("it is absolute or has an empty part")
    } else if part == "." || part == ".." {
        Some("it leads out of its folder")
    } else if part.len() > MAX_NAME_BYTES {
        Some("one of its names is longer than 255 bytes")
    } else if part.chars().any(|c| c.is_control() || c == '\\') {
        Some("it contains a backslash or a control character")
    } else {
        None
    }
}

/// What Windows allows in no name. A colon would name a second stream of a file.
const REFUSED: [char; 7] = [':', '*', '?', '"', '<', '>', '|'];
/// What it drops silently at the end of a name.
const DROPPED: [char; 2] = ['.', ' '];

/// Whether Windows accepts a file of this name, and no other name means the same file.
fn is_portable(part: &str) -> bool {
    !part.contains(REFUSED) && !part.ends_with(DROPPED) && !is_device(part) && !is_short_form(part)
}

/// Whether it is a device on Windows, with any ending.
fn is_device(part: &str) -> bool {
    const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];
    let stem = part.split('.').next().unwrap_or(part).trim_end().to_lowercase();
    let number = stem.strip_prefix("com").or_else(|| stem.strip_prefix("lpt"));
    let is_number = |rest: &str| {
        let mut chars = rest.chars();
        chars.next().is_some_and(|c| c.is_ascii_digit() || "¹²³".contains(c))
            && chars.next().is_none()
    };
    number.is_some_and(is_number) || DEVICES.contains(&stem.as_str())
}

/// Whether Windows may use it as the short form of a longer name: `SLEAP-~1`.
fn is_short_form(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or(part);
    let parts = stem.rsplit_once('~').filter(|_| stem.len() <= 8);
    parts
        .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// A name that Windows accepts: what it refuses is written as in URLs.
fn portable(part: &str) -> Cow<'_, str> {
    if is_portable(part) {
        return Cow::Borrowed(part);
    }
    let end = part.trim_end_matches(DROPPED).len();
    let (device, short) = (is_device(part), is_short_form(part));
    let mut name = String::with_capacity(part.len() + 8);
    for (at, c) in part.char_indices() {
        let is_escaped = at >= end
            || c == '%'
            || REFUSED.contains(&c)
            || (device && at == 0)
            || (short && c == '~');
        match is_escaped {
            true => name.push_str(&format!("%{:02X}", u32::from(c))),
            false => name.push(c),
        }
    }
    Cow::Owned(name)
}

impl TryFrom<String> for RelPath {
    type Error = PathError;
    fn try_from(text: String) -> Result<Self, PathError> {
        Self::new(text)
    }
}

impl From<RelPath> for String {
    fn from(path: RelPath) -> String {
        path.0
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_out_or_are_malformed_are_rejected() {
        for bad in ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".", "a\\b", "a\0b", "a\nb"]
        {
            assert!(RelPath::new(bad).is_err(), "{bad:?}");
        }
        assert!(RelPath::new("x".repeat(4096)).is_err());
        for good in ["a", "models/r.n=1/best.ckpt", "ä/ö", "com10", "...a", "a b/c"] {
            assert!(RelPath::new(good).is_ok_and(|path| path.is_portable()), "{good:?}");
        }
        for unix in [
            "a:b", "x:$DATA", "COM¹", "conin$", "SLEAP-~1", "A~12.ckp", "C:/x", "nul", "NUL.txt",
            "com1", "x.", "x ", "con .txt", "a?", "a/\"b\"",
        ] {
            assert!(RelPath::new(unix).is_ok_and(|path| !path.is_portable()), "{unix:?}");
        }
    }

    #[test]
    fn what_windows_refuses_is_escaped_and_nothing_else() {
        for (name, portable) in [
            ("models/r.n=1/best.ckpt", "models/r.n=1/best.ckpt"),
            ("50%/a", "50%/a"),
            ("NUL", "%4EUL"),
            ("con .txt", "%63on .txt"),
            ("run/lpt9.log/a", "run/%6Cpt9.log/a"),
            ("best.", "best%2E"),
            ("best. . ", "best%2E%20%2E%20"),
            ("...", "%2E%2E%2E"),
            ("a.ckpt:hidden:$DATA", "a.ckpt%3Ahidden%3A$DATA"),
            ("what? 50%", "what%3F 50%25"),
            ("SLEAP-~1/journal", "SLEAP-%7E1/journal"),
            ("a long name~1", "a long name~1"),
        ] {
            let path = RelPath::new(name).unwrap();
            assert_eq!(path.portable(), portable);
            assert!(RelPath::new(portable).unwrap().is_portable(), "{portable}");
        }
    }
}
