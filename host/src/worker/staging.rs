//! From a received package to a running job, and from its end to where its results belong: the
//! part that both dialects share.

use super::coordinator::CoordinatorHandle;
use super::{Client, Site};
use sleap_rtc_base::clock::now_ms;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_job::{JobFolder, JobHandle};
use sleap_rtc_protocol::ids::{JobId, JobSecret, PeerId};
use sleap_rtc_protocol::job::{JobDescription, JobEvent, Refusal, RefusalCode, SharedPaths};
use sleap_rtc_protocol::progress::JobProgress;
use sleap_rtc_transfer::{self as transfer, Cache, storage};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How often the room sees at most that a job is further.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// Asks the compatibility policy about a job of `client`, after the question that no policy needs to
/// be asked: whether there is a trainer at all.
pub(super) async fn check(
    site: &Site,
    client: &PeerId,
    job: &JobDescription,
) -> Result<(), Refusal> {
    site.check_trainer(job).await?;
    site.check_machine(client).await?;
    let facts = site.facts_for(client);
    check_version(job, facts.sleap_version.as_deref())?;
    let reasons = match site.policies.asked_by(client.as_str()).check(job, &facts).await {
        sleap_rtc_policy::Verdict::Yes => return Ok(()),
        sleap_rtc_policy::Verdict::No(reasons) => reasons,
    };
    let host = facts.hostname.as_deref().unwrap_or("this worker");
    let said: Vec<&str> = reasons.iter().map(|reason| reason.message.as_str()).collect();
    let message = format!("{host} refused: {}", said.join("; "));
    Err(Refusal { code: RefusalCode::Incompatible, message, reasons })
}

/// Whether the sleap-nn here, if its version is known, can read the job's configs.
fn check_version(job: &JobDescription, installed: Option<&str>) -> Result<(), Refusal> {
    let (Some(wanted), Some(installed)) = (&job.sleap_nn_version, installed) else { return Ok(()) };
    if !sleap_rtc_package::is_newer(wanted, installed) {
        return Ok(());
    }
    let message = format!(
        "the package was exported for sleap-nn {wanted}, and this worker has {installed}: update \
         sleap-nn there, or choose a worker with a newer one"
    );
    Err(Refusal::new(RefusalCode::Incompatible, message))
}

/// Reads the package that arrived, for itself, and asks the compatibility policy again.
///
/// The client's demands are kept; everything else comes from the files. Returns what was found.
pub(super) async fn check_files(
    site: &Site,
    folder: &JobFolder,
    claimed: &JobDescription,
) -> Result<JobDescription, Refusal> {
    let (files, job_type) = (folder.files_dir(), claimed.job_type);
    let reading =
        tokio::task::spawn_blocking(move || sleap_rtc_package::describe_folder(&files, job_type));
    let mut job = reading.await.unwrap_or_else(|_| JobDescription::unknown(job_type));
    job.requirements = claimed.requirements.clone();
    job.user = claimed.user.clone();
    check(site, folder.owner(), &job).await?;
    Ok(job)
}

/// A job's folder before the job runs. Nobody can come back for it, so it is removed when it is
/// dropped: also when its connection is cut short.
pub(super) struct Unstarted {
    folder: JobFolder,
    /// What has arrived goes here when the job does not start.
    cache: Option<Cache>,
    is_wanted: bool,
}

impl Unstarted {
    pub(super) fn new(folder: JobFolder, cache: Option<Cache>) -> Self {
        Self { folder, cache, is_wanted: false }
    }

    /// The job's folder.
    pub(super) fn folder(&self) -> &JobFolder {
        &self.folder
    }

    /// Runs the job in the slot of its owner.
    pub(super) async fn start(mut self, client: &Client) -> Result<JobHandle, Refusal> {
        // From here on the folder may be a running job's.
        self.is_wanted = true;
        let started = client.coordinator.start(self.folder.owner(), self.folder.clone()).await;
        self.is_wanted = started.is_ok();
        started
    }
}

impl Drop for Unstarted {
    fn drop(&mut self) {
        if !self.is_wanted {
            info!(job = %self.folder.id(), "job not started; its folder is removed");
            if let Some(cache) = &self.cache {
                cache.salvage(&self.folder.files_dir());
            }
            self.folder.discard();
        }
    }
}

/// Removes a job that never began, but for what has arrived of its package.
pub(super) async fn give_up(site: &Site, folder: &JobFolder) {
    let (cache, folder) = (site.limits.cache.clone(), folder.clone());
    let work = move || {
        if let Some(cache) = cache {
            cache.salvage(&folder.files_dir());
        }
        folder.discard();
    };
    if tokio::task::spawn_blocking(work).await.is_err() {
        warn!("giving up a job was interrupted");
    }
}

/// Where a shared-storage job's package is and its results go, on this machine.
pub(super) struct SharedPlaces {
    pub(super) input: PathBuf,
    pub(super) output: PathBuf,
}

/// Finds both paths below the shared root.
pub(super) fn shared_places(site: &Site, paths: &SharedPaths) -> Result<SharedPlaces, Refusal> {
    let invalid = |text: String| Refusal::new(RefusalCode::Invalid, text);
    // Nothing is wrong with the job: another worker may have it.
    let root = site.shared_root.as_deref().ok_or_else(|| {
        Refusal::new(
            RefusalCode::Incompatible,
            "this worker has no shared storage; start it with --shared-storage-root, or submit \
             without shared storage",
        )
    })?;
    let place = |path| {
        storage::confined(root, path).map_err(|error| invalid(WithCauses(&error).to_string()))
    };
    let input = place(&paths.input)?;
    if !input.exists() {
        let text = format!("{} does not exist below the worker's shared root", paths.input);
        return Err(invalid(text));
    }
    Ok(SharedPlaces { input, output: place(&paths.output)? })
}

/// Makes the shared package the job's own: large files of a folder are linked to, the rest copied.
pub(super) async fn take_in_place(folder: &JobFolder, input: PathBuf) -> Result<(), Refusal> {
    let into = folder.files_dir();
    let taken = tokio::task::spawn_blocking(move || transfer::link(&input, &into)).await;
    let invalid = |text: String| Refusal::new(RefusalCode::Invalid, text);
    match taken {
        Ok(taken) => taken.map_err(|error| invalid(WithCauses(&error).to_string())),
        Err(_) => Err(invalid("reading the package was interrupted".into())),
    }
}

/// Follows a job to its end and puts a shared-storage job's results in their place. The room sees
/// how far it is.
pub(super) async fn watch(
    site: &Site,
    coordinator: &CoordinatorHandle,
    folder: &JobFolder,
    handle: &JobHandle,
) {
    let mut events = handle.events(0);
    let (mut progress, mut told, mut told_at) = (JobProgress::default(), None, None);
    while let Some(numbered) = events.next().await {
        progress.see(&numbered.event);
        let recent = told_at.is_some_and(|at: Instant| at.elapsed() < PROGRESS_INTERVAL);
        if told.as_ref() != Some(&progress) && !recent {
            coordinator.progressed(folder.id(), progress.clone()).await;
            (told, told_at) = (Some(progress.clone()), Some(Instant::now()));
        }
        if let JobEvent::Finished { outcome } = numbered.event {
            info!(job = %folder.id(), ?outcome, folder = %folder.path().display(), "job over");
            break;
        }
    }
    if let Err(error) = deliver(site, folder).await {
        warn!(job = %folder.id(), %error, "results could not be put on the shared storage");
    }
}

/// Copies the results of a shared-storage job to its output folder. Doing it twice does no harm:
/// each file is written beside and renamed.
pub(super) async fn deliver(site: &Site, folder: &JobFolder) -> Result<(), Refusal> {
    let Some(paths) = folder.spec().shared.clone() else { return Ok(()) };
    let places = shared_places(site, &paths)?;
    // The job's watcher and its client's connection may come here at the same moment.
    let _one_at_a_time = site.delivering.lock().await;
    let results = folder.results_dir();
    let copying = tokio::task::spawn_blocking(move || storage::copy_tree(&results, &places.output));
    let failed = |text: String| Refusal::new(RefusalCode::Invalid, text);
    match copying.await {
        Ok(Ok(())) => {
            folder.mark_fetched(now_ms());
            Ok(())
        }
        Ok(Err(error)) => Err(failed(format!("cannot write the results: {}", WithCauses(&error)))),
        Err(_) => Err(failed("copying the results was interrupted".into())),
    }
}

/// Identifiers for a job whose client cannot name it.
pub(super) fn fresh_ids() -> Option<(JobId, JobSecret)> {
    let job = JobId::new(format!("job-{:016x}", rand::random::<u64>())).ok()?;
    let secret = JobSecret::new(format!("{:032x}", rand::random::<u128>())).ok()?;
    Some((job, secret))
}
