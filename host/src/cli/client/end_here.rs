//! `stop JOB --local` and `cancel JOB --local`: the operator ends a job of this machine's worker, whoever
//! submitted it.

use super::early_end::EarlyEnd;
use super::exit::{Exit, ExitWith, Failure};
use super::{local, print, queue};
use crate::client::{ClientError, JobRefused};
use crate::config::Config;
use sleap_rtc_job::{JobCommand, JobHandle};
use sleap_rtc_protocol::job::JobState;
use sleap_rtc_protocol::queue_report::Decision;

/// Ends a running job by its own process, whether or not the worker runs, and one that waits by the worker.
pub(crate) async fn end(text: &str, end: EarlyEnd, config: &Config) -> Result<Exit, Failure> {
    let folder = local::find(text, local::state_dir(config)?)?;
    let job = folder.id().clone();
    let said = match folder.record().exit(Exit::Unexpected)?.state {
        JobState::Finished(_) => return Err(ClientError::from(JobRefused::Finished))?,
        JobState::Staging => {
            let text = format!("{job} is still arriving: its client sends its files");
            return Err(Failure::message(Exit::Refused, text)
                .hint("end it once it waits or runs: `sleap-rtc jobs --local` shows that"));
        }
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
