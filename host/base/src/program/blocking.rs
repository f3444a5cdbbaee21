//! Runs a program for a limited time, because a driver or a kernel may hang it.

use super::{MAX_OUTPUT_BYTES, ProgramOutput};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A killed process that is blocked in the kernel ends later, or never.
const REAP_LIMIT: Duration = Duration::from_millis(500);
const REAP_INTERVAL: Duration = Duration::from_millis(5);

/// Why a program gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The program is not installed.
    #[error("it is not installed")]
    Missing,
    /// The system does not start it.
    #[error("cannot start it")]
    Start(#[source] std::io::Error),
    /// It was killed after its limit.
    #[error("it did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
}

/// Runs a command without input. Kills it, with its process group, after `limit`. Blocks.
pub fn run(mut command: Command, limit: Duration) -> Result<ProgramOutput, ProgramError> {
    let deadline = Instant::now() + limit;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => ProgramError::Missing,
        _ => ProgramError::Start(error),
    })?;
    let stdout = child.stdout.take().map(read);
    let stderr = child.stderr.take().map(read);
    let text = |reading: Option<mpsc::Receiver<String>>| {
        let left = deadline.saturating_duration_since(Instant::now());
        reading.and_then(|reading| reading.recv_timeout(left).ok())
    };
    let (stdout, stderr) = (text(stdout), text(stderr));
    let status = match (&stdout, &stderr) {
        (Some(_), Some(_)) => reap(&mut child, deadline),
        _ => None,
    };
    // Also ends processes that it left behind in its process group.
    let group = rustix::process::Pid::from_child(&child);
    let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    match (stdout, stderr, status) {
        (Some(stdout), Some(stderr), Some(status)) => Ok(ProgramOutput { status, stdout, stderr }),
        _ => {
            let _ = reap(&mut child, Instant::now() + REAP_LIMIT);
            Err(ProgramError::TimedOut(limit))
        }
    }
}

/// Reads a pipe on a thread of its own, which may outlive the limit.
fn read(pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (done, text) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.take(MAX_OUTPUT_BYTES).read_to_end(&mut bytes);
        let _ = done.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    text
}

fn reap(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < deadline => std::thread::sleep(REAP_INTERVAL),
            Ok(status) => return status,
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Result<ProgramOutput, ProgramError> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run(command, limit)
    }

    #[test]
    fn a_program_ends_hangs_or_is_absent() {
        let long = Duration::from_secs(60);
        let ended = shell("echo hello; echo why >&2; exit 9", long).unwrap();
        assert_eq!(
            (ended.status.code(), &*ended.stdout, &*ended.stderr),
            (Some(9), "hello\n", "why\n")
        );
        let hangs = shell("sleep 600 & sleep 600", Duration::from_millis(50));
        assert!(matches!(hangs, Err(ProgramError::TimedOut(_))));
        let absent = run(Command::new("/nonexistent/nvidia-smi"), long);
        assert!(matches!(absent, Err(ProgramError::Missing)));
    }
}
