//! Notifies the user when a job has ended.

use super::display::say;
use super::interrupt::Interrupts;
use super::{ClientError, notification};
use crate::config::ClientConfig;
use crate::hook::JobEnd;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::job::{JobOutcome, JobSpec};
use std::path::PathBuf;

/// Notifies the user in the configured ways, until the user interrupts it. A failure is only a warning: the
/// job has its result.
pub(crate) async fn notify(config: &ClientConfig, end: &JobEnd, interrupts: &mut Interrupts) {
    let notifying = async {
        if config.notify
            && let Err(error) = notification::show(end).await
        {
            say(&format!("Warning: cannot show a notification: {error}"));
        }
        if let Some(command) = &config.on_end
            && let Err(error) = end.run(command).await
        {
            say(&format!("Warning: `on_end` under [client]: {}", WithCauses(&error)));
        }
    };
    tokio::select! {
        () = notifying => {}
        _ = interrupts.any() => {}
    }
}

/// The end of a job on a Python worker, which reports no outcome. `None` if the job did not end.
pub(crate) fn of_python_job(
    spec: &JobSpec,
    worker: &PeerId,
    done: &Result<PathBuf, ClientError>,
) -> Option<JobEnd> {
    let (outcome, result) = match done {
        Ok(result) => (JobOutcome::Succeeded, Some(result.clone())),
        Err(error @ ClientError::JobFailed(_)) => {
            let message = WithCauses(error).to_string();
            (JobOutcome::Failed { exit_code: None, message }, None)
        }
        Err(_) => return None,
    };
    Some(JobEnd {
        id: spec.id.to_string(),
        name: spec.name.clone(),
        job_type: Some(spec.description.job_type),
        outcome,
        user: spec.description.user.clone(),
        worker: worker.to_string(),
        took_s: None,
        result,
    })
}
