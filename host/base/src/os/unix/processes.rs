//! Processes: how this one is asked to end, and how others are ended.

use crate::os::{EndRequest, FileExt};
use rustix::process::{Pid, getpid, kill_process, kill_process_group};
use std::fs::{self, OpenOptions};
use std::io;
use std::ops::Range;
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The index of the field in `/proc/self/stat` with the address of the arguments, counted after the
/// program's name.
const ARGUMENTS_FIELD: usize = 45;

/// The requests to this process to end. While it exists, they do not end it by themselves.
#[derive(Debug)]
pub struct EndRequests {
    interrupts: Signal,
    terminations: Signal,
    /// SIGHUP, if it is a request to end.
    hang_ups: Option<Signal>,
}

impl EndRequests {
    /// Listens for SIGINT and SIGTERM. Needs a runtime of tokio.
    ///
    /// # Errors
    /// The system's.
    pub fn listen() -> io::Result<Self> {
        let (interrupts, terminations) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self { interrupts, terminations, hang_ups: None })
    }

    /// Listens also for a terminal that closes, unless the program was started with that ignored, as by
    /// `nohup`. Needs a runtime of tokio.
    ///
    /// # Errors
    /// The system's.
    pub fn listen_also_for_the_terminal() -> io::Result<Self> {
        let hang_ups = match is_ignored(SignalKind::hangup()) {
            true => None,
            false => Some(signal(SignalKind::hangup())?),
        };
        Ok(Self { hang_ups, ..Self::listen()? })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> EndRequest {
        let hang_up = async {
            match &mut self.hang_ups {
                Some(signals) => _ = signals.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupts.recv() => EndRequest::Interrupt,
            _ = self.terminations.recv() => EndRequest::Terminate,
            () = hang_up => EndRequest::Terminate,
        }
    }
}

/// Whether this program was started with the signal ignored. On a system without `/proc`, it counts as not
/// ignored.
fn is_ignored(kind: SignalKind) -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores(&status, kind))
}

fn ignores(status: &str, kind: SignalKind) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let bit = u32::try_from(kind.as_raw_value() - 1).ok();
    mask.zip(bit).is_some_and(|(mask, bit)| mask & 1u64.checked_shl(bit).unwrap_or(0) != 0)
}

/// Calls `work` at each SIGHUP, for as long as the program runs. Needs a runtime of tokio.
///
/// # Errors
/// The system's.
pub fn at_each_hang_up(work: impl Fn() + Send + 'static) -> io::Result<()> {
    let mut hang_ups = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hang_ups.recv().await.is_some() {
            work();
        }
    });
    Ok(())
}

/// Calls `work` before each time that the user suspends this program with Ctrl-Z, for as long as the program
/// runs. Needs a runtime of tokio.
///
/// # Errors
/// The system's.
pub fn before_each_suspension(work: impl Fn() + Send + 'static) -> io::Result<()> {
    let suspend = SignalKind::from_raw(rustix::process::Signal::TSTP.as_raw());
    if is_ignored(suspend) {
        return Ok(());
    }
    let mut suspensions = signal(suspend)?;
    tokio::spawn(async move {
        while suspensions.recv().await.is_some() {
            work();
            // The system does not do it any more. A process may always stop itself.
            let _ = kill_process(getpid(), rustix::process::Signal::STOP);
        }
    });
    Ok(())
}

/// A process that runs apart from this one, and everything that it starts. Dropping the value ends all of it.
#[derive(Debug)]
pub struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    /// Lets the process of `command` begin a group of its own: a Ctrl-C for this program is none for it.
    pub fn begin(command: &mut Command) {
        command.process_group(0);
    }

    /// The group of a process that has just started.
    pub fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(id.cast_signed())))
    }

    /// Ends all of it at once.
    pub fn kill(&self) {
        // It may have ended.
        let _ = self.0.map(|group| kill_process_group(group, rustix::process::Signal::KILL));
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Overwrites parts of the command line that other users see. `find` names the parts, in a line whose words
/// end in NUL. The program must have read its arguments before.
///
/// # Errors
/// The system does not allow this.
pub fn overwrite_arguments(find: impl Fn(&[u8]) -> Vec<Range<usize>>) -> io::Result<()> {
    let ranges = find(&fs::read("/proc/self/cmdline")?);
    if ranges.is_empty() {
        return Ok(());
    }
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(") ").map(|(_, fields)| fields.split(' '));
    let start = fields.and_then(|mut fields| fields.nth(ARGUMENTS_FIELD)?.parse::<u64>().ok());
    let start = start.ok_or(io::ErrorKind::InvalidData)?;
    let memory = OpenOptions::new().write(true).open("/proc/self/mem")?;
    for range in ranges {
        memory.write_all_at(&vec![b'*'; range.len()], start + range.start as u64)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nohup_is_recognized() {
        let status = "Name:\tsleap-rtc\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\n";
        assert!(ignores(status, SignalKind::hangup()));
        assert!(!ignores(status, SignalKind::interrupt()));
        assert!(!ignores("Name:\tsleap-rtc\n", SignalKind::hangup()));
    }
}
