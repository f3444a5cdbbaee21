//! Ctrl-C and SIGTERM: requests to a client that follows a job.

use super::exit::{Exit, ExitWith, Failure};
use crate::client::interrupt::{CANCEL_WINDOW, Interrupt, Interrupts};
use sleap_rtc_base::os::{EndRequest, EndRequests};
use std::time::Instant;
use tokio::sync::watch;

/// Signals for a client that follows a job. SIGINT detaches, and a second SIGINT shortly after it
/// cancels the job; SIGTERM and SIGHUP detach at once. One more signal ends the process immediately.
pub(crate) fn while_following_a_job() -> Result<Interrupts, Failure> {
    let (sender, signals) = watch::channel(Interrupt::None);
    let mut requests = EndRequests::listen_also_for_the_terminal().exit(Exit::Unexpected)?;
    tokio::spawn(async move {
        let mut first: Option<Instant> = None;
        loop {
            let interrupted = requests.next().await == EndRequest::Interrupt;
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
