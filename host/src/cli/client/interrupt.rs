//! Ctrl-C and SIGTERM: requests to a client that follows a job.

use super::exit::{Exit, Failure};
use crate::cli::interrupt::listen;
use crate::client::interrupt::{CANCEL_WINDOW, Interrupt, Interrupts};
use std::time::Instant;
use tokio::signal::unix::{Signal, SignalKind};
use tokio::sync::watch;

/// Signals for a client that follows a job. SIGINT detaches, and a second SIGINT shortly after it
/// cancels the job; SIGTERM and SIGHUP detach at once. One more signal ends the process immediately.
pub(crate) fn while_following_a_job() -> Result<Interrupts, Failure> {
    let (sender, signals) = watch::channel(Interrupt::None);
    let mut interrupts = listen(SignalKind::interrupt())?;
    let mut terminations = listen(SignalKind::terminate())?;
    let mut hang_ups = match is_ignored(SignalKind::hangup()) {
        true => None,
        false => Some(listen(SignalKind::hangup())?),
    };
    tokio::spawn(async move {
        let mut first: Option<Instant> = None;
        loop {
            let interrupted = tokio::select! {
                _ = interrupts.recv() => true,
                _ = terminations.recv() => false,
                () = next(&mut hang_ups) => false,
            };
            let current = *sender.borrow();
            let in_time = first.is_some_and(|first| first.elapsed() <= CANCEL_WINDOW);
            let next = match (current, interrupted) {
                (Interrupt::None, true) => Interrupt::CtrlC,
                (Interrupt::CtrlC, true) if in_time => Interrupt::SecondCtrlC,
                (Interrupt::None | Interrupt::CtrlC, false) => Interrupt::Terminate,
                // A shell that closes may send SIGHUP twice.
                (Interrupt::Terminate, false) => continue,
                _ => std::process::exit(Exit::Cancelled as i32),
            };
            first.get_or_insert_with(Instant::now);
            sender.send_replace(next);
        }
    });
    Ok(Interrupts::new(signals))
}

/// The next signal. Never resolves without a listener.
async fn next(signals: &mut Option<Signal>) {
    match signals {
        Some(signals) => _ = signals.recv().await,
        None => std::future::pending().await,
    }
}

/// Whether this program was started with the signal ignored, as by `nohup`. On a system without `/proc`,
/// it counts as not ignored.
fn is_ignored(kind: SignalKind) -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores(&status, kind))
}

fn ignores(status: &str, kind: SignalKind) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let bit = u32::try_from(kind.as_raw_value() - 1).ok();
    mask.zip(bit).is_some_and(|(mask, bit)| mask & 1u64.checked_shl(bit).unwrap_or(0) != 0)
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
