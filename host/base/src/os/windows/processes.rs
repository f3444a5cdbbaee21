//! Processes: how this one is asked to end, and how others are ended.

use crate::os::EndRequest;
use std::io;
use std::ops::Range;
use std::process::Stdio;
use tokio::process::{Child, Command};
use tokio::signal::windows::{self, CtrlBreak, CtrlC, CtrlClose, CtrlLogoff, CtrlShutdown};
use windows_sys::Win32::System::Threading::CREATE_NEW_PROCESS_GROUP;

/// The requests to this process to end. While it exists, Ctrl-C does not end it by itself.
#[derive(Debug)]
pub struct EndRequests {
    interrupts: CtrlC,
    breaks: CtrlBreak,
    closing: CtrlClose,
    leaving: CtrlLogoff,
    shutdowns: CtrlShutdown,
}

impl EndRequests {
    /// Listens for Ctrl-C, Ctrl-Break, a console that closes, a user who leaves, and a machine that shuts
    /// down. Needs a runtime of tokio.
    ///
    /// # Errors
    /// The system's.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupts: windows::ctrl_c()?,
            breaks: windows::ctrl_break()?,
            closing: windows::ctrl_close()?,
            leaving: windows::ctrl_logoff()?,
            shutdowns: windows::ctrl_shutdown()?,
        })
    }

    /// The same: a console that closes ends its programs in any case.
    ///
    /// # Errors
    /// The system's.
    pub fn listen_also_for_the_terminal() -> io::Result<Self> {
        Self::listen()
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> EndRequest {
        tokio::select! {
            _ = self.interrupts.recv() => EndRequest::Interrupt,
            _ = self.breaks.recv() => EndRequest::Terminate,
            _ = self.closing.recv() => EndRequest::Terminate,
            _ = self.leaving.recv() => EndRequest::Terminate,
            _ = self.shutdowns.recv() => EndRequest::Terminate,
        }
    }
}

/// Nothing hangs up here: `work` is never called.
///
/// # Errors
/// None.
pub fn at_each_hang_up(_work: impl Fn() + Send + 'static) -> io::Result<()> {
    Ok(())
}

/// Nothing is suspended here: `work` is never called.
///
/// # Errors
/// None.
pub fn before_each_suspension(_work: impl Fn() + Send + 'static) -> io::Result<()> {
    Ok(())
}

/// A process that runs apart from this one, and everything that it starts. Dropping the value ends all of it.
#[derive(Debug)]
pub struct ProcessGroup(Option<u32>);

impl ProcessGroup {
    /// Lets the process of `command` begin a group of its own: a Ctrl-C for this program is none for it.
    pub fn begin(command: &mut Command) {
        command.creation_flags(CREATE_NEW_PROCESS_GROUP);
    }

    /// The group of a process that has just started.
    pub fn of(child: &Child) -> Self {
        Self(child.id())
    }

    /// Ends all of it at once.
    pub fn kill(&self) {
        let Some(id) = self.0 else { return };
        let mut kill = std::process::Command::new("taskkill");
        kill.args(["/T", "/F", "/PID", &id.to_string()]);
        // It may have ended.
        let _ = kill.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The command line stays as it is: other users cannot see it.
///
/// # Errors
/// None.
pub fn overwrite_arguments(_find: impl Fn(&[u8]) -> Vec<Range<usize>>) -> io::Result<()> {
    Ok(())
}
