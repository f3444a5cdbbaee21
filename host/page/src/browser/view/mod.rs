//! How the page looks.

mod curves;
mod job;
mod join;
mod log;
mod parts;
mod track;
mod train;
mod workers;

use super::dom::{Element, el};
use super::message::{Msg, Screen};
use super::model::{Here, Link, Model};
use parts::{brand, button, phase_word, tone};

/// The id of the element with the screen.
pub const MAIN: &str = "main";

/// The whole page.
pub fn page(model: &Model) -> Element {
    let page = el("div").class("page");
    match &model.here {
        None => page.with(join::bar()).with(join::screen(model)),
        Some(here) => page.with(bar(here)).all(model.paired.as_deref().map(paired)).with(
            el("div").class("body").with(navigation(model)).with(
                el("main").attr("id", MAIN).attr("tabindex", -1).with(match &model.screen {
                    Screen::Workers => workers::screen(here, model),
                    Screen::Train => train::screen(here, model),
                    Screen::Track => track::screen(here, model),
                    Screen::Job(id) => match model.job(id) {
                        Some(job) => job::screen(job, model),
                        None => el("p").with("Waiting for the room…"),
                    },
                }),
            ),
        ),
    }
}

fn bar(here: &Here) -> Element {
    let (class, word) = match here.link {
        Link::Connecting => ("dot wait", "connecting"),
        Link::Up => ("dot good", "connected"),
        Link::Down => ("dot bad", "the server is away; trying again"),
    };
    el("header")
        .class("bar")
        .with(brand())
        .with(el("p").class("place").with("Room ").with(el("code").with(here.room.known().label())))
        .with(
            el("p")
                .class("link")
                .attr("role", "status")
                .with(el("span").class(class).attr("aria-hidden", "true"))
                .with(word),
        )
        .with(button("Leave room", "quiet", || Msg::Leave))
}

/// What a browser that has paired shows once.
fn paired(text: &str) -> Element {
    el("div")
        .class("card paired")
        .key("paired")
        .with(el("p").attr("role", "status").with(text))
        .with(button("Close", "quiet", || Msg::Verified))
}

fn navigation(model: &Model) -> Element {
    let entry = |screen: Screen, label: String, detail: Option<Element>| {
        let is_here = model.screen == screen;
        let entry = el("button").attr("type", "button").class("entry").key(&label);
        let entry = if is_here { entry.attr("aria-current", "page") } else { entry };
        entry
            .with(el("span").class("label").with(label))
            .all(detail)
            .on("click", move |_| super::message::send(Msg::Show(screen.clone())))
    };
    let jobs = model.jobs.iter().map(|job| {
        let word = el("span").class(&format!("chip {}", tone(job))).with(phase_word(job));
        entry(Screen::Job(job.id.clone()), parts::job_name(job), Some(word)).key(&job.id)
    });
    let jobs: Vec<Element> = jobs.collect();
    let title = if jobs.is_empty() { None } else { Some(el("h2").with("Jobs")) };
    el("nav")
        .attr("aria-label", "Screens")
        .with(entry(Screen::Workers, "Workers".into(), None))
        .with(entry(Screen::Train, "Train".into(), None))
        .with(entry(Screen::Track, "Track".into(), None))
        .all(title)
        .all(jobs)
}
