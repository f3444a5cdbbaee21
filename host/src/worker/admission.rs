//! Admission: whether this worker takes a job, judged before and after its package arrives.

use super::{WorkerContext, mounted};
use crate::blocking::blocking;
use sleap_rtc_job::{JobFolder, describe_folder};
use sleap_rtc_package::is_newer;
use sleap_rtc_policy::Verdict;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::job::{JobDescription, Refusal, RefusalCode};

/// Checks whether this worker can take a job of `client`. It needs a trainer, a working GPU, a
/// recent enough sleap-nn, and the consent of the compatibility policy.
pub(crate) async fn check(
    context: &WorkerContext,
    client: &PeerId,
    job: &JobDescription,
) -> Result<(), Refusal> {
    context.check_trainer(job).await?;
    context.check_machine(client).await?;
    context.check_results()?;
    let facts = context.facts_for(client);
    check_version(job, facts.sleap_version.as_deref())?;
    mounted::check(context, job).await?;
    let reasons = match context.policies.asked_by(client.as_str()).check(job, &facts).await {
        Verdict::Yes => return Ok(()),
        Verdict::No(reasons) => reasons,
    };
    let host = facts.hostname.as_deref().unwrap_or("this worker");
    let said: Vec<&str> = reasons.iter().map(|reason| reason.message.as_str()).collect();
    let message = format!("{host} refused: {}", said.join("; "));
    Err(Refusal { code: RefusalCode::Incompatible, message, reasons })
}

/// Whether the sleap-nn here, if its version is known, can read the job's configs.
fn check_version(job: &JobDescription, installed: Option<&str>) -> Result<(), Refusal> {
    let (Some(wanted), Some(installed)) = (&job.sleap_nn_version, installed) else { return Ok(()) };
    if !is_newer(wanted, installed) {
        return Ok(());
    }
    let message = format!(
        "the package was exported for sleap-nn {wanted}, and this worker has {installed}: update \
         sleap-nn there, or choose a worker with a newer one"
    );
    Err(Refusal::new(RefusalCode::Incompatible, message))
}

/// Describes the received package, and checks the job again by the package's files.
///
/// Of the client's claims, only the requirements and the user name still count. Returns the
/// description.
pub(crate) async fn check_files(
    context: &WorkerContext,
    folder: &JobFolder,
    claimed: &JobDescription,
) -> Result<JobDescription, Refusal> {
    let (files, job_type) = (folder.files_dir(), claimed.job_type);
    let mut job = blocking(move || describe_folder(&files, job_type)).await?;
    job.requirements = claimed.requirements.clone();
    job.user = claimed.user.clone();
    check(context, folder.owner(), &job).await?;
    Ok(job)
}
