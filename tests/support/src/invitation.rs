//! `sleap-rtc room invite`, beside a running worker.

use crate::process::Process;
use crate::{SOON, Site, TestWorker};
use rustix::process::Signal;
use std::path::Path;

/// A running invitation.
pub struct TestInvitation {
    process: Process,
    /// The newest code that it has shown.
    code: String,
    shown: usize,
}

impl TestInvitation {
    /// Asks `worker` for a code, with these arguments, and waits for it.
    pub fn of(worker: &TestWorker, arguments: &[&str]) -> Self {
        let mut process = Self::start(worker, arguments);
        let code = process.wait_stdout("a code", SOON, |text| codes(text).pop());
        Self { process, code, shown: 1 }
    }

    /// Asks `worker` for a code, which it may refuse.
    pub fn start(worker: &TestWorker, arguments: &[&str]) -> Process {
        let mut command = Site::binary(worker.home(), Path::new("/nonexistent"));
        command.args(["room", "invite", "--state-dir"]).arg(worker.state_dir()).args(arguments);
        Process::start("invitation", &mut command)
    }

    /// The newest code.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Waits for the code after this one.
    pub fn next_code(&mut self) -> &str {
        let shown = self.shown;
        let find = |text: &str| codes(text).get(shown).cloned();
        self.code = self.process.wait_stdout("another code", SOON, find);
        self.shown += 1;
        &self.code
    }

    /// Everything that it has shown.
    pub fn text(&self) -> String {
        format!("{}{}", self.process.stdout(), self.process.stderr())
    }

    /// Waits for its end; gives the exit code.
    pub fn wait(&mut self) -> i32 {
        self.process.wait(SOON)
    }

    /// Ends it, as Ctrl-C does.
    pub fn interrupt(&mut self) {
        self.process.signal(Signal::INT);
        self.process.wait(SOON);
    }
}

/// The codes in what was shown, in their order.
pub fn codes(text: &str) -> Vec<String> {
    let is_line = |line: &&str| line.contains("sleap-rtc pair ") || line.contains("--pair ");
    let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).filter(is_line);
    lines.filter_map(|line| line.trim().rsplit(' ').next().map(str::to_owned)).collect()
}

/// A code for the same mailbox with another word.
pub fn wrong(code: &str) -> String {
    let (start, last) = code.rsplit_once('-').unwrap();
    format!("{start}-{}", if last == "zebra" { "maple" } else { "zebra" })
}

/// The six words in a text.
pub fn verification_words(text: &str) -> String {
    let (_, words) = text.split_once("Verify if you like: ").expect("words to verify");
    let words = words.lines().next().unwrap().trim();
    assert_eq!(words.split(' ').count(), 6, "{words}");
    words.to_owned()
}
