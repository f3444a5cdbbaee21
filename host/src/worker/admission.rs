//! Admission: whether this worker takes a job, judged before and after its package arrives.

use super::{WorkerContext, memory_fit, mounted};
use crate::blocking::blocking;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_job::{Expected, JobFolder, describe_folder};
use sleap_rtc_package::is_newer;
use sleap_rtc_policy::Verdict;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::job::{JobDescription, Refusal, RefusalCode};
use sleap_rtc_protocol::workload::Outlook;
use tracing::warn;

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
    let need = memory_fit::needed(job, &context.history.runs());
    let policies = context.policies.asked_by(client.as_str());
    let reasons = match policies.check(job, &facts, need.as_ref()).await {
        Verdict::Yes => return Ok(()),
        Verdict::No(reasons) => reasons,
    };
    let host = facts.hostname.as_deref().unwrap_or("this worker");
    let said: Vec<&str> = reasons.iter().map(|reason| reason.message.as_str()).collect();
    let message = format!("{host} refused: {}", said.join("; "));
    Err(Refusal { code: RefusalCode::Incompatible, message, reasons })
}

/// What this worker expects of a job of `client`, which it takes.
pub(crate) async fn outlook(
    context: &WorkerContext,
    client: &PeerId,
    job: &JobDescription,
) -> Outlook {
    let (facts, history) = (context.facts_for(client), context.history.runs());
    let policies = context.policies.asked_by(client.as_str());
    let need = memory_fit::needed(job, &history);
    Outlook {
        runs: job.runs.clone(),
        estimate: policies.estimate(job, &facts, &history).await,
        warnings: need.and_then(|need| memory_fit::warning(&need, &facts)).into_iter().collect(),
    }
}

/// Whether the sleap-nn here, if its version is known, can read the job's configs.
fn check_version(job: &JobDescription, installed: Option<&str>) -> Result<(), Refusal> {
    let (Some(wanted), Some(installed)) = (&job.sleap_nn_version, installed) else { return Ok(()) };
    if !is_newer(wanted, installed) {
        return Ok(());
    }
    let message = format!(
        "the package needs sleap-nn {wanted}, and this worker has {installed}: update sleap-nn there, or \
         choose a worker with a newer one"
    );
    Err(Refusal::new(RefusalCode::Incompatible, message))
}

/// Describes the received package, and checks the job again by the package's files.
///
/// Of the client's claims, only the requirements and the user name still count. Returns the
/// description, which the folder keeps with an estimate.
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
    expect(context, folder, &job).await?;
    Ok(job)
}

/// Notes in the folder what is known of the job before it starts.
async fn expect(
    context: &WorkerContext,
    folder: &JobFolder,
    job: &JobDescription,
) -> Result<(), Refusal> {
    let facts = context.facts_for(folder.owner());
    let Outlook { estimate, warnings, .. } = outlook(context, folder.owner(), job).await;
    let expected = Expected {
        description: job.clone(),
        estimate,
        warnings,
        gpu: facts.accelerators.largest().map(|gpu| gpu.model.clone()),
        sleap_nn_version: facts.sleap_version,
    };
    let folder = folder.clone();
    // The job can do without, and its end is recorded nevertheless.
    if let Err(error) = blocking(move || expected.write(&folder)).await? {
        warn!(error = %WithCauses(&error), "cannot write down what is expected of a job");
    }
    Ok(())
}
