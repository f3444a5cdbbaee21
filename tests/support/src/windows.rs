//! The program for Windows, run by Wine.
//!
//! All tests share one user's profile, so a test names its jobs, and counts none.

use crate::target;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Where Debian's `wine64` puts it, and other systems.
const WINES: [&str; 3] = ["/usr/lib/wine/wine64", "/usr/bin/wine64", "/usr/bin/wine"];
/// `cargo xtask windows` builds it.
const PROGRAM: &str = "x86_64-pc-windows-gnu/debug/sleap-rtc.exe";

/// Wine with a Windows of the tests' own, and the program.
#[derive(Clone)]
pub struct Windows {
    wine: PathBuf,
    program: PathBuf,
    prefix: PathBuf,
}

impl Windows {
    /// `None` where Wine or the program is missing; says which.
    pub fn find() -> Option<Self> {
        let wine = WINES.iter().map(PathBuf::from).find(|path| path.is_file());
        let named = std::env::var_os("SLEAP_RTC_WINDOWS_PROGRAM").map(PathBuf::from);
        let program = named.unwrap_or_else(|| target().join(PROGRAM));
        match (wine, program.is_file()) {
            (Some(wine), true) => {
                let windows = Self { wine, program, prefix: target().join("wine") };
                windows.prepare();
                Some(windows)
            }
            (None, _) => {
                eprintln!("Wine is not installed: this test did not run");
                None
            }
            (_, false) => {
                eprintln!("`cargo xtask windows` has not built the program: this test did not run");
                None
            }
        }
    }

    /// Lets Wine set up its folder, which takes it many seconds once.
    fn prepare(&self) {
        let lock = File::create(self.prefix.with_extension("lock")).unwrap();
        lock.lock().unwrap();
        if self.prefix.join("system.reg").exists() {
            return;
        }
        let mut start = Command::new(&self.wine);
        start.args(["cmd", "/c", "exit"]).env("WINEPREFIX", &self.prefix).env("WINEDEBUG", "-all");
        start.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(start.status().unwrap().success(), "Wine does not start");
    }

    /// The same command as `command`, of the program for Windows. Paths stay as they are: the working
    /// folder is on the drive of this machine's files.
    pub(crate) fn command(&self, command: &Command) -> Command {
        let mut windows = Command::new(&self.wine);
        windows.arg(&self.program).args(command.get_args()).env_clear();
        windows.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        windows.env("WINEPREFIX", &self.prefix).env("WINEDEBUG", "-all");
        if let Some(folder) = command.get_current_dir() {
            windows.current_dir(folder);
        }
        windows
    }
}
