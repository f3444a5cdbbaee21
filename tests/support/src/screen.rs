//! A terminal of its own for one command, in tmux.

use crate::process::clean_command;
use crate::{Site, TestClient, wait_for};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const SETTINGS: &str = "set -g default-terminal screen-256color\nset -g history-limit 20000\n\
     set -g status off\n";
/// Writes a text, runs a command, and keeps the terminal as the command has left it. The command alone
/// takes Ctrl-C.
const RUN: &str = "trap : INT; [ -z \"$1\" ] || echo \"$1\"; shift; \"$@\"; printf '\\nended with %s\\n' $?; exec sleep 600";
/// What stands before the exit code.
const ENDED: &str = "\nended with ";

/// A terminal in which one command runs. Dropping it ends the command.
pub struct TmuxScreen {
    folder: PathBuf,
}

impl TmuxScreen {
    /// Runs `client` in a terminal of this size. `None`, with a word why, where there is no tmux.
    pub fn open(site: &Site, client: &TestClient, columns: u16, lines: u16) -> Option<Self> {
        Self::open_below(site, client, columns, lines, &[])
    }

    /// The same, below these lines.
    pub fn open_below(
        site: &Site,
        client: &TestClient,
        columns: u16,
        lines: u16,
        before: &[&str],
    ) -> Option<Self> {
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
        tmux.arg("-c")
            .arg(client.home())
            .args(["--", "sh", "-c", RUN, "sh", &before.join("\n")])
            .arg(command.get_program());
        let done = tmux.args(command.get_args()).output().unwrap();
        assert!(done.status.success(), "tmux: {}", String::from_utf8_lossy(&done.stderr));
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

    /// Continues the command after Ctrl-Z, as `fg` does.
    pub fn resume(&self) {
        let shell = self.fact("pane_pid");
        let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"));
        let script = format!("kill -CONT {}", children.unwrap());
        assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
    }

    /// Gives the terminal another size.
    pub fn resize(&self, columns: u16, lines: u16) {
        let (columns, lines) = (columns.to_string(), lines.to_string());
        self.ask(&["resize-window", "-x", &columns, "-y", &lines]);
    }

    /// Waits until the screen shows `words`.
    #[track_caller]
    pub fn wait(&self, words: &str, limit: Duration) {
        wait_for(&format!("{words:?} on the screen"), limit, || {
            let history = self.history();
            let is_there = history.contains(words);
            assert!(is_there || !history.contains(ENDED), "it ended before {words:?}:\n{history}");
            is_there.then_some(())
        });
    }

    /// Waits for the command's end, and returns its exit code.
    #[track_caller]
    pub fn wait_end(&self, limit: Duration) -> i32 {
        wait_for("the end of the command in tmux", limit, || {
            let history = self.history();
            let (_, code) = history.split_once(ENDED)?;
            code.split_whitespace().next()?.parse().ok()
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
