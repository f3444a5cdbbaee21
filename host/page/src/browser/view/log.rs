//! The log of a job's trainer.

use super::parts::button;
use crate::browser::dom::{Element, el};
use crate::browser::message::{Msg, send};
use crate::browser::model::{JobState, Model};
use sleap_rtc_protocol::course::MAX_LINES;
use wasm_bindgen::JsCast;
use web_sys::HtmlInputElement;

/// The lines that are shown unless all are wanted.
const SHOWN_LINES: usize = 400;

/// The last lines, those with a text in them, or all that are kept.
pub fn card(job: &JobState, model: &Model) -> Element {
    let wanted = model.search.to_lowercase();
    let most = if model.shows_all_lines { MAX_LINES } else { SHOWN_LINES };
    let lines = job.course.lines().rev().map(|line| line.as_str());
    let lines = lines.filter(|line| wanted.is_empty() || line.to_lowercase().contains(&wanted));
    let mut lines: Vec<&str> = lines.take(most + 1).collect();
    let has_more = lines.len() > most;
    lines.truncate(most);
    lines.reverse();
    let note = note(job.course.lines().len(), lines.len(), &wanted);
    let all = model.shows_all_lines;
    let label = if all { "Show the last lines" } else { "Show all lines" };
    let more = (all || has_more).then(|| button(label, "small", move || Msg::ShowAllLines(!all)));
    let head = el("div")
        .class("head")
        .with(el("h3").with("Log"))
        .with(el("span").class("soft").attr("role", "status").with(note))
        .all(more)
        .with(search());
    let shown = el("pre").class("log").attr("tabindex", 0).attr("role", "log");
    let shown = shown.attr("aria-label", "Log").attr("aria-live", "off").with(lines.join("\n"));
    el("div").class("card").key("log").with(head).with(shown)
}

fn note(count: usize, shown: usize, wanted: &str) -> String {
    let kept = match count {
        0 => return "nothing yet".to_owned(),
        MAX_LINES => format!("the last {MAX_LINES} lines"),
        count => format!("{count} lines"),
    };
    match (wanted.is_empty(), shown < count) {
        (true, true) => format!("{kept}, {shown} shown"),
        (true, false) => kept,
        (false, _) => format!("{kept}, {shown} shown with this text"),
    }
}

fn search() -> Element {
    el("input")
        .attr("type", "search")
        .attr("placeholder", "Search")
        .attr("aria-label", "Search the log")
        .on("input", |event| {
            let field = event.target().and_then(|t| t.dyn_into::<HtmlInputElement>().ok());
            if let Some(field) = field {
                send(Msg::Search(field.value()));
            }
        })
}
