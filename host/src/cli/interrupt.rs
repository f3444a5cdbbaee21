//! Ctrl-C and SIGTERM: a cancellation token for servers.

use super::exit::{Exit, ExitWith, Failure};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that the first SIGINT or SIGTERM cancels. The second one ends the process immediately.
pub(super) fn until_asked_to_end() -> Result<CancellationToken, Failure> {
    let token = CancellationToken::new();
    let mut interrupts = listen(SignalKind::interrupt())?;
    let mut terminations = listen(SignalKind::terminate())?;
    let asked = token.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupts.recv() => {}
                _ = terminations.recv() => {}
            }
            if asked.is_cancelled() {
                std::process::exit(Exit::Cancelled as i32);
            }
            asked.cancel();
        }
    });
    Ok(token)
}

/// Calls `work` at each SIGHUP, for as long as the program runs.
pub(super) fn at_each_hang_up(work: impl Fn() + Send + 'static) -> Result<(), Failure> {
    let mut hang_ups = listen(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hang_ups.recv().await.is_some() {
            work();
        }
    });
    Ok(())
}

/// Whether whoever started this program has it ignore the signal, as `nohup` does. Where the system
/// does not say, nobody has.
pub(super) fn is_ignored(kind: SignalKind) -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores(&status, kind))
}

fn ignores(status: &str, kind: SignalKind) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let bit = u32::try_from(kind.as_raw_value() - 1).ok();
    mask.zip(bit).is_some_and(|(mask, bit)| mask & 1u64.checked_shl(bit).unwrap_or(0) != 0)
}

pub(super) fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).exit(Exit::Unexpected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nohup_is_seen() {
        let status = "Name:\tsleap-rtc\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\n";
        assert!(ignores(status, SignalKind::hangup()));
        assert!(!ignores(status, SignalKind::interrupt()));
        assert!(!ignores("Name:\tsleap-rtc\n", SignalKind::hangup()));
    }
}
