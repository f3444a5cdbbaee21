//! Jobs on shared storage: copies their package from there, and their results to there.

use super::WorkerContext;
use crate::blocking::blocking;
use sleap_rtc_base::clock::now_ms;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_job::JobFolder;
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_protocol::job::{Refusal, RefusalCode, SharedPaths};
use sleap_rtc_transfer::{self as transfer, storage};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// The jobs whose results are being delivered. A job's watcher and its client's connection may both begin that, and
/// take turns.
#[derive(Default)]
pub(crate) struct Deliveries(parking_lot::Mutex<HashMap<JobId, Weak<Mutex<()>>>>);

impl Deliveries {
    /// Waits until nobody else delivers the results of `job`. Others wait until the guard is dropped.
    async fn turn(&self, job: &JobId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock();
            locks.retain(|_, lock| lock.strong_count() > 0);
            let lock = locks.get(job).and_then(Weak::upgrade).unwrap_or_default();
            locks.insert(job.clone(), Arc::downgrade(&lock));
            lock
        };
        lock.lock_owned().await
    }
}

/// The paths of a shared-storage job's package and results on this machine.
pub(crate) struct SharedPlaces {
    pub(crate) input: PathBuf,
    pub(crate) output: PathBuf,
}

/// Creates the output folder of a job. Refuses a folder that is not empty, because the job must not
/// mix its files with existing ones or replace them.
pub(crate) async fn claim_output(
    places: &SharedPlaces,
    paths: &SharedPaths,
) -> Result<(), Refusal> {
    let (output, name) = (places.output.clone(), paths.output.clone());
    blocking(move || {
        let refuse = |why: String| Refusal::new(RefusalCode::Invalid, why);
        std::fs::create_dir_all(&output)
            .map_err(|error| refuse(format!("cannot make the output folder {name}: {error}")))?;
        let mut entries = std::fs::read_dir(&output)
            .map_err(|error| refuse(format!("cannot read the output folder {name}: {error}")))?;
        match entries.next() {
            None => Ok(()),
            Some(_) => Err(refuse(format!(
                "the output folder {name} on the shared storage is not empty: choose one that does not \
                 exist yet"
            ))),
        }
    })
    .await?
}

/// Finds both paths below the shared root.
pub(crate) fn shared_places(
    context: &WorkerContext,
    paths: &SharedPaths,
) -> Result<SharedPlaces, Refusal> {
    let invalid = |text: String| Refusal::new(RefusalCode::Invalid, text);
    // The job itself is fine, and another worker may take it.
    let root = context.shared_root.as_deref().ok_or_else(|| {
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

/// Fills the job's folder with the package at `input`: links large files of a folder, copies the rest.
pub(crate) async fn take_in_place(folder: &JobFolder, input: PathBuf) -> Result<(), Refusal> {
    let into = folder.files_dir();
    let taken = blocking(move || transfer::link(&input, &into)).await?;
    taken.map_err(|error| Refusal::new(RefusalCode::Invalid, WithCauses(&error).to_string()))
}

/// Copies the results of a shared-storage job to its output folder, without replacing anything. May
/// be repeated: existing files stay.
pub(crate) async fn deliver(context: &WorkerContext, folder: &JobFolder) -> Result<(), Refusal> {
    let Some(paths) = folder.spec().shared.clone() else { return Ok(()) };
    let places = shared_places(context, &paths)?;
    let _turn = context.deliveries.turn(folder.id()).await;
    let results = folder.results_dir();
    blocking(move || transfer::add_tree(&results, &places.output)).await?.map_err(|error| {
        let text = format!("cannot write the results: {}", WithCauses(&error));
        Refusal::new(RefusalCode::Invalid, text)
    })?;
    let fetched = folder.clone();
    Ok(blocking(move || fetched.mark_fetched(now_ms())).await?)
}
