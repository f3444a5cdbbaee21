//! Packages that are arriving.
//!
//! An [`Upload`] can pass from one connection to the next: a client that reconnects resumes it, in the
//! slot that the first connection holds. Only one connection has it at a time, so that only one writes
//! into the job's folder.

use super::staged_job::{ArrivingJobs, StagedJob};
use parking_lot::Mutex;
use sleap_rtc_job::JobFolder;
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_transfer::Cache;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// A connection that waits for the upload of another one.
pub(crate) type Successor = oneshot::Sender<Upload>;
type ByJob = Arc<Mutex<HashMap<JobId, mpsc::Sender<Successor>>>>;

/// All uploads of this worker.
pub(crate) struct Uploads {
    by_job: ByJob,
    cache: Option<Cache>,
    arriving: ArrivingJobs,
}

/// A package that is arriving over one connection. Dropping it removes the job's folder.
pub(crate) struct Upload {
    pub(crate) staged: StagedJob,
    /// Whether the package is complete, so that the job can start.
    pub(crate) is_complete: bool,
    successors: mpsc::Receiver<Successor>,
    registered: UploadEntry,
}

/// The registration of an upload. Dropping it ends the registration.
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
    /// An empty list. The files of abandoned uploads are moved to `cache`.
    pub(crate) fn new(cache: Option<Cache>, arriving: ArrivingJobs) -> Self {
        Self { by_job: ByJob::default(), cache, arriving }
    }

    /// Begins the upload of a job whose folder has just been created.
    pub(crate) fn begin(&self, folder: JobFolder) -> Upload {
        let (sender, successors) = mpsc::channel(1);
        let job = folder.id().clone();
        let uploads = self.by_job.clone();
        let mut by_job = uploads.lock();
        by_job.insert(job.clone(), sender.clone());
        drop(by_job);
        let registered = UploadEntry { job, uploads, sender };
        Upload {
            staged: StagedJob::new(folder, self.cache.clone(), self.arriving.clone()),
            is_complete: false,
            successors,
            registered,
        }
    }

    /// Takes the upload of `job` from the connection that has it. `None` if it has ended, because
    /// the job has started or its folder was removed.
    pub(crate) async fn take_over(&self, job: &JobId) -> Option<Upload> {
        let holder = self.by_job.lock().get(job).cloned()?;
        let (successor, inherited) = oneshot::channel();
        holder.send(successor).await.ok()?;
        inherited.await.ok()
    }
}

impl Upload {
    /// Waits for another connection that wants to continue this upload. Cancel safe.
    pub(crate) async fn successor(&mut self) -> Successor {
        // The channel never closes: `registered` holds a sender.
        match self.successors.recv().await {
            Some(successor) => successor,
            None => std::future::pending().await,
        }
    }

    /// Passes the upload to the successor and waits for its end, because the slot belongs to the
    /// connection that began it. Returns the upload if the successor is gone.
    pub(crate) async fn pass_to(self, successor: Successor) -> Result<(), Box<Self>> {
        let holder = self.registered.sender.clone();
        successor.send(self).map_err(Box::new)?;
        holder.closed().await;
        Ok(())
    }
}
