//! A terminal of its own for one command, in tmux.

use crate::process::clean_command;
use crate::{SOON, Site, TestClient, wait_for};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Keeps what a command has drawn after its end.
const SETTINGS: &str = "set -g remain-on-exit on\nset -g default-terminal screen-256color\n\
     set -g history-limit 20000\nset -g status off\n";

/// A terminal in which one command runs. Dropping it ends the command.
pub struct TmuxScreen {
    folder: PathBuf,
}

impl TmuxScreen {
    /// Runs `client` in a terminal of this size. `None`, with a word why, where there is no tmux.
    pub fn open(site: &Site, client: &TestClient, columns: u16, lines: u16) -> Option<Self> {
        if Command::new("tmux").arg("-V").output().is_err() {
            eprintln!("skipped: tmux is not installed");
            return None;
        }
        let this = Self { folder: site.folder("tmux") };
        std::fs::write(this.folder.join("settings"), SETTINGS).unwrap();
        let command = client.command();
        let mut tmux = this.tmux();
        tmux.args(["new-session", "-d", "-x", &columns.to_string(), "-y", &lines.to_string()]);
        for (name, value) in command.get_envs().filter_map(|(name, value)| Some((name, value?))) {
            tmux.arg("-e").arg(format!("{}={}", name.to_str()?, value.to_str()?));
        }
        tmux.arg("-c").arg(client.home()).arg("--").arg(command.get_program());
        let done = tmux.args(command.get_args()).output().unwrap();
        assert!(done.status.success(), "tmux: {}", String::from_utf8_lossy(&done.stderr));
        this.ask(&["pipe-pane", "-O", &format!("cat > {}", this.written().display())]);
        Some(this)
    }

    /// tmux with a server of its own.
    fn tmux(&self) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut tmux = clean_command("tmux", &self.folder, &path);
        tmux.arg("-S").arg(self.folder.join("s")).arg("-f").arg(self.folder.join("settings"));
        tmux
    }

    fn ask(&self, arguments: &[&str]) -> String {
        let output = self.tmux().args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The file that gets all that the command writes.
    fn written(&self) -> PathBuf {
        self.folder.join("written")
    }

    /// Fails if the command has left the cursor hidden. tmux itself hides that of a command that has ended.
    #[track_caller]
    pub fn assert_cursor_shown(&self) {
        wait_for("the cursor", SOON, || {
            let written = std::fs::read(self.written()).unwrap_or_default();
            let written = String::from_utf8_lossy(&written);
            let last = |sequence| written.rfind(sequence);
            (last("\u{1b}[?25h") > last("\u{1b}[?25l")).then_some(())
        });
    }

    /// What is on the screen.
    pub fn text(&self) -> String {
        self.ask(&["capture-pane", "-p"])
    }

    /// What is on the screen, with its colours.
    pub fn coloured(&self) -> String {
        self.ask(&["capture-pane", "-p", "-e"])
    }

    /// The same with everything that has left it at the top. Wrapped lines are whole.
    pub fn history(&self) -> String {
        self.ask(&["capture-pane", "-p", "-J", "-S", "-"])
    }

    /// What tmux knows, such as `cursor_flag`.
    pub fn fact(&self, name: &str) -> String {
        self.ask(&["display-message", "-p", &format!("#{{{name}}}")]).trim().to_owned()
    }

    /// Presses keys, by tmux's names.
    pub fn press(&self, keys: &[&str]) {
        self.ask(&[&["send-keys"], keys].concat());
    }

    /// Gives the terminal another size.
    pub fn resize(&self, columns: u16, lines: u16) {
        let (columns, lines) = (columns.to_string(), lines.to_string());
        self.ask(&["resize-window", "-x", &columns, "-y", &lines]);
    }

    /// Waits until the screen shows `words`.
    #[track_caller]
    pub fn wait(&self, words: &str, limit: Duration) {
        let shown = || self.history().contains(words).then_some(());
        wait_for(&format!("{words:?} on the screen"), limit, || {
            match self.fact("pane_dead").as_str() {
                "1" if shown().is_none() => {
                    panic!("it ended before {words:?}:\n{}", self.history())
                }
                _ => shown(),
            }
        });
    }

    /// Waits for the command's end, and returns its exit code.
    #[track_caller]
    pub fn wait_end(&self, limit: Duration) -> i32 {
        wait_for("the end of the command in tmux", limit, || {
            // tmux may hear of the end of the terminal before that of the command.
            (self.fact("pane_dead") == "1").then(|| self.fact("pane_dead_status").parse().ok())?
        })
    }
}

impl Drop for TmuxScreen {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the screen\n{}", self.history());
        }
        self.ask(&["kill-server"]);
    }
}
