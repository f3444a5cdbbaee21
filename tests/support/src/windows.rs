//! The program for Windows, run by Wine.
//!
//! All tests share one user's profile, so a test names its jobs, and counts none.

use crate::process::clean_command;
use crate::target;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where Debian's `wine64` puts it, and other systems.
const WINES: [&str; 3] = ["/usr/lib/wine/wine64", "/usr/bin/wine64", "/usr/bin/wine"];
/// What keeps the programs of one Windows together.
const SERVERS: [&str; 2] = ["/usr/lib/wine/wineserver64", "/usr/bin/wineserver"];
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
        let wine = first_of(&WINES);
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

    /// Starts Windows, which the first time takes many seconds, and lets it run on for a minute after its
    /// last program: a client that started it would lend its services the environment of one test, and they
    /// would end with that test.
    fn prepare(&self) {
        let lock = File::create(self.prefix.with_extension("lock")).unwrap();
        lock.lock().unwrap();
        if let Some(server) = first_of(&SERVERS) {
            // One that runs already stays.
            self.wine(&server).arg("--persistent=60").status().unwrap();
        }
        let is_started = self.wine(&self.wine).args(["cmd", "/c", "exit"]).status().unwrap();
        assert!(is_started.success(), "Wine does not start");
    }

    fn wine(&self, program: &Path) -> Command {
        let mut command = clean_command(program, &target(), "/usr/bin:/bin");
        command.env("WINEPREFIX", &self.prefix).env("WINEDEBUG", "-all");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
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

fn first_of(paths: &[&str]) -> Option<PathBuf> {
    paths.iter().map(PathBuf::from).find(|path| path.is_file())
}
