//! Facts in the words that the command line has too.

use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::job::{JobDescription, JobOutcome, JobType};
use sleap_rtc_protocol::meter;
use sleap_rtc_protocol::text::Printable;

/// The characters of a worker's name that are shown.
const NAME_CHARS: usize = 80;
/// The characters of a worker's message that are shown.
const MESSAGE_CHARS: usize = 2_000;

/// What people call a worker.
pub fn worker_name(facts: &WorkerFacts) -> Printable {
    Printable::line(facts.hostname.as_deref().unwrap_or(facts.peer_id.as_str()), NAME_CHARS)
}

/// Its GPU, or what it has instead.
pub fn gpu(facts: &WorkerFacts) -> Printable {
    let text = match facts.accelerators.largest() {
        Some(gpu) => gpu.model.as_str(),
        None if facts.problems().is_empty() => "CPU",
        None => "none that works",
    };
    Printable::line(text, NAME_CHARS)
}

/// A message of a worker, on several lines.
pub fn message(text: &str) -> String {
    Printable::lines(text, MESSAGE_CHARS).into()
}

/// How a job or a run ended.
pub fn outcome(outcome: &JobOutcome) -> String {
    match outcome {
        JobOutcome::Succeeded => "done".into(),
        JobOutcome::Failed { message: why, .. } => format!("failed: {}", message(why)),
        other => other.words().into(),
    }
}

/// What a package asks for: labels and values.
pub fn description(job: &JobDescription) -> Vec<(&'static str, String)> {
    let kind = match job.job_type {
        JobType::Training => "training",
        JobType::Inference => "tracking",
    };
    let models: Vec<String> =
        job.model_types.iter().map(|name| Printable::line(name, NAME_CHARS).into()).collect();
    let facts = [
        ("Kind", Some(kind.to_owned())),
        ("Models", Some(models.join(", ")).filter(|models| !models.is_empty())),
        ("Epochs", job.epochs.map(|epochs| epochs.to_string())),
        ("Batch size", job.batch_size.map(|size| size.to_string())),
        ("Frames", job.frame_count.map(|frames| frames.to_string())),
        ("Image", job.image.map(|size| format!("{} × {}", size.width, size.height))),
        ("Size", job.package_bytes.map(meter::bytes)),
        ("Saved by sleap-nn", job.sleap_nn_version.clone()),
    ];
    facts.into_iter().filter_map(|(label, value)| Some((label, value?))).collect()
}
