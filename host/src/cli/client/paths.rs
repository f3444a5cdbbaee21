//! The option `--path-map`, and folders that a pattern names.

use crate::config::{Overrides, PathMapping};
use clap::Args;
use std::path::{Path, PathBuf};

/// The option that maps paths in labels.
#[derive(Args)]
#[command(next_help_heading = "Network and files")]
pub struct PathArgs {
    /// Videos whose path begins with FROM are at TO, here or on the worker; repeatable
    #[arg(long, value_name = "FROM=TO", value_parser = PathMapping::from_option)]
    path_map: Vec<PathMapping>,
}

impl PathArgs {
    pub(crate) fn over(self, overrides: Overrides) -> Overrides {
        Overrides { path_map: self.path_map, ..overrides }
    }
}

/// The folders that a pattern such as `labels/*` names. Shells of Unix put them in its place, and those of
/// Windows leave that to programs. A path without `*`, and a pattern that fits no folder, stand for themselves.
pub(crate) fn folders_matching(pattern: PathBuf) -> Vec<PathBuf> {
    let mut found =
        if pattern.exists() { Vec::new() } else { matches(&pattern).unwrap_or_default() };
    found.sort();
    if found.is_empty() { vec![pattern] } else { found }
}

fn matches(pattern: &Path) -> Option<Vec<PathBuf>> {
    let (start, end) = pattern.file_name()?.to_str()?.split_once('*')?;
    let above = pattern.parent().filter(|above| !above.as_os_str().is_empty());
    let fits = |name: &str| {
        let rest =
            name.strip_prefix(start).filter(|_| !name.starts_with('.') || start.starts_with('.'));
        rest.is_some_and(|rest| rest.ends_with(end))
    };
    let entries = above.unwrap_or(Path::new(".")).read_dir().ok()?.flatten();
    let fitting = entries.filter(|entry| entry.file_name().to_str().is_some_and(fits));
    let folder = |name| above.map_or_else(|| PathBuf::from(&name), |above| above.join(&name));
    Some(fitting.map(|entry| folder(entry.file_name())).filter(|path| path.is_dir()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_names_the_folders_that_it_fits() {
        let site = tempfile::tempdir().unwrap();
        for name in ["centroid", "centered", ".hidden", "other"] {
            std::fs::create_dir(site.path().join(name)).unwrap();
        }
        std::fs::write(site.path().join("report.html"), "").unwrap();
        let found = |pattern: &str| {
            let found = folders_matching(site.path().join(pattern)).into_iter();
            found.map(|path| path.strip_prefix(site.path()).unwrap().to_owned()).collect::<Vec<_>>()
        };
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(found("*/"), paths(&["centered", "centroid", "other"]));
        assert_eq!(found("cent*d"), paths(&["centered", "centroid"]));
        assert_eq!(found("c*d*"), paths(&["c*d*"]), "only one star is understood");
        for itself in ["centroid", "nothing*", "missing", "report.html"] {
            assert_eq!(found(itself), paths(&[itself]));
        }
    }
}
