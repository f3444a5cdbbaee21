//! Maps a client's errors to exit codes and hints.

use super::exit::{Exit, Failure};
use crate::blocking;
use crate::client::ClientError;
use sleap_rtc_transfer::TransferError;
use sleap_rtc_trust::session::JobString;

/// Runs blocking work on a separate thread.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ClientError> + Send + 'static,
) -> Result<T, Failure> {
    Ok(blocking::blocking(work).await.map_err(ClientError::from)??)
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match &error {
            ClientError::UnknownJob(_)
            | ClientError::Package(_)
            | ClientError::Policy(_)
            | ClientError::Shared(_) => Exit::Usage,
            ClientError::Signaling(_)
            | ClientError::Connect { .. }
            | ClientError::Endpoint(_)
            | ClientError::GivenUp { .. } => Exit::Connect,
            ClientError::Untrusted { .. }
            | ClientError::NotAdmitted(_)
            | ClientError::NoneTrusted(_) => Exit::Untrusted,
            ClientError::Detached { .. } => Exit::Detached,
            ClientError::NoWorker(_) => Exit::NoWorker,
            ClientError::Refused(_) | ClientError::UnknownToWorker => Exit::Refused,
            ClientError::JobFailed(_) => Exit::JobFailed,
            ClientError::Transfer { .. }
            | ClientError::Lost { .. }
            | ClientError::Worker { .. }
            | ClientError::Output { .. }
            | ClientError::Unplaced { .. } => Exit::Transfer,
            ClientError::Cancelled(_) => Exit::Cancelled,
            ClientError::TemporaryFile(_) | ClientError::Terminal(_) | ClientError::Panicked(_) => {
                Exit::Unexpected
            }
        };
        let hint = match &error {
            ClientError::Signaling(error) => error.advice(),
            ClientError::Detached { job, .. } => Some(how_to_reattach(job)),
            ClientError::Transfer { source: TransferError::Declined { .. }, .. } => {
                let hint = "the worker keeps it: `sleap-rtc fetch` on a terminal asks whether you \
                    want it, and `max_result` under [client] in the configuration allows more";
                Some(hint.to_owned())
            }
            _ => None,
        };
        Self { hint, ..Self::new(exit, error) }
    }
}

/// How to return to a job that keeps running.
fn how_to_reattach(job_string: &JobString) -> String {
    let job = &job_string.job;
    format!(
        "reattach with `sleap-rtc attach {job}`; `stop`, `cancel`, `logs` and `fetch` take the same \
         id\non another machine, use the job string instead (it gives access to the job: keep it \
         secret):\n{job_string}"
    )
}
