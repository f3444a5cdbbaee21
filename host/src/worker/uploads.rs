//! Packages on their way in.
//!
//! An [`Upload`] goes from connection to connection: a client that lost one and comes back over
//! another goes on where it was, in the slot that the first connection holds. One connection at a
//! time has it, so that nobody else writes into the job's folder.

use super::staged_job::StagedJob;
use parking_lot::Mutex;
use sleap_rtc_job::JobFolder;
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_transfer::Cache;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

type Successor = oneshot::Sender<Upload>;
type ByJob = Arc<Mutex<HashMap<JobId, mpsc::Sender<Successor>>>>;

/// All uploads of a worker.
pub(crate) struct Uploads {
    by_job: ByJob,
    cache: Option<Cache>,
}

/// A package on its way in, in the hands of one connection. Dropped, it takes the job's folder
/// with it.
pub(super) struct Upload {
    pub(super) staged: StagedJob,
    /// Everything is here; the job is only to be started.
    pub(super) is_complete: bool,
    successors: mpsc::Receiver<Successor>,
    registered: UploadEntry,
}

/// An upload's place among the others, while it lasts.
struct UploadEntry {
    job: JobId,
    uploads: ByJob,
    sender: mpsc::Sender<Successor>,
}

impl Drop for UploadEntry {
    fn drop(&mut self) {
        self.uploads.lock().remove(&self.job);
    }
}

impl Uploads {
    /// None so far; what is given up goes to `cache`.
    pub(super) fn new(cache: Option<Cache>) -> Self {
        Self { by_job: ByJob::default(), cache }
    }

    /// Begins the upload of a job whose folder has just been made, and so is the only one.
    pub(super) fn begin(&self, folder: JobFolder) -> Upload {
        let (sender, successors) = mpsc::channel(1);
        let job = folder.id().clone();
        let uploads = self.by_job.clone();
        let mut by_job = uploads.lock();
        by_job.insert(job.clone(), sender.clone());
        drop(by_job);
        let registered = UploadEntry { job, uploads, sender };
        Upload {
            staged: StagedJob::new(folder, self.cache.clone()),
            is_complete: false,
            successors,
            registered,
        }
    }

    /// Takes the upload of `job` from the connection that has it. Nothing, when there is none any
    /// more: the job has started, or its folder is gone.
    pub(super) async fn take_over(&self, job: &JobId) -> Option<Upload> {
        let holder = self.by_job.lock().get(job).cloned()?;
        let (successor, inherited) = oneshot::channel();
        holder.send(successor).await.ok()?;
        inherited.await.ok()
    }
}

impl Upload {
    /// The connection that wants to go on with this upload. Cancel safe.
    pub(super) async fn successor(&mut self) -> Successor {
        // Never none: `registered` holds a sender.
        match self.successors.recv().await {
            Some(successor) => successor,
            None => std::future::pending().await,
        }
    }

    /// Hands the upload over and waits until it is no upload any more: the slot is held in the name
    /// of the connection that began. Gives it back when the successor is gone.
    pub(super) async fn pass_to(self, successor: Successor) -> Result<(), Box<Self>> {
        let holder = self.registered.sender.clone();
        successor.send(self).map_err(Box::new)?;
        holder.closed().await;
        Ok(())
    }
}
