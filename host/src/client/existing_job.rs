//! Commands for an existing job, found through the client's record or a job string.

use super::action::Action;
use super::connect::Talk;
use super::display::{Detail, Display};
use super::error::JobRefused;
use super::interrupt::Interrupts;
use super::record::RecordUpdater;
use super::room::{Offered, Room};
use super::submission::Submission;
use super::{ClientError, ending, or_interrupt, reconnect};
use crate::config::Config;
use sleap_rtc_net::dialect::ClientEnd;
use sleap_rtc_trust::goal::Goal;
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
    let detail = match action {
        Action::Attach { .. } => Detail::of_job(&config.client),
        _ => Detail::WholeLog,
    };
    let mut display = Display::new(&job_ref.worker, detail);
    let progress = RecordUpdater::of(&config.client.jobs_dir, &job_ref.job);
    let first = or_interrupt(interrupts, connect(room, job_ref)).await?;
    let name = progress.record().map_or(job_ref.job.as_str(), |record| &record.name);
    display.introduce(name, room.facts(&job_ref.worker).await.as_ref());
    let submission = Submission::existing(job_ref, action, &mut display, progress);
    let mut submission = submission.with_limits(&config.client);
    let patience = config.client.reconnect_for;
    let worker = &job_ref.worker;
    let done = reconnect::follow(room, worker, first, &mut submission, interrupts, patience).await;
    let result = done.as_ref().ok().and_then(Option::as_deref);
    if let Some(end) = submission.end(result) {
        ending::notify(&config.client, &end, interrupts).await;
    }
    done
}

/// Follows the job in `display` until it ends, reconnecting if necessary, and leaves its record as it is.
pub(crate) async fn watch(
    config: &Config,
    job_ref: &JobString,
    display: &mut Display,
) -> Result<(), ClientError> {
    let mut room = Room::join(config, job_ref.room.clone()).await?;
    if let Some(device) = job_ref.device {
        room.pin(job_ref.worker.clone(), device);
    }
    let watching = async {
        let first = connect(&mut room, job_ref).await?;
        let action = Action::Logs { follow: true, after: 0 };
        let mut submission =
            Submission::existing(job_ref, action, display, RecordUpdater::nowhere());
        let (worker, patience) = (&job_ref.worker, config.client.reconnect_for);
        let mut never = Interrupts::never();
        reconnect::follow(&mut room, worker, first, &mut submission, &mut never, patience).await
    };
    let watched = watching.await;
    room.leave().await;
    watched.map(|_| ())
}

async fn connect(room: &mut Room, job_ref: &JobString) -> Result<ClientEnd, ClientError> {
    let goal = Goal::KnownJob(job_ref.job.clone(), job_ref.secret.clone());
    match room.offer(&job_ref.worker, &goal).await? {
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
