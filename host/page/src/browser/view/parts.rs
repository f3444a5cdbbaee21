//! What several screens have in common.

use crate::browser::dom::{Element, el};
use crate::browser::job::Phase;
use crate::browser::message::{Msg, send};
use crate::browser::model::JobState;
use sleap_rtc_protocol::job::JobOutcome;
use sleap_rtc_protocol::text::Printable;

/// A button.
pub fn button(label: &str, class: &str, message: impl Fn() -> Msg + 'static) -> Element {
    el("button")
        .attr("type", "button")
        .class(&format!("button {class}"))
        .with(label)
        .on("click", move |_| send(message()))
}

/// How much of something is done. `value` is from 0 to 1.
pub fn meter(label: &str, value: f64) -> Element {
    el("progress").attr("max", 1).attr("value", format!("{value:.4}")).attr("aria-label", label)
}

/// Something went wrong.
pub fn problem(text: &str) -> Element {
    el("p").class("problem").attr("role", "alert").with(text)
}

/// What a job is called.
pub fn job_name(job: &JobState) -> String {
    Printable::line(&job.known.name, 60).into()
}

/// Where a job is, in a word or two.
pub fn phase_word(job: &JobState) -> String {
    match (&job.phase, &job.course.outcome) {
        (_, Some(JobOutcome::Succeeded)) => "done".into(),
        (_, Some(JobOutcome::StoppedEarly)) => "stopped early".into(),
        (_, Some(JobOutcome::Failed { .. })) => "failed".into(),
        (_, Some(JobOutcome::Cancelled)) => "cancelled".into(),
        (_, Some(JobOutcome::Interrupted)) => "interrupted".into(),
        (Phase::Reading, _) => "reading".into(),
        (Phase::Asking(_), _) => "asking".into(),
        (Phase::NoWorker(_), _) => "no worker".into(),
        (Phase::Sending, _) => "sending".into(),
        (Phase::Following, _) if job.waiting.is_some() => "waiting".into(),
        (Phase::Following, _) if job.course.runs.is_empty() => "starting".into(),
        (Phase::Following, _) => "training".into(),
        (Phase::Lost, _) => {
            let ended = job.known.ended.as_deref().and_then(|ended| ended.split(':').next());
            ended.unwrap_or("connecting").to_owned()
        }
        (Phase::Fetching, _) => "fetching".into(),
        (Phase::Over, _) => "over".into(),
        (Phase::Failed(_), _) => "stuck".into(),
    }
}

/// The class of a job's word.
pub fn tone(job: &JobState) -> &'static str {
    match (&job.phase, &job.course.outcome) {
        (_, Some(outcome)) if outcome.is_success() => "good",
        (_, Some(JobOutcome::Cancelled)) => "plain",
        (_, Some(_)) | (Phase::Failed(_) | Phase::NoWorker(_), _) => "bad",
        (Phase::Following, _) if job.waiting.is_none() => "busy",
        _ => "wait",
    }
}
