//! Coming back to a job: from the client's own record, or from a job string anywhere.

use super::display::Display;
use super::output::Output;
use super::room::{Offered, Room};
use super::submission::Submission;
use super::{ClientError, concluded, or_interrupt};
use crate::config::Config;
use sleap_rtc_protocol::connection::Purpose;
use sleap_rtc_protocol::job::JobOutcome;
use sleap_rtc_protocol::session::JobString;
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;

/// What to do with a known job.
#[derive(Debug, Clone)]
pub enum Action {
    /// Show it from its first event, then bring the result back.
    Attach(Output),
    /// Show its log so far, or to its end.
    Logs {
        /// To its end.
        follow: bool,
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

/// Does `action` with the job, over a connection of its own. Returns where the result is, if it
/// was brought back. An interrupt ends the watching, never the job.
pub async fn run(
    config: &Config,
    known: &JobString,
    action: Action,
    interrupt: CancellationToken,
) -> Result<Option<PathBuf>, ClientError> {
    let joining = Room::join(config, known.room.clone());
    let mut room = or_interrupt(&interrupt, joining).await?;
    let done = or_interrupt(&interrupt, with_room(&mut room, known, action)).await;
    room.leave().await;
    done
}

async fn with_room(
    room: &mut Room,
    known: &JobString,
    action: Action,
) -> Result<Option<PathBuf>, ClientError> {
    let purpose = Purpose::KnownJob { job: known.job.clone() };
    let connected = match room.offer(&known.worker, purpose).await? {
        Offered::Yes(connected) => *connected,
        Offered::Refused(text) => return Err(ClientError::Refused(text)),
        Offered::Absent(text) => return Err(ClientError::NoWorker(text)),
    };
    let mut display = Display::new(&known.worker);
    let (mut job, standing) = Submission::attach(connected.channel, &mut display, known, 0).await?;
    // Nothing here may cancel the job but the action itself.
    let never = CancellationToken::new();
    let done = match action {
        Action::Attach(output) => {
            concluded(job.follow(&never).await?)?;
            Some(job.fetch(&output, None).await?)
        }
        Action::Logs { follow: true } => {
            job.follow(&never).await?;
            None
        }
        Action::Logs { follow: false } => {
            job.read_until(standing.last_event, true).await?;
            None
        }
        Action::Stop { all } => {
            still_running(standing.outcome)?;
            job.stop(all).await?;
            None
        }
        Action::Cancel => {
            still_running(standing.outcome)?;
            let now = CancellationToken::new();
            now.cancel();
            match job.follow(&now).await? {
                JobOutcome::Cancelled => None,
                // It was over before the word arrived.
                other => return concluded(other).map(|()| None),
            }
        }
        Action::Fetch(output) => {
            let outcome = standing.outcome.ok_or_else(|| {
                ClientError::Refused(
                    "the job still runs; `attach` waits for its result, `stop` ends it early"
                        .into(),
                )
            })?;
            job.read_until(standing.last_event, false).await?;
            match outcome {
                JobOutcome::Failed { .. } | JobOutcome::Interrupted => {
                    job.fetch_saved(&output).await?;
                    return concluded(outcome).map(|()| None);
                }
                other => concluded(other)?,
            }
            Some(job.fetch(&output, None).await?)
        }
    };
    connected.connection.close().await;
    Ok(done)
}

fn still_running(outcome: Option<JobOutcome>) -> Result<(), ClientError> {
    match outcome {
        None => Ok(()),
        Some(_) => Err(ClientError::Refused("the job is over".into())),
    }
}
