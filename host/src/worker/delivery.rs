//! Jobs on shared storage: their package is taken from there, and their results are put there.

use super::WorkerContext;
use sleap_rtc_base::clock::now_ms;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_job::JobFolder;
use sleap_rtc_protocol::job::{Refusal, RefusalCode, SharedPaths};
use sleap_rtc_transfer::{self as transfer, storage};
use std::path::PathBuf;

/// Where a shared-storage job's package is and its results go, on this machine.
pub(super) struct SharedPlaces {
    pub(super) input: PathBuf,
    pub(super) output: PathBuf,
}

/// Finds both paths below the shared root.
pub(super) fn shared_places(
    context: &WorkerContext,
    paths: &SharedPaths,
) -> Result<SharedPlaces, Refusal> {
    let invalid = |text: String| Refusal::new(RefusalCode::Invalid, text);
    // Nothing is wrong with the job: another worker may have it.
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

/// Copies the results of a shared-storage job to its output folder. Doing it twice does no harm:
/// each file is written beside and renamed.
pub(super) async fn deliver(context: &WorkerContext, folder: &JobFolder) -> Result<(), Refusal> {
    let Some(paths) = folder.spec().shared.clone() else { return Ok(()) };
    let places = shared_places(context, &paths)?;
    // The job's watcher and its client's connection may come here at the same moment.
    let _one_at_a_time = context.delivering.lock().await;
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
