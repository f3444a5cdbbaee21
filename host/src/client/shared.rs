//! Jobs on shared storage: paths are sent instead of files.

use super::error::SharedError;
use sleap_rtc_protocol::job::SharedPaths;
use sleap_rtc_protocol::path::RelPath;
use sleap_rtc_transfer::{Package, storage};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A job's paths below the shared root. Dropping it removes the temporary files there.
#[derive(Debug)]
pub struct SharedJob {
    paths: SharedPaths,
    /// The output folder as this machine sees it.
    output: PathBuf,
    scratch: Option<tempfile::TempDir>,
}

impl SharedJob {
    /// A training package below `root`, with its output there too.
    pub fn training(root: &Path, package: &Path, output: &Path) -> Result<Self, SharedError> {
        let paths = SharedPaths { input: below(root, package)?, output: below(root, output)? };
        let output = storage::confined(root, &paths.output)?;
        Ok(Self { paths, output, scratch: None })
    }

    /// A tracking package, built in a folder of its own below `root`. Large files are hard links there
    /// and cost nothing. Blocks.
    pub fn tracking(root: &Path, package: &Package) -> Result<Self, SharedError> {
        let scratch = tempfile::Builder::new().prefix("sleap-rtc-job-").tempdir_in(root);
        let scratch = scratch.map_err(unusable(root))?;
        let (input, output) = (scratch.path().join("input"), scratch.path().join("results"));
        lay_out(package, &input).map_err(unusable(&input))?;
        fs::create_dir_all(&output).map_err(unusable(&output))?;
        let paths = SharedPaths { input: below(root, &input)?, output: below(root, &output)? };
        Ok(Self { paths, output, scratch: Some(scratch) })
    }

    /// The paths for the worker.
    pub fn paths(&self) -> &SharedPaths {
        &self.paths
    }

    /// Where the worker put the result, if that is not its final place.
    pub fn scratch_output(&self) -> Option<&Path> {
        self.scratch.as_ref().map(|_| self.output.as_path())
    }
}

fn unusable(path: &Path) -> impl FnOnce(io::Error) -> SharedError {
    move |source| SharedError::Unusable { path: path.to_owned(), source }
}

/// `path` relative to `root`, links followed as far as the path exists.
fn below(root: &Path, path: &Path) -> Result<RelPath, SharedError> {
    let real_root = root.canonicalize().map_err(unusable(root))?;
    let real = canonical(path).map_err(unusable(path))?;
    let relative = real
        .strip_prefix(&real_root)
        .map_err(|_| SharedError::Outside { path: path.to_owned(), root: root.to_owned() })?;
    let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
    Ok(RelPath::new(parts.join("/"))?)
}

/// The real path of the existing part, followed by the part that does not exist yet.
fn canonical(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let there = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(&path);
    let rest = path.strip_prefix(there).unwrap_or(Path::new(""));
    // Joining an empty path would add a slash.
    if rest.as_os_str().is_empty() {
        there.canonicalize()
    } else {
        Ok(there.canonicalize()?.join(rest))
    }
}

fn lay_out(package: &Package, into: &Path) -> io::Result<()> {
    for file in package.manifest().files() {
        let place = file.path.below(into);
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder)?;
        }
        let linked = package.file_path(&file.path).map(|path| fs::hard_link(path, &place));
        if !matches!(linked, Some(Ok(()))) {
            let mut from = package.read(&file.path).map_err(io::Error::other)?;
            io::copy(&mut from, &mut fs::File::create(&place)?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_really_below_the_root_counts() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("a")).unwrap();
        fs::create_dir(folder.path().join("outside")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("outside"), root.join("link")).unwrap();
        assert_eq!(below(&root, &root.join("a")).unwrap().as_str(), "a");
        assert_eq!(below(&root, &root.join("new/b")).unwrap().as_str(), "new/b");
        for bad in [root.join("link"), root.join("link/new"), folder.path().join("outside")] {
            assert!(below(&root, &bad).is_err(), "{bad:?}");
        }
        assert!(below(&root, &root).is_err());
    }
}
