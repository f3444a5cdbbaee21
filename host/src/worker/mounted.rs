//! Finds videos on this worker's mounts.

use super::WorkerContext;
use sleap_rtc_base::mounts::Mounts;
use sleap_rtc_protocol::job::{JobDescription, Refusal, RefusalCode};
use sleap_rtc_protocol::signaling::{MAX_VIDEO_NAMES, MAX_VIDEOS, VideoQuery};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::Semaphore;

/// The time for looking at a mount, because network mounts may hang.
const LOOK_LIMIT: Duration = Duration::from_secs(4);
/// Threads that may look at mounts at once. One that hangs keeps its place, so the others are left for the
/// rest of the worker.
static LOOKING: Semaphore = Semaphore::const_new(8);

/// For each video, its path on this worker. Clients wait for the answer, so a mount that hangs
/// counts as empty.
pub(crate) async fn find(mounts: Mounts, videos: Vec<VideoQuery>) -> Vec<Option<String>> {
    let count = videos.len();
    let look = move || videos.iter().map(|video| find_one(&mounts, video)).collect();
    if count > MAX_VIDEOS {
        return Vec::new();
    }
    within_limit(look).await.unwrap_or_else(|| vec![None; count])
}

fn find_one(mounts: &Mounts, video: &VideoQuery) -> Option<String> {
    let names = video.names.iter().take(MAX_VIDEO_NAMES);
    let mut found = names.filter_map(|name| mounts.find(name));
    let is_it = |path: &PathBuf| {
        video.size.is_none_or(|size| path.metadata().is_ok_and(|there| there.len() == size))
    };
    found.find(is_it)?.into_os_string().into_string().ok()
}

/// Refuses a job if videos that its client expects on this worker are missing.
pub(crate) async fn check(context: &WorkerContext, job: &JobDescription) -> Result<(), Refusal> {
    let Some(first) = job.mounted_videos.first().cloned() else { return Ok(()) };
    let (mounts, wanted) = (context.runner.settings.mounts.clone(), job.mounted_videos.clone());
    let look = move || wanted.into_iter().take(MAX_VIDEOS).find(|path| mounts.find(path).is_none());
    let missing = match within_limit(look).await {
        Some(None) => return Ok(()),
        Some(Some(missing)) => missing,
        None => first,
    };
    let labels = context.runner.settings.mounts.labels().join(", ");
    let mounts = if labels.is_empty() { "none".to_owned() } else { labels };
    let text = format!("this worker does not see the video {missing} (its mounts: {mounts})");
    Err(Refusal::new(RefusalCode::Incompatible, text))
}

async fn within_limit<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let looking = async {
        let place = LOOKING.acquire().await.ok()?;
        let look = move || {
            let _place = place;
            look()
        };
        tokio::task::spawn_blocking(look).await.ok()
    };
    tokio::time::timeout(LOOK_LIMIT, looking).await.ok()?
}
