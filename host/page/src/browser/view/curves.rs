//! The losses of a job's runs as curves.

use crate::browser::dom::{Element, el, svg};
use crate::browser::message::{Msg, send};
use crate::browser::model::{JobState, Model};
use crate::words;
use sleap_rtc_protocol::chart::{Frame, HEIGHT, Scale, WIDTH, short};
use sleap_rtc_protocol::course::{Epoch, RunCourse};
use sleap_rtc_protocol::meter::time;
use sleap_rtc_protocol::text::Printable;
use wasm_bindgen::JsCast;
use web_sys::{Element as Node, Event, KeyboardEvent, PointerEvent};

/// What is around the plot, in the picture's units: left, top, right, bottom.
const MARGINS: [f64; 4] = [60.0, 10.0, 12.0, 28.0];

/// One card for each run, and the choice of a scale.
pub fn all(job: &JobState, model: &Model) -> Option<Element> {
    let course = &job.course;
    // Predictions have no losses.
    let is_training = course.progress().frames.is_none() && course.outcome.is_none();
    let runs = course.runs.iter().enumerate();
    let runs =
        runs.filter(|(_, run)| !run.epochs.is_empty() || is_training && run.outcome.is_none());
    let current = || course.progress().current_run();
    let mut cards: Vec<Element> = runs
        .map(|(place, run)| {
            let now = if run.outcome.is_none() { current() } else { None };
            card(place, run, now, model)
        })
        .collect();
    if is_training && !cards.is_empty() {
        let next = course.planned.iter().enumerate().skip(course.runs.len());
        cards.extend(next.map(|(place, name)| waiting(place, name)));
    }
    (!cards.is_empty())
        .then(|| el("div").class("curves").key("curves").with(scales(model)).all(cards))
}

/// A run that has its turn later.
fn waiting(place: usize, name: &Printable) -> Element {
    let head = el("div").class("head").with(el("h3").with(name.to_string()));
    el("div").class("card curve").key(place).with(head.with(el("span").class("soft").with("waits")))
}

fn scales(model: &Model) -> Element {
    let choice = |label: &str, scale: Scale| {
        el("button")
            .attr("type", "button")
            .class("button small")
            .attr("aria-pressed", model.scale == scale)
            .with(label)
            .on("click", move |_| send(Msg::Scale(scale)))
    };
    el("div")
        .class("row scales")
        .attr("role", "group")
        .attr("aria-label", "Scale of the losses")
        .with(choice("linear", Scale::Linear))
        .with(choice("log", Scale::Log))
}

type Loss = fn(&Epoch) -> Option<f64>;

const LOSSES: [(&str, Loss); 2] =
    [("loss", |epoch| epoch.loss), ("validation", |epoch| epoch.validation)];

fn points(run: &RunCourse, loss: Loss) -> impl Iterator<Item = (u64, f64)> {
    run.epochs.iter().filter_map(move |epoch| Some((epoch.number, loss(epoch)?)))
}

/// A run, and how far it is `now` if it goes on.
fn card(place: usize, run: &RunCourse, now: Option<String>, model: &Model) -> Element {
    let all = LOSSES.into_iter().flat_map(|(_, loss)| points(run, loss));
    let frame = Frame::around(all, model.scale);
    let head = el("div")
        .class("head")
        .with(el("h3").with(run.name.to_string()))
        .all(now.map(|now| el("span").class("now").with(now)))
        .with(el("span").class("soft").with(summary(run)));
    let card = el("div").class("card curve").key(place).with(head);
    let Some(frame) = frame else {
        return card.with(el("p").class("soft").with("The first epoch is not over yet."));
    };
    let pointed = model.pointed.filter(|(at, _)| *at == place).map(|(_, epoch)| epoch);
    let shown = pointed.and_then(|number| run.epochs.iter().find(|epoch| epoch.number == number));
    let told = shown.or(run.epochs.last());
    card.with(picture(place, run, &frame, shown)).with(legend(told))
}

fn summary(run: &RunCourse) -> String {
    let mut parts = Vec::new();
    if run.outcome.is_some() {
        // Some may have gone unreported.
        let epochs = run.epochs.last().map_or(0, |last| last.number.saturating_add(1));
        parts.push(format!("{epochs} epochs"));
    }
    if let Some(best) = run.best()
        && let Some(value) = best.validation.or(best.loss)
    {
        parts.push(format!("best {} in epoch {}", short(value), best.number + 1));
    }
    match (&run.outcome, run.epoch_s()) {
        (Some(outcome), _) => parts.push(words::outcome(outcome)),
        (None, Some(seconds)) if seconds >= 1.0 => {
            parts.push(format!("{} an epoch", time(seconds)))
        }
        (None, _) => {}
    }
    parts.join(" · ")
}

fn picture(place: usize, run: &RunCourse, frame: &Frame, shown: Option<&Epoch>) -> Element {
    let [left, top, right, bottom] = MARGINS;
    let (width, height) = (WIDTH + left + right, HEIGHT + top + bottom);
    let values = frame.value_ticks().into_iter().flat_map(|tick| {
        let line = svg("line").class("grid").attr("x1", 0).attr("x2", WIDTH);
        let line = line.attr("y1", tick.at).attr("y2", tick.at);
        let label = svg("text").class("tick value").attr("x", -8).attr("y", tick.at + 4.0);
        [line, label.with(tick.label)]
    });
    let epochs = frame.epoch_ticks().into_iter().map(|tick| {
        svg("text").class("tick").attr("x", tick.at).attr("y", HEIGHT + 20.0).with(tick.label)
    });
    let curves = LOSSES.into_iter().map(|(name, loss)| {
        svg("path").class(&format!("line {name}")).attr("d", frame.path(points(run, loss)))
    });
    let mark = shown.into_iter().flat_map(|epoch| {
        let dots = LOSSES.into_iter().filter_map(move |(name, loss)| {
            let (x, y) = frame.place(epoch.number, loss(epoch)?)?;
            Some(
                svg("circle")
                    .class(&format!("mark {name}"))
                    .attr("cx", x)
                    .attr("cy", y)
                    .attr("r", 4),
            )
        });
        dots.collect::<Vec<_>>()
    });
    let frame = frame.clone();
    let last = run.epochs.last().map_or(0, |epoch| epoch.number);
    let here = shown.map_or(last, |epoch| epoch.number);
    svg("svg")
        .class("plot")
        .attr("viewBox", format!("{} {} {width} {height}", -left, -top))
        .attr("role", "img")
        .attr("aria-label", format!("Losses of {}: {}", run.name, summary(run)))
        .all(values)
        .all(epochs)
        .all(curves)
        .all(mark)
        .on("pointermove", move |event| {
            if let Some(x) = position(event, width) {
                send(Msg::Point(Some((place, frame.epoch_at(x - left)))));
            }
        })
        .on("pointerleave", |_| send(Msg::Point(None)))
        .attr("tabindex", 0)
        .on("keydown", move |event| {
            if let Some(epoch) = moved(event, here, last) {
                event.prevent_default();
                send(Msg::Point(Some((place, epoch))));
            }
        })
}

/// The epoch to which a key moves from `here`, among those up to `last`.
fn moved(event: &Event, here: u64, last: u64) -> Option<u64> {
    match event.dyn_ref::<KeyboardEvent>()?.key().as_str() {
        "ArrowLeft" => Some(here.saturating_sub(1)),
        "ArrowRight" => Some(here.saturating_add(1).min(last)),
        "Home" => Some(0),
        "End" => Some(last),
        _ => None,
    }
}

/// Where the pointer is, in the picture's units from the left.
fn position(event: &Event, width: f64) -> Option<f64> {
    let pointer: &PointerEvent = event.dyn_ref()?;
    let picture = event.current_target()?.dyn_into::<Node>().ok()?.get_bounding_client_rect();
    let share = (f64::from(pointer.client_x()) - picture.left()) / picture.width().max(1.0);
    Some(share * width)
}

fn legend(epoch: Option<&Epoch>) -> Element {
    let Some(epoch) = epoch else { return el("p") };
    let values = LOSSES.into_iter().filter_map(|(name, loss)| {
        let value = loss(epoch)?;
        Some(
            el("span")
                .class("series")
                .with(el("span").class(&format!("swatch {name}")).attr("aria-hidden", "true"))
                .with(format!("{name} {}", short(value))),
        )
    });
    el("p").class("legend").with(el("span").with(format!("epoch {}", epoch.number + 1))).all(values)
}
