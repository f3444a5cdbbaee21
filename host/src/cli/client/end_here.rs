//! `stop JOB --local` and `cancel JOB --local`: the operator ends a job of this machine's worker, whoever
//! submitted it.

use super::early_end::EarlyEnd;
use super::exit::{Exit, ExitWith, Failure};
use super::{local, print, queue};
use crate::client::{ClientError, JobRefused};
use crate::config::Config;
use crate::worker::control;
use sleap_rtc_job::{JobCommand, JobHandle};
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_protocol::job::JobState;
use sleap_rtc_protocol::queue_report::{Decided, Decision};

/// Ends a running job by its own process, whether or not the worker runs, and one that waits or arrives by
/// the worker.
pub(crate) async fn end(text: &str, end: EarlyEnd, config: &Config) -> Result<Exit, Failure> {
    let folder = local::find(text, local::state_dir(config)?)?;
    let job = folder.id().clone();
    let said = match folder.record().exit(Exit::Unexpected)?.state {
        JobState::Finished(_) => return Err(ClientError::from(JobRefused::Finished))?,
        JobState::Staging => return end_arriving(job, end, config).await,
        JobState::Queued(_) => {
            return queue::decide(config, job.as_str(), Decision::Remove).await;
        }
        JobState::Running { .. } => match end {
            EarlyEnd::Cancel => "is cancelled",
            EarlyEnd::Stop { .. } => "ends early and keeps the model that is being trained",
        },
    };
    let command = match end {
        EarlyEnd::Cancel => JobCommand::Cancel,
        EarlyEnd::Stop { all } => JobCommand::Stop { all },
    };
    let running = JobHandle::attach(&folder).await.exit(Exit::Unexpected)?;
    running.command(command).await.exit(Exit::Unexpected)?;
    print::line(&format!("{job} {said}; its client and `sleap-rtc jobs --local` see its end"))
        .exit(Exit::Unexpected)?;
    Ok(Exit::Success)
}

/// Ends a job whose package is arriving, by the worker.
async fn end_arriving(job: JobId, end: EarlyEnd, config: &Config) -> Result<Exit, Failure> {
    if let EarlyEnd::Stop { .. } = end {
        let text = format!("{job} is still arriving, so there is no model to keep");
        return Err(Failure::message(Exit::Refused, text)
            .hint("`sleap-rtc cancel JOB --local` ends it without a result"));
    }
    match control::decide(&config.worker.state_dir, job.clone(), Decision::Remove).await? {
        Decided::Done => {
            let text = format!("{job} is cancelled; its client hears that you have ended it");
            print::line(&text).exit(Exit::Unexpected)?;
            Ok(Exit::Success)
        }
        Decided::NotWaiting => {
            let text = format!("{job} is not arriving any more");
            Err(Failure::message(Exit::Refused, text)
                .hint("`sleap-rtc jobs --local` shows whether it runs; then cancel it again"))
        }
        Decided::Failed(why) => Err(Failure::message(Exit::Unexpected, why)),
    }
}
