//! The first process of a container. Starts the actual program, forwards signals to it, and reaps the
//! orphans of all other processes, as an init process must.

use super::exit::{Exit, ExitWith, Failure};
use rustix::process::{Pid, Signal as Number, WaitOptions, kill_process, wait};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::Command;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Whether this process has the duties of an init process.
pub(crate) fn is_wanted() -> bool {
    std::process::id() == 1
}

/// Runs this program again with the same arguments. Returns its exit code.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> Result<u8, Failure> {
    let program = std::env::current_exe().exit(Exit::Unexpected)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .exit(Exit::Unexpected)?;
    runtime.block_on(async {
        // Created before the start, so that no early signal is lost.
        let mut signals = Signals::listen().exit(Exit::Unexpected)?;
        let child = Command::new(program).args(arguments.skip(1)).spawn().exit(Exit::Unexpected)?;
        let child = Pid::from_child(&child);
        loop {
            if let Some(code) = reap(child) {
                return Ok(code);
            }
            if let Some(number) = signals.next().await {
                // The program may have just ended.
                let _ = kill_process(child, number);
            }
        }
    })
}

/// Reaps all processes that have ended. Returns the exit code of the program, if it is among them.
fn reap(program: Pid) -> Option<u8> {
    let mut code = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == program {
            let number = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => code,
                (None, Some(signal)) => 128 + signal,
                (None, None) => continue,
            };
            code = Some(u8::try_from(number).unwrap_or(u8::MAX));
        }
    }
    code
}

/// The signals that this process receives.
struct Signals {
    /// Whether a terminal already signals the whole process group.
    has_terminal: bool,
    children: Signal,
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    quit: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            has_terminal: std::io::stdin().is_terminal(),
            children: signal(SignalKind::child())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// The next signal to forward, or `None` when a process has ended.
    async fn next(&mut self) -> Option<Number> {
        let by_terminal = |number| (!self.has_terminal).then_some(number);
        tokio::select! {
            _ = self.children.recv() => None,
            _ = self.terminate.recv() => Some(Number::TERM),
            _ = self.interrupt.recv() => by_terminal(Number::INT),
            _ = self.hang_up.recv() => by_terminal(Number::HUP),
            _ = self.quit.recv() => by_terminal(Number::QUIT),
        }
    }
}
