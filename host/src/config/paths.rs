//! A worker's mounts, and a client's mapping of the paths in labels.

use super::PathMapping;
use serde::Deserialize;
use serde::de::{Deserializer, Error};

/// An element of `[worker] mounts`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileMount {
    pub(crate) label: MountLabel,
    pub(crate) path: String,
}

/// The clients' name for a mount.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct MountLabel(pub(crate) String);

impl TryFrom<String> for MountLabel {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_wrong = |c: char| c.is_control() || ":/\\=".contains(c);
        if text.trim().is_empty() || text.len() > 64 || text.chars().any(is_wrong) {
            return Err("expects a label without `:`, `/`, `\\` and `=`".to_owned());
        }
        Ok(Self(text))
    }
}

impl<'de> Deserialize<'de> for PathMapping {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let [from, to]: [String; 2] = Deserialize::deserialize(deserializer)?;
        Self::new(&from, &to)
            .ok_or_else(|| D::Error::custom("expects two paths, neither of them empty"))
    }
}

impl PathMapping {
    /// A mapping of two paths. `None` if one of them is empty.
    pub fn new(from: &str, to: &str) -> Option<Self> {
        let filled = !from.trim().is_empty() && !to.trim().is_empty();
        filled.then(|| Self { from: from.to_owned(), to: to.to_owned() })
    }

    /// Parses `FROM=TO`, the form of the option.
    pub fn from_option(text: &str) -> Result<Self, &'static str> {
        let mapping = text.split_once('=').and_then(|(from, to)| Self::new(from, to));
        mapping.ok_or("expects FROM=TO, such as Z:/lab=/mnt/lab")
    }

    /// The replacement of `path`, if it begins with this path. Compares whole components, and
    /// ignores the kind of separators.
    pub fn apply(&self, path: &str) -> Option<String> {
        // The letter of a drive is the same in upper and in lower case.
        let forward = |text: &str| {
            let mut text = text.replace('\\', "/");
            if text.as_bytes().get(1) == Some(&b':')
                && let Some(letter) = text.get_mut(..1)
            {
                letter.make_ascii_lowercase();
            }
            text
        };
        let (path, from) = (forward(path), forward(&self.from));
        let rest = path.strip_prefix(from.trim_end_matches('/'))?;
        let to = self.to.trim_end_matches('/');
        match rest.is_empty() || rest.starts_with('/') {
            true => Some(format!("{to}{rest}")),
            false => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_parts_of_a_path_are_mapped() {
        let map = PathMapping::from_option("Z:\\lab=/mnt/lab/").unwrap();
        for (path, expected) in [
            ("Z:\\lab\\day1\\a.mp4", Some("/mnt/lab/day1/a.mp4")),
            ("Z:/lab/a.mp4", Some("/mnt/lab/a.mp4")),
            ("Z:/lab", Some("/mnt/lab")),
            ("z:\\lab\\a.mp4", Some("/mnt/lab/a.mp4")),
            ("Z:/labels/a.mp4", None),
            ("/Z:/lab/a.mp4", None),
        ] {
            assert_eq!(map.apply(path).as_deref(), expected, "{path}");
        }
        let mount = PathMapping::from_option("/Volumes/lab=lab:").unwrap();
        assert_eq!(mount.apply("/Volumes/lab/a.mp4").as_deref(), Some("lab:/a.mp4"));
        for wrong in ["", "a", "=b", "a=", " = "] {
            assert!(PathMapping::from_option(wrong).is_err(), "{wrong}");
        }
    }
}
