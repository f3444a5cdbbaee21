//! A prediction: labels or a video, and models.

use super::parts::{Chosen, button, chooser, job_name, problem, takes_drops};
use super::train::review;
use crate::browser::dom::{Element, el};
use crate::browser::message::{Msg, send};
use crate::browser::model::{Here, JobState, Model};
use crate::browser::parcel::Item;
use crate::browser::prediction::{FormStep, GivenModel, PredictionForm};
use sleap_rtc_protocol::meter::bytes;
use sleap_rtc_protocol::text::Printable;
use wasm_bindgen::JsCast;
use web_sys::HtmlInputElement;

/// The most jobs whose models are offered.
const MAX_OFFERED: usize = 8;

/// The screen.
pub fn screen(here: &Here, model: &Model) -> Element {
    let section = el("section").key("track").with(el("h2").with("Track"));
    if let Some(given) = model.given.as_ref().filter(|given| given.is_prediction()) {
        return section.with(review(given, here, model));
    }
    let form = &model.form;
    let section = section
        .with(data(form))
        .with(models(form, model))
        .all(form.problem.as_deref().map(problem))
        .with(finish(form));
    takes_drops(section, add)
}

fn add(given: Result<Vec<Item>, String>) -> Msg {
    Msg::Form(FormStep::Add(given))
}

fn data(form: &PredictionForm) -> Element {
    let files = form.data.iter().map(|item| {
        el("li")
            .with(el("span").class("path").with(String::from(Printable::line(&item.path, 200))))
            .with(el("span").class("soft").with(bytes(item.content.size() as u64)))
    });
    let label = if form.data.is_empty() { "Choose labels or a video" } else { "Choose others" };
    let class = if form.data.is_empty() { "first" } else { "" };
    el("div")
        .class("card")
        .key("data")
        .with(el("h3").with("Labels or a video"))
        .with(el("p").class("soft").with(
            "Choose labels (.slp) or a video, or drop them here. Labels without embedded images need \
             their videos beside them: choose them together.",
        ))
        .all((!form.data.is_empty()).then(|| el("ul").class("files").all(files)))
        .with(el("div").class("row").with(chooser("data", label, class, Chosen::Files, |items| {
            add(Ok(items))
        })))
}

fn models(form: &PredictionForm, model: &Model) -> Element {
    let chosen = form.models.iter().enumerate().map(|(place, given)| chosen_model(place, given));
    let jobs = model.jobs.iter().filter(|job| makes_models(job)).take(MAX_OFFERED);
    let from_jobs = jobs.map(|job| {
        let id = job.id.clone();
        let label = format!("Models of {}", job_name(job));
        button(&label, "", move || Msg::Form(FormStep::TakeFrom(id.clone()))).key(&job.id)
    });
    el("div")
        .class("card")
        .key("models")
        .with(el("h3").with("Models"))
        .with(el("p").class("soft").with(
            "Choose the folder that a training has made, or a folder with several of them: for a \
             top-down prediction the centroid model and the centered-instance model.",
        ))
        .all((!form.models.is_empty()).then(|| el("ul").class("files").all(chosen)))
        .all(
            form.awaited.is_some().then(|| {
                el("p").attr("role", "status").with("Fetching the models from the worker…")
            }),
        )
        .with(
            el("div")
                .class("row")
                .with(chooser("model", "Choose a folder", "", Chosen::Folder, |items| {
                    add(Ok(items))
                }))
                .all(from_jobs),
        )
}

/// Whether the models of a job can be fetched.
fn makes_models(job: &JobState) -> bool {
    let has_ended = job.course.outcome.is_some() || job.known.ended.is_some();
    has_ended && !job.known.is_prediction
}

fn chosen_model(place: usize, given: &GivenModel) -> Element {
    let name = String::from(Printable::line(&given.name, 200));
    let label = format!("Remove {name}");
    let size = given.files.iter().map(|item| item.content.size() as u64).sum();
    el("li")
        .key(place)
        .with(el("span").class("path").with(name))
        .with(el("span").class("soft").with(bytes(size)))
        .with(
            button("Remove", "quiet", move || Msg::Form(FormStep::Remove(place)))
                .attr("aria-label", label),
        )
}

fn finish(form: &PredictionForm) -> Element {
    let link = el("input")
        .attr("type", "checkbox")
        .attr("id", "link")
        .flag("checked", form.is_tracking)
        .on("change", |event| {
            let field = event.target().and_then(|t| t.dyn_into::<HtmlInputElement>().ok());
            if let Some(field) = field {
                send(Msg::Form(FormStep::Link(field.checked())));
            }
        });
    el("div")
        .class("row")
        .key("finish")
        .with(
            button("Review", "first", || Msg::Form(FormStep::Review))
                .flag("disabled", form.data.is_empty() || form.models.is_empty()),
        )
        .with(el("span").class("choice").with(link).with(
            el("label").attr("for", "link").with("Link instances from frame to frame (--tracking)"),
        ))
}
