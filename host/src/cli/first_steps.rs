//! `sleap-rtc` alone: the commands of a first session instead of a page of options.

use super::exit::{Exit, ExitWith, Failure};
use super::print;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

const TITLE: &str =
    "sleap-rtc: train and track with SLEAP on another machine's GPU\n\nA first session:\n";

#[cfg(all(feature = "signaling", feature = "worker"))]
const WORKER: &str = "
  On the machine with the GPU, start a worker that is also the place to meet.
  It prints its address and a code:
    sleap-rtc worker --serve
";
#[cfg(all(not(feature = "signaling"), feature = "worker"))]
const WORKER: &str = "
  On the machine with the GPU, start a worker. It prints a code:
    sleap-rtc worker --signaling ws://SERVER:8080
";
#[cfg(all(feature = "signaling", not(feature = "worker")))]
const WORKER: &str = "
  On a machine that the others reach, start the server where they meet:
    sleap-rtc signaling
";
#[cfg(not(any(feature = "signaling", feature = "worker")))]
const WORKER: &str = "";

#[cfg(feature = "client")]
const CLIENT: &str = "
  On your laptop, join with that code, once:
    sleap-rtc pair --signaling ws://ADDRESS:8080 CODE

  Train with the package that SLEAP exports:
    sleap-rtc train --auto-select --pkg-path labels.pkg.zip
";
#[cfg(not(feature = "client"))]
const CLIENT: &str = "";

const READ_ON: &str = "
`sleap-rtc --help` lists all commands, and `sleap-rtc COMMAND --help` explains
one, with examples.
";
#[cfg(all(feature = "client", feature = "worker"))]
const CHECK: &str = "`sleap-rtc doctor` checks this machine before a job waits for it.\n";
#[cfg(not(all(feature = "client", feature = "worker")))]
const CHECK: &str = "";

/// Prints them.
pub(crate) fn show() -> Result<Exit, Failure> {
    let text = [TITLE, WORKER, CLIENT, READ_ON, CHECK].concat();
    print::raw(&text).exit(Exit::Unexpected)?;
    let found = std::env::current_exe().ok().zip(std::env::var_os("PATH"));
    if let Some(other) = found.and_then(|(own, path)| shadowing(&own, &path)) {
        print::error(&format!(
            "\n`sleap-rtc` on your PATH is another program, {}: start this one by its path, or put its \
             folder first\n",
            other.display()
        ));
    }
    Ok(Exit::Success)
}

/// The program that the command `sleap-rtc` starts, if it is another one than `own`. The Python program has
/// the same name.
fn shadowing(own: &Path, path: &OsStr) -> Option<PathBuf> {
    let name = format!("sleap-rtc{}", std::env::consts::EXE_SUFFIX);
    let first =
        std::env::split_paths(path).map(|folder| folder.join(&name)).find(|file| file.is_file())?;
    (first.canonicalize().ok()? != own.canonicalize().ok()?).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn another_program_of_this_name_is_noticed_if_it_comes_first() {
        let folders = ["empty", "ours", "theirs"];
        let above = tempfile::tempdir().unwrap();
        let [empty, ours, theirs] = folders.map(|name| above.path().join(name));
        for folder in [&empty, &ours, &theirs] {
            fs::create_dir(folder).unwrap();
        }
        let name = format!("sleap-rtc{}", std::env::consts::EXE_SUFFIX);
        let (own, other) = (ours.join(&name), theirs.join(&name));
        fs::write(&own, "").unwrap();
        fs::write(&other, "").unwrap();
        let found = |folders: &[&PathBuf]| {
            shadowing(&own, &std::env::join_paths(folders.iter().copied()).unwrap())
        };
        assert_eq!(found(&[&empty, &ours, &theirs]), None);
        assert_eq!(found(&[&empty, &theirs, &ours]), Some(other));
        assert_eq!(found(&[&empty]), None);
    }
}
