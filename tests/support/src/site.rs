//! The temporary folder in which a test happens.

use crate::process::{clean_command, kill_all, processes_in, python};
use crate::{POLL_EVERY, SOON, TestClient, TestServer, TestWorker, built, compiled};
use std::{
    cell::Cell,
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::Instant,
};
use tempfile::TempDir;

/// The folder for everything that a test does. Create it first, so that it is dropped last.
pub struct Site {
    folder: TempDir,
    homes: Cell<u32>,
}

impl Site {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("sleap-rtc-e2e-").tempdir().unwrap();
        Self { folder, homes: Cell::new(0) }
    }

    /// The path of the folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Whether the folder stays on disk at the end, for a later look.
    pub fn keep(&mut self, keep: bool) {
        self.folder.disable_cleanup(keep);
    }

    /// A new, empty folder for a process or a set of files.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.homes.set(self.homes.get() + 1);
        let path = self.path().join(format!("{}-{name}", self.homes.get()));
        fs::create_dir(&path).unwrap();
        path
    }

    /// A signaling server that keeps nothing on disk.
    pub fn server(&self) -> TestServer {
        TestServer::ephemeral(self)
    }

    /// A worker with one GPU of 16,000 MiB, in a new room.
    pub fn worker(&self, server: &TestServer) -> TestWorker {
        TestWorker::setup(self, "worker").start(server)
    }

    /// A client command to complete.
    pub fn client(&self, server: &TestServer) -> TestClient {
        TestClient::new(self, server.address())
    }

    /// The binary, with `home` as home and working folder and `path` at the front of the search
    /// path. `SLEAP_RTC_PROGRAM` names another one, which may be for another processor.
    pub fn binary(home: &Path, path: &Path) -> Command {
        let python = python().parent().unwrap().display();
        let path = format!("{}:{python}:/usr/local/bin:/usr/bin:/bin", path.display());
        let named = env::var_os("SLEAP_RTC_PROGRAM").map(PathBuf::from);
        let program = named.unwrap_or_else(|| built().join("sleap-rtc"));
        compiled::provide(home);
        let mut command = clean_command(program, home, &path);
        // Where qemu finds the libraries of a program for another processor.
        let libraries = env::var_os("QEMU_LD_PREFIX").map(|folder| ("QEMU_LD_PREFIX", folder));
        command.envs(libraries);
        command
    }

    /// Fails unless soon all remaining processes of this test are `known`.
    #[track_caller]
    pub fn assert_only_processes(&self, known: &[u32]) {
        let mut last = Vec::new();
        let start = Instant::now();
        while start.elapsed() < SOON {
            last = processes_in(self.path());
            last.retain(|process| !known.contains(&(process.pid as u32)));
            if last.is_empty() {
                return;
            }
            sleep(POLL_EVERY);
        }
        panic!("these processes are left: {last:#?}");
    }

    /// Fails unless soon no process of this test remains.
    #[track_caller]
    pub fn assert_no_process_left(&self) {
        self.assert_only_processes(&[]);
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // A job may outlive a worker that was killed, but not the test.
        let start = Instant::now();
        while start.elapsed() < SOON {
            let left = processes_in(self.path());
            if left.is_empty() {
                return;
            }
            kill_all(&left);
            sleep(POLL_EVERY);
        }
    }
}

/// Writes a program: a script with its first line.
pub fn write_program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
