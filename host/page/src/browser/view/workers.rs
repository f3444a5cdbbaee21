//! The room's workers.

use crate::browser::clock::now_ms;
use crate::browser::dom::{Element, el};
use crate::browser::model::{Here, Link, Model};
use crate::words::{gpu, worker_name};
use sleap_rtc_protocol::capabilities::{Gpu, WorkerFacts};
use sleap_rtc_protocol::occupancy::jobs_in_words;
use sleap_rtc_protocol::text::Printable;
use sleap_rtc_protocol::worker::WorkerStatus;

/// The screen.
pub fn screen(here: &Here, model: &Model) -> Element {
    let _ = model;
    let workers = here.workers.iter().map(worker);
    let empty = match (here.workers.is_empty(), here.link) {
        (false, _) => None,
        (true, Link::Connecting) => Some("Looking for workers…"),
        (true, _) => {
            Some("No worker is in this room at the moment. One appears here as soon as it starts.")
        }
    };
    el("section")
        .key("workers")
        .with(el("h2").with("Workers"))
        .all(empty.map(|text| el("p").class("soft").with(text)))
        .with(el("ul").class("workers").attr("aria-live", "polite").all(workers))
}

fn worker(facts: &WorkerFacts) -> Element {
    let name = worker_name(facts);
    let facts_of = el("dl")
        .class("facts")
        .all(fact("GPU", gpu(facts).into()))
        .all(
            facts
                .accelerators
                .largest()
                .map(memory)
                .into_iter()
                .flat_map(|text| fact("Memory", text)),
        )
        .all(fact(
            "Slots",
            format!("{} of {} free", facts.slots_free.min(facts.slots), facts.slots),
        ))
        .all(
            facts
                .sleap_version
                .as_deref()
                .into_iter()
                .flat_map(|version| fact("sleap-nn", Printable::line(version, 40).into())),
        );
    let problems =
        facts.problem_lines().map(|problem| el("p").class("problem").with(String::from(problem)));
    let jobs = jobs_in_words(facts, now_ms());
    let jobs = (!jobs.is_empty()).then(|| {
        let jobs = jobs.into_iter().map(|job| el("li").with(job));
        el("ul").class("running").attr("aria-label", "What runs and what waits").all(jobs)
    });
    el("li")
        .class("card worker")
        .key(&facts.peer_id)
        .with(
            el("div").class("head").with(el("h3").with(String::from(name))).with(
                el("span").class(&format!("chip {}", tone(facts))).with(facts.status_words()),
            ),
        )
        .with(facts_of)
        .all(problems)
        .all(jobs)
}

fn fact(label: &str, value: String) -> [Element; 2] {
    [el("dt").with(label), el("dd").with(value)]
}

fn memory(gpu: &Gpu) -> String {
    match gpu.memory_free_mib {
        Some(free) => format!("{free} of {} MB free", gpu.memory_mib),
        None => format!("{} MB", gpu.memory_mib),
    }
}

/// The class of a worker's status.
fn tone(facts: &WorkerFacts) -> &'static str {
    match facts.status {
        WorkerStatus::Available if facts.status_words() != facts.status.as_str() => "bad",
        WorkerStatus::Available => "good",
        WorkerStatus::Reserved => "wait",
        WorkerStatus::Busy => "busy",
        WorkerStatus::Maintenance | WorkerStatus::Unknown => "plain",
    }
}
