//! What several screens have in common.

use crate::browser::dom::{Element, el, svg};
use crate::browser::dropped;
use crate::browser::job::Phase;
use crate::browser::message::{Msg, send};
use crate::browser::model::JobState;
use crate::browser::parcel::Item;
use sleap_rtc_protocol::job::JobOutcome;
use sleap_rtc_protocol::text::Printable;
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::spawn_local;
use web_sys::{Event, HtmlInputElement};

/// The program's name and its sign.
pub fn brand() -> Element {
    let ground = svg("rect").attr("width", 32).attr("height", 32).attr("rx", 8).class("ground");
    let curve = svg("path").attr("d", "M5 22c4 0 4-12 8-12s4 12 8 12 4-6 6-6").class("curve");
    let sign = svg("svg").attr("viewBox", "0 0 32 32").attr("aria-hidden", "true");
    el("h1").class("brand").with(sign.with(ground).with(curve)).with("sleap-rtc")
}

/// A button.
pub fn button(label: &str, class: &str, message: impl Fn() -> Msg + 'static) -> Element {
    el("button")
        .attr("type", "button")
        .class(&format!("button {class}"))
        .with(label)
        .on("click", move |_| send(message()))
}

/// What a user may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chosen {
    /// One file with one of these endings, or any.
    File(&'static str),
    /// Some files.
    Files,
    /// All files of a folder.
    Folder,
}

/// A button that lets the user choose files.
pub fn chooser(
    id: &'static str,
    label: &str,
    class: &str,
    chosen: Chosen,
    give: impl Fn(Vec<Item>) -> Msg + 'static,
) -> Element {
    let field = el("input").attr("id", id).attr("type", "file").class("hidden-file");
    let field = match chosen {
        Chosen::File(endings) => field.attr("accept", endings),
        Chosen::Files => field.flag("multiple", true),
        Chosen::Folder => field.flag("webkitdirectory", true),
    };
    let field = field.on("change", move |event| {
        let field = event.target().and_then(|t| t.dyn_into::<HtmlInputElement>().ok());
        let Some(field) = field else { return };
        let items = field.files().map(|files| Item::all(&files)).unwrap_or_default();
        // The same files may be chosen again.
        field.set_value("");
        if !items.is_empty() {
            send(give(items));
        }
    });
    let label = el("label").class(&format!("button {class}")).attr("for", id).with(label);
    el("span").class("chooser").key(id).with(field).with(label)
}

/// An element that takes what is dropped on it.
pub fn takes_drops(
    element: Element,
    give: impl Fn(Result<Vec<Item>, String>) -> Msg + Copy + 'static,
) -> Element {
    element.on("dragover", Event::prevent_default).on("drop", move |event| {
        event.prevent_default();
        let entries = dropped::entries(event);
        spawn_local(async move { send(give(dropped::files(entries).await)) });
    })
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
        (Phase::Preparing(_), _) => "preparing".into(),
        (Phase::Sending, _) => "sending".into(),
        (Phase::Following, _) if job.waiting.is_some() => "waiting".into(),
        (Phase::Following, _) if job.course.runs.is_empty() => "starting".into(),
        (Phase::Following, _) if job.course.progress().frames.is_some() => "tracking".into(),
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
