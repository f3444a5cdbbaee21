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

/// Tells the user in the ways that are configured, unless the user interrupts that. What fails is a
/// warning: the job has its result.
pub(crate) async fn tell(config: &ClientConfig, end: &JobEnd, interrupts: &mut Interrupts) {
    let telling = async {
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
        () = telling => {}
        _ = interrupts.any() => {}
    }
}

/// The end of a job on a Python worker, which tells no outcome. `None` if the job did not end.
pub(crate) fn at_python(
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
