//! Checks a client's right to a job, and keeps the verifiers that this needs.

use super::error::ConnectionError;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_job::JobFolder;
use sleap_rtc_net::dialect::WorkerEnd;
use sleap_rtc_protocol::ids::{JobId, JobProof, JobSecret, JobVerifier};
use sleap_rtc_protocol::job::{JobRight, JobSpec, Refusal, RefusalCode};
use sleap_rtc_trust::job_key::{self, JobKey};
use std::path::Path;
use tracing::{info, warn};

/// A client's evidence of its right to an existing job.
pub(crate) enum Shown {
    /// The secret itself, from a client that has not proven its identity.
    Secret(JobSecret),
    /// A proof for this conversation.
    Proof(JobProof),
}

impl Shown {
    /// Whether it is valid for the job of `folder` in the conversation of `link`.
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

/// The job of `spec` as this worker keeps it: with the verifier of its secret. A client that has
/// sent only the verifier must prove that it has the secret too.
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

/// Replaces secrets that older versions left in the folders of finished jobs by their verifiers.
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
        info!(jobs = forgotten, "replaced the secrets of earlier jobs by their verifiers");
    }
}
