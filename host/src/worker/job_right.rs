//! The right to a job: whether a client has it, and what the worker keeps to find out.

use super::error::ConnectionError;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_job::JobFolder;
use sleap_rtc_net::dialect::WorkerEnd;
use sleap_rtc_protocol::ids::{JobId, JobProof, JobSecret, JobVerifier};
use sleap_rtc_protocol::job::{JobRight, JobSpec, Refusal, RefusalCode};
use sleap_rtc_trust::job_key::{self, JobKey};
use std::path::Path;
use tracing::{info, warn};

/// What a client shows for the right to an existing job.
pub(crate) enum Shown {
    /// The secret itself: it has not proven who it is.
    Secret(JobSecret),
    /// A proof for this conversation.
    Proof(JobProof),
}

impl Shown {
    /// Whether it opens the job of `folder` in the conversation of `link`.
    pub(crate) fn opens(&self, folder: &JobFolder, link: &WorkerEnd) -> bool {
        let (job, kept) = (folder.id(), job_key::verifier(folder.id(), &folder.spec().right));
        match self {
            Self::Secret(secret) => JobKey::new(job, secret).verifier() == kept,
            Self::Proof(proof) => is_proven(link, job, &kept, proof),
        }
    }
}

fn is_proven(link: &WorkerEnd, job: &JobId, kept: &JobVerifier, proof: &JobProof) -> bool {
    link.transcript().is_some_and(|transcript| job_key::is_proven(job, kept, proof, transcript))
}

/// The job of `spec` as this worker keeps it: with what verifies its secret. A client that has sent only
/// that must show that it has the secret too.
pub(crate) fn kept(
    link: &WorkerEnd,
    spec: JobSpec,
    proof: Option<&JobProof>,
) -> Result<JobSpec, ConnectionError> {
    let verifier = job_key::verifier(&spec.id, &spec.right);
    let shown = match &spec.right {
        JobRight::Secret { .. } => true,
        JobRight::Verifier { verifier } => {
            proof.is_some_and(|proof| is_proven(link, &spec.id, verifier, proof))
        }
    };
    if !shown {
        let text = "the client has not proven its right to the job";
        return Err(Refusal::new(RefusalCode::Unauthorized, text).into());
    }
    Ok(JobSpec { right: JobRight::Verifier { verifier }, ..spec })
}

/// Replaces the secrets that older versions have left in the folders of finished jobs.
pub(crate) fn forget_secrets(state_dir: &Path) {
    let mut forgotten = 0;
    for folder in JobFolder::all(state_dir) {
        let right = &folder.spec().right;
        if let JobRight::Secret { .. } = right {
            let verifier = job_key::verifier(folder.id(), right);
            match folder.keep_right(JobRight::Verifier { verifier }) {
                Ok(()) => forgotten += 1,
                Err(error) => {
                    warn!(job = %folder.id(), error = %WithCauses(&error), "cannot replace the job's secret");
                }
            }
        }
    }
    if forgotten > 0 {
        info!(jobs = forgotten, "the secrets of earlier jobs are replaced by what verifies them");
    }
}
