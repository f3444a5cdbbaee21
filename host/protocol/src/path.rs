//! Relative paths of files that other machines name.

use crate::text::Printable;
use serde::{Deserialize, Serialize};
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
        path.extend(self.0.split('/'));
        path
    }
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

/// Whether Windows accepts a file of this name.
fn is_portable(part: &str) -> bool {
    const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];
    let stem = part.split('.').next().unwrap_or(part).trim_end().to_ascii_lowercase();
    let numbered = stem.len() == 4
        && (stem.starts_with("com") || stem.starts_with("lpt"))
        && stem.ends_with(|c: char| c.is_ascii_digit());
    let odd = part.contains([':', '*', '?', '"', '<', '>', '|']) || part.ends_with(['.', ' ']);
    !odd && !numbered && !DEVICES.contains(&stem.as_str())
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
        for unix in ["C:/x", "nul", "NUL.txt", "com1", "x.", "x ", "con .txt", "a?", "a/\"b\""] {
            assert!(RelPath::new(unix).is_ok_and(|path| !path.is_portable()), "{unix:?}");
        }
    }
}
