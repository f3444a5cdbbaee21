//! A running program whose output is kept in files of the round's folder, to explain failures.

use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Killed with its process group when it is dropped.
pub struct Program {
    child: Child,
    out: PathBuf,
    err: PathBuf,
    ended: Option<i32>,
}

impl Program {
    /// Starts `command`. Its output is appended to `NAME.out` and `NAME.err` in `folder`.
    pub fn start(name: &str, folder: &Path, command: &mut Command) -> Self {
        let path = |ending: &str| folder.join(format!("{name}.{ending}"));
        let open = |path: &Path| File::options().create(true).append(true).open(path).unwrap();
        let (out, err) = (path("out"), path("err"));
        let child = command
            .stdin(Stdio::null())
            .stdout(open(&out))
            .stderr(open(&err))
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { child, out, err, ended: None }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its output on stdout, after that of earlier programs with the same name.
    pub fn stdout(&self) -> String {
        read(&self.out)
    }

    pub fn stderr(&self) -> String {
        read(&self.err)
    }

    /// Its exit code, or 128 + the number of the signal that ended it. `None` while it runs.
    pub fn ended(&mut self) -> Option<i32> {
        if self.ended.is_none() {
            let status = self.child.try_wait().unwrap();
            self.ended = status.map(|status| {
                status.code().or(status.signal().map(|number| 128 + number)).unwrap_or(-1)
            });
        }
        self.ended
    }

    /// Kills it, as in a crash, and waits until it has ended.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let status = self.child.wait().unwrap();
            self.ended = Some(status.signal().map_or(-1, |number| 128 + number));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
