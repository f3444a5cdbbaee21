//! A small disk that tests can fill to the last byte.

use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The file that fills a disk.
const BALLAST: &str = "ballast";

/// Gives this thread, and all threads and processes that it starts, mounts that no other process
/// sees and that end with them.
pub fn own_mounts() -> io::Result<()> {
    #[expect(unsafe_code, reason = "no safe function creates a mount namespace")]
    // SAFETY: only the thread's mounts and working folder change. No descriptor is unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    run("mount", [OsStr::new("--make-rprivate"), OsStr::new("/")])
}

fn run<const N: usize>(program: &str, arguments: [&OsStr; N]) -> io::Result<()> {
    let done = Command::new(program).args(arguments).output()?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(io::Error::other(format!("{program}: {said}")))
}

/// A mounted disk. Dropping it removes the disk.
pub struct Disk(PathBuf);

impl Disk {
    /// Mounts an empty disk of `mib` MiB at `at`, and creates that folder if necessary.
    pub fn mount(at: &Path, mib: u64) -> Self {
        Self::with_options(at, &format!("size={mib}m"))
    }

    /// Mounts an empty disk with space for at most `files` files and folders.
    pub fn with_files(at: &Path, mib: u64, files: u64) -> Self {
        Self::with_options(at, &format!("size={mib}m,nr_inodes={files}"))
    }

    fn with_options(at: &Path, options: &str) -> Self {
        fs::create_dir_all(at).unwrap();
        let size = format!("{options},mode=0700");
        let at_path = at.to_str().expect("temporary folders have plain names");
        let words = ["-t", "tmpfs", "-o", size.as_str(), "torture", at_path];
        run("mount", words.map(OsStr::new)).expect("a tmpfs");
        Self(at.to_owned())
    }

    /// Takes `mib` MiB.
    pub fn take_mib(&self, mib: usize) {
        fs::write(self.0.join(BALLAST), vec![0; mib << 20]).unwrap();
    }

    /// Takes every remaining byte.
    pub fn fill(&self) {
        let mut ballast =
            File::options().create(true).append(true).open(self.0.join(BALLAST)).unwrap();
        for size in [1 << 20, 1 << 12, 1] {
            let block = vec![0; size];
            while ballast.write_all(&block).is_ok() {}
        }
        let full = ballast.write_all(&[0]).expect_err("the disk is full");
        assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
    }

    /// Frees everything that was taken.
    pub fn empty(&self) {
        fs::remove_file(self.0.join(BALLAST)).unwrap();
    }

    /// Copies the content of the disk to `to`, for a later look.
    pub fn rescue(&self, to: &Path) {
        let _ = fs::remove_file(self.0.join(BALLAST));
        if let Err(error) = run("cp", ["-r".as_ref(), self.0.as_os_str(), to.as_os_str()]) {
            println!("cannot keep the content of the disk at {}: {error}", self.0.display());
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run("umount", ["--lazy".as_ref(), self.0.as_os_str()]);
    }
}
