//! Commands for an existing job, found through the client's record or a job string.

use super::action::Action;
use super::connect::Talk;
use super::display::Display;
use super::error::JobRefused;
use super::interrupt::Interrupts;
use super::record::Progress;
use super::room::{Goal, Offered, Room};
use super::submission::Submission;
use super::{ClientError, ending, or_interrupt, reconnect};
use crate::config::Config;
use sleap_rtc_net::dialect::ClientEnd;
use sleap_rtc_trust::session::JobString;
use std::path::PathBuf;

/// Does `action` with the job, reconnecting if necessary. Returns where the result is, if it was
/// downloaded.
///
/// Ctrl-C twice cancels an attached job; every other interrupt only ends the client.
pub async fn run(
    config: &Config,
    job_ref: &JobString,
    action: Action,
    mut interrupts: Interrupts,
) -> Result<Option<PathBuf>, ClientError> {
    let joining = Room::join(config, job_ref.room.clone());
    let mut room = or_interrupt(&mut interrupts, joining).await?;
    if let Some(device) = job_ref.device {
        room.pin(job_ref.worker.clone(), device);
    }
    let done = with_room(config, &mut room, job_ref, action, &mut interrupts).await;
    room.leave().await;
    done
}

async fn with_room(
    config: &Config,
    room: &mut Room,
    job_ref: &JobString,
    action: Action,
    interrupts: &mut Interrupts,
) -> Result<Option<PathBuf>, ClientError> {
    let first = or_interrupt(interrupts, connect(room, job_ref)).await?;
    let mut display = Display::new(&job_ref.worker);
    let progress = Progress::of(&config.client.jobs_dir, &job_ref.job);
    let submission = Submission::existing(job_ref, action, &mut display, progress);
    let mut submission = submission.with_limits(&config.client);
    let patience = config.client.reconnect_for;
    let worker = &job_ref.worker;
    let done = reconnect::stay(room, worker, first, &mut submission, interrupts, patience).await;
    let result = done.as_ref().ok().and_then(Option::as_deref);
    if let Some(end) = submission.end(result) {
        ending::tell(&config.client, &end, interrupts).await;
    }
    done
}

async fn connect(room: &mut Room, job_ref: &JobString) -> Result<ClientEnd, ClientError> {
    let wanted = Goal::KnownJob(job_ref.job.clone(), job_ref.secret.clone());
    match room.offer(&job_ref.worker, &wanted).await? {
        Offered::Yes(connected) => match connected.talk {
            Talk::Native(end) => Ok(end),
            Talk::Python(connection, _) => {
                connection.close().await;
                Err(JobRefused::PythonKeepsNothing(job_ref.worker.clone()).into())
            }
        },
        Offered::Refused(why) | Offered::Unknown(why) => Err(why.into()),
        Offered::Absent(why) => Err(why.into()),
    }
}
