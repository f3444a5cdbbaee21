//! Coming back to a job: from the client's own record, or from a job string anywhere.

use super::display::Display;
use super::output::Output;
use super::parting::Interrupts;
use super::record::Progress;
use super::room::{Connected, Offered, Room};
use super::submission::Submission;
use super::{ClientError, or_interrupt, reconnect};
use crate::config::Config;
use sleap_rtc_protocol::connection::Purpose;
use sleap_rtc_protocol::session::JobString;
use std::path::PathBuf;

/// What to do with a known job.
#[derive(Debug, Clone)]
pub enum Action {
    /// Show it, then bring the result back.
    Attach {
        /// Where the result goes.
        output: Output,
        /// Show only what came after the event of this number; 0 shows all.
        after: u64,
    },
    /// Show its log so far, or to its end.
    Logs {
        /// To its end.
        follow: bool,
        /// As in `Attach`.
        after: u64,
    },
    /// End it early and keep the model.
    Stop {
        /// Also the runs to come.
        all: bool,
    },
    /// End it now.
    Cancel,
    /// Bring the result back.
    Fetch(Output),
}

/// Does `action` with the job, over one connection after another where it must be. Returns where
/// the result is, if it was brought back.
///
/// Ctrl-C twice cancels a job that is attached to; anything else that the user asks ends only the
/// watching.
pub async fn run(
    config: &Config,
    known: &JobString,
    action: Action,
    mut interrupts: Interrupts,
) -> Result<Option<PathBuf>, ClientError> {
    let joining = Room::join(config, known.room.clone());
    let mut room = or_interrupt(&mut interrupts, joining).await?;
    let done = with_room(config, &mut room, known, action, &mut interrupts).await;
    room.leave().await;
    done
}

async fn with_room(
    config: &Config,
    room: &mut Room,
    known: &JobString,
    action: Action,
    interrupts: &mut Interrupts,
) -> Result<Option<PathBuf>, ClientError> {
    let connected = or_interrupt(interrupts, connect(room, known)).await?;
    let mut display = Display::new(&known.worker);
    let progress = Progress::of(&config.client.jobs_dir, &known.job);
    let submission = Submission::back(known, action, &mut display, progress);
    let mut submission = submission.with_bwlimit(config.client.bwlimit);
    let patience = config.client.reconnect_for;
    reconnect::stay(room, connected, &mut submission, interrupts, patience).await
}

async fn connect(room: &mut Room, known: &JobString) -> Result<Connected, ClientError> {
    let purpose = Purpose::KnownJob { job: known.job.clone() };
    match room.offer(&known.worker, purpose).await? {
        Offered::Yes(connected) => Ok(*connected),
        Offered::Refused(text) => Err(ClientError::Refused(text)),
        Offered::Absent(text) => Err(ClientError::NoWorker(text)),
    }
}
