//! Facts in the words that the command line has too.

use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::ids::DeviceName;
use sleap_rtc_protocol::job::{JobDescription, JobOutcome, JobType};
use sleap_rtc_protocol::meter;
use sleap_rtc_protocol::text::Printable;

/// The characters of a worker's name that are shown.
const NAME_CHARS: usize = 80;
/// The characters of a worker's message that are shown.
const MESSAGE_CHARS: usize = 2_000;

/// What people call a worker.
pub fn worker_name(facts: &WorkerFacts) -> Printable {
    Printable::line(facts.name(), NAME_CHARS)
}

/// Its GPU, or what it has instead.
pub fn gpu(facts: &WorkerFacts) -> Printable {
    Printable::line(facts.gpu_model(), NAME_CHARS)
}

/// Whether a job of this page can wait for a slot there.
pub fn has_line(facts: &WorkerFacts) -> bool {
    facts.speaks_native && facts.queue().is_some()
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
        ("Needs sleap-nn", job.sleap_nn_version.clone()),
    ];
    facts.into_iter().filter_map(|(label, value)| Some((label, value?))).collect()
}

/// What people call a browser that says this about itself: `Firefox-on-Linux`.
pub fn browser_name(user_agent: &str) -> DeviceName {
    // Each of them claims to be those that follow it.
    const BROWSERS: [(&str, &str); 5] = [
        ("Edg/", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
    ];
    const SYSTEMS: [(&str, &str); 7] = [
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("CrOS", "ChromeOS"),
        ("Linux", "Linux"),
    ];
    let find = |known: &[(&str, &'static str)]| {
        known.iter().find(|(mark, _)| user_agent.contains(mark)).map(|(_, name)| *name)
    };
    let browser = find(&BROWSERS).unwrap_or("browser");
    let place = find(&SYSTEMS).map(|system| format!("-on-{system}")).unwrap_or_default();
    DeviceName::nearest(&format!("{browser}{place}"))
}

#[cfg(test)]
mod tests {
    use super::browser_name;

    #[test]
    fn a_browser_is_called_by_its_name_and_its_system() {
        let chrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
                      Chrome/140.0.0.0 Safari/537.36";
        for (agent, name) in [
            (chrome, "Chrome-on-Windows"),
            (&format!("{chrome} Edg/140.0.0.0"), "Edge-on-Windows"),
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
                "Firefox-on-Linux",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like \
                 Gecko) Version/18.0 Mobile/15E148 Safari/604.1",
                "Safari-on-iPhone",
            ),
            ("", "browser"),
            ("<script>Linux", "browser-on-Linux"),
        ] {
            assert_eq!(browser_name(agent).as_str(), name, "{agent}");
        }
    }
}
