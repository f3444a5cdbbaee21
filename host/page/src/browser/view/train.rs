//! A new job: its package, what is in it, and who is to get it.

use super::parts::{Chosen, button, chooser, problem, takes_drops};
use crate::browser::dom::{Element, el};
use crate::browser::engine::Opened;
use crate::browser::job::Choice;
use crate::browser::message::{Msg, send};
use crate::browser::model::{Given, GivenState, Here, Model};
use crate::ranking::{Ranked, rank};
use crate::words::{self, has_line, worker_name};
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::text::Printable;

/// The screen.
pub fn screen(here: &Here, model: &Model) -> Element {
    let section = el("section").key("train").with(el("h2").with("Train"));
    match &model.given {
        Some(given) if !given.is_prediction() => section.with(review(given, here, model)),
        _ => section.with(drop_zone()),
    }
}

/// What was given, and who is to get it.
pub fn review(given: &Given, here: &Here, model: &Model) -> Element {
    let name = String::from(Printable::line(given.parcel.name(), 80));
    let card = el("div").class("card").key("given");
    match &given.state {
        GivenState::Reading => card
            .with(el("h3").with(name))
            .with(el("p").attr("role", "status").with("Reading the files…")),
        GivenState::Unusable(why) => card
            .with(el("h3").with(name))
            .with(problem(&format!("It cannot be used: {}", words::message(why))))
            .with(button("Choose something else", "first", || Msg::PutAway)),
        GivenState::Ready(_, opened) => ready(card, opened, here, model),
    }
}

fn drop_zone() -> Element {
    let zone = el("div")
        .class("card drop")
        .with(el("p").class("large").with("Drop a training job package here: the zip, or its folder"))
        .with(el("p").class("soft").with(
            "In SLEAP, choose Predict > Run Training… > Export Training Job Package. Nothing is sent \
             before you have seen what is in it.",
        ))
        .with(
            el("div")
                .class("row")
                .with(chooser(
                    "package",
                    "Choose a zip",
                    "first",
                    Chosen::File(".zip,application/zip"),
                    |items| Msg::Given(Ok(items)),
                ))
                .with(chooser("folder", "Choose a folder", "", Chosen::Folder, |items| {
                    Msg::Given(Ok(items))
                })),
        );
    takes_drops(zone, Msg::Given)
}

fn ready(card: Element, opened: &Opened, here: &Here, model: &Model) -> Element {
    let ranked = rank(&opened.description, &here.workers);
    let facts = words::description(&opened.description).into_iter().flat_map(|(label, value)| {
        [el("dt").with(label), el("dd").with(String::from(Printable::line(&value, 200)))]
    });
    let files = [el("dt").with("Files"), el("dd").with(opened.files.to_string())];
    let remarks = opened
        .remarks
        .iter()
        .map(|remark| el("li").with(String::from(Printable::lines(remark, 500))));
    let can_start = match &model.choice {
        Choice::Automatic => !ranked.fit.is_empty() || here.workers.iter().any(has_line),
        Choice::Worker(chosen) => here.workers.iter().any(|worker| worker.peer_id == *chosen),
    };
    card.with(el("h3").with(String::from(Printable::line(&opened.name, 80))))
        .with(el("dl").class("facts").all(facts).all(files))
        .all((!opened.remarks.is_empty()).then(|| el("ul").class("remarks").all(remarks)))
        .with(choices(here, model, &ranked))
        .with(
            el("div")
                .class("row")
                .with(button("Start", "first", || Msg::Submit).flag("disabled", !can_start))
                .with(button("Choose something else", "quiet", || Msg::PutAway)),
        )
}

fn choices(here: &Here, model: &Model, ranked: &Ranked) -> Element {
    let first = ranked.fit.first().and_then(|(index, why)| Some((here.workers.get(*index)?, why)));
    let automatic = match first {
        Some((worker, why)) => format!("now {}: {why}", worker_name(worker)),
        None if here.workers.iter().any(has_line) => {
            "no worker can take it at the moment; it can wait in line".into()
        }
        None => "no worker can take it at the moment".into(),
    };
    let workers = here.workers.iter().enumerate().map(|(index, worker)| {
        let at = |list: &[(usize, String)]| {
            list.iter().find(|(place, _)| *place == index).map(|(_, why)| why.clone())
        };
        let fits = at(&ranked.fit);
        let why = fits.clone().or_else(|| at(&ranked.left_out)).unwrap_or_default();
        let choice = Choice::Worker(worker.peer_id.clone());
        let can = has_line(worker) || fits.is_some() && is_ours(worker);
        option(model, choice, worker_name(worker).into(), why, can)
    });
    el("fieldset")
        .class("choices")
        .with(el("legend").with("Worker"))
        .with(option(model, Choice::Automatic, "Choose automatically".into(), automatic, true))
        .all(workers)
}

fn is_ours(worker: &WorkerFacts) -> bool {
    worker.speaks_native
}

fn option(model: &Model, choice: Choice, name: String, why: String, can: bool) -> Element {
    let key = match &choice {
        Choice::Automatic => "automatic".to_owned(),
        Choice::Worker(peer) => peer.to_string(),
    };
    let id = format!("worker-{key}");
    let is_chosen = model.choice == choice;
    el("div")
        .class("choice")
        .key(&key)
        .with(
            el("input")
                .attr("type", "radio")
                .attr("name", "worker")
                .attr("id", &id)
                .flag("checked", is_chosen)
                .flag("disabled", !can)
                .on("change", move |_| send(Msg::Choose(choice.clone()))),
        )
        .with(
            el("label")
                .attr("for", id)
                .with(el("span").class("label").with(name))
                .with(el("span").class("soft").with(String::from(Printable::line(&why, 200)))),
        )
}
