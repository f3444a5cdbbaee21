//! One job: how far it is, its losses, its log, and its result.

use super::parts::{button, job_name, meter, phase_word, problem, tone};
use super::{curves, log};
use crate::browser::dom::{Element, el};
use crate::browser::engine::ResultFile;
use crate::browser::job::{Phase, Results};
use crate::browser::message::{JobAction, Msg};
use crate::browser::model::{JobState, Model};
use crate::browser::save::can_save_into_folders;
use crate::words::{self, has_line};
use sleap_rtc_protocol::job::JobOutcome;
use sleap_rtc_protocol::meter::bytes;
use sleap_rtc_protocol::queue_report::QueueStatus;
use sleap_rtc_protocol::queue_report::words::{headline, table};
use sleap_rtc_protocol::text::Printable;

/// The screen.
pub fn screen(job: &JobState, model: &Model) -> Element {
    let worker = Printable::line(&job.known.worker, 80);
    let place = (!worker.as_str().is_empty()).then(|| format!("on {worker}"));
    el("section")
        .key(&job.id)
        .with(
            el("div")
                .class("head")
                .with(el("h2").with(job_name(job)))
                .with(
                    el("span")
                        .class(&format!("chip {}", tone(job)))
                        .attr("role", "status")
                        .with(phase_word(job)),
                )
                .all(place.map(|place| el("span").class("soft").with(place))),
        )
        .with(controls(job, model))
        .all(state(job))
        .all(job.trouble.as_deref().map(problem))
        .all(job.results.as_ref().map(|results| result(job, results)))
        .all(curves::all(job, model))
        .with(log::card(job, model))
        .all(elsewhere(job))
}

/// How to go on with the job in another browser, or on the command line.
fn elsewhere(job: &JobState) -> Option<Element> {
    (!job.known.job.is_empty()).then(|| {
        el("details")
            .class("card")
            .key("elsewhere")
            .with(el("summary").with("Go on elsewhere"))
            .with(el("p").class("soft").with(
                "Whoever has this job string can follow, stop and cancel this job, and fetch its result: \
                 with `sleap-rtc attach`, or on this page in another browser.",
            ))
            .with(el("code").class("string").with(job.known.job.as_str()))
    })
}

fn action(job: &JobState, label: &str, class: &str, action: JobAction) -> Element {
    let id = job.id.clone();
    button(label, class, move || Msg::Ask(id.clone(), action)).key(label)
}

fn controls(job: &JobState, model: &Model) -> Element {
    let row = el("div").class("row controls");
    if job.asks_cancel {
        return row
            .key("ask")
            .with(
                el("span")
                    .attr("role", "alert")
                    .with("Cancel this job? What it has learned is lost."),
            )
            .with(action(job, "Cancel the job", "danger", JobAction::Cancel))
            .with(action(job, "Keep it running", "", JobAction::ConfirmCancel(false)));
    }
    let mut buttons = Vec::new();
    if job.is_running() {
        buttons.push(action(job, "Stop early, keep the model", "", JobAction::Stop));
    }
    if job.is_going_on() {
        buttons.push(action(job, "Cancel…", "quiet", JobAction::ConfirmCancel(true)));
    }
    if let Phase::NoWorker(_) = job.phase {
        buttons.push(action(job, "Ask again", "first", JobAction::Retry));
        if model.here.as_ref().is_some_and(|here| here.workers.iter().any(has_line)) {
            buttons.push(action(job, "Wait in line", "", JobAction::Wait));
        }
    }
    if job.course.outcome.is_some() && job.phase == Phase::Over {
        match job.results {
            None => buttons.push(action(job, "Fetch the results", "first", JobAction::Fetch)),
            Some(_) => {
                buttons.push(action(job, "Save all as a zip", "first", JobAction::SaveZip));
                if can_save_into_folders() {
                    buttons.push(action(job, "Save into a folder…", "", JobAction::SaveFolder));
                }
            }
        }
    }
    if matches!(job.phase, Phase::Over | Phase::Failed(_) | Phase::Lost) {
        buttons.push(action(job, "Forget this job", "quiet", JobAction::Forget));
    }
    row.key("can").all(buttons)
}

/// Where a job stands that waits, in the command line's words.
fn waiting(job: &JobState, news: &QueueStatus, card: Element) -> Element {
    let worker = Printable::line(&job.known.worker, 80);
    let why = Printable::line(&news.reason.message, 200);
    card.key("waiting")
        .with(el("p").attr("role", "status").with(headline(&worker, news)))
        .with(el("pre").class("line").with(table(&news.line, news.omitted_jobs).join("\n")))
        .with(el("p").class("soft").with(String::from(why)))
}

fn state(job: &JobState) -> Option<Element> {
    let card = el("div").class("card").key("state");
    if let (Some(news), true) = (&job.waiting, job.is_going_on()) {
        return Some(waiting(job, news, card));
    }
    match &job.phase {
        Phase::Reading => {
            let (done, total) = job.read.unwrap_or((0, 1));
            Some(
                card.with(
                    el("p").with("Reading the package, to find out what the worker has already"),
                )
                .with(meter("Reading the package", done as f64 / total.max(1) as f64)),
            )
        }
        Phase::Asking(worker) => Some(card.with(el("p").with(format!("Asking {worker}…")))),
        Phase::NoWorker(why) => Some(card.with(problem(why))),
        Phase::Preparing(what) => {
            Some(card.with(el("p").with(format!("Waiting for the worker: {what}…"))))
        }
        Phase::Sending | Phase::Fetching => Some(transfer(job, card)),
        Phase::Lost => {
            Some(card.with(el("p").with("Connecting to the worker. The job goes on meanwhile.")))
        }
        Phase::Failed(why) => Some(card.with(problem(why))),
        Phase::Following if job.course.outcome.is_none() => going_on(job, card),
        Phase::Following | Phase::Over => outcome(job, card),
    }
}

fn transfer(job: &JobState, card: Element) -> Element {
    let (Some(meter_of), Some(progress)) = (&job.meter, job.transfer) else {
        return card.with(el("p").with("Waiting for the worker…"));
    };
    let label = meter_of.direction.label();
    let share = progress.done_bytes as f64 / progress.total_bytes.max(1) as f64;
    card.with(el("p").with(format!("{label}: {}", meter_of.line())))
        .with(meter(label, share))
        .all(meter_of.already().map(|already| el("p").class("soft").with(already)))
}

/// How far a job is that goes on.
fn going_on(job: &JobState, card: Element) -> Option<Element> {
    let progress = job.course.progress();
    let text = progress.to_string();
    let frames = progress
        .frames
        .map(|(done, all)| meter("Frames with predictions", done as f64 / all.max(1) as f64));
    let expected = job.expected.iter().map(|line| el("p").class("soft").with(line.as_str()));
    Some(card.with(el("p").with(text)).all(frames).all(expected).all(sent(job)))
}

fn sent(job: &JobState) -> Option<Element> {
    let (progress, meter) = job.transfer.zip(job.meter.as_ref())?;
    let there = progress.already_there_bytes;
    (there > 0).then(|| {
        let text = format!("{}: {} already there", meter.direction.label(), bytes(there));
        el("p").class("soft").with(text)
    })
}

fn outcome(job: &JobState, card: Element) -> Option<Element> {
    match &job.course.outcome {
        Some(JobOutcome::Failed { message, .. }) => Some(
            card.with(problem("The job failed:")).with(el("pre").with(words::message(message))),
        ),
        Some(JobOutcome::Interrupted) => Some(card.with(problem(
            "The job was interrupted on the worker. What it had saved by then can be fetched.",
        ))),
        _ => sent(job).map(|sent| card.with(sent)),
    }
}

fn result(job: &JobState, results: &Results) -> Element {
    let files: Vec<_> = results.files.iter().enumerate().collect();
    let folders = files.chunk_by(|(_, (one, _)), (_, (next, _))| one.folder() == next.folder());
    let folders = folders.map(|files| {
        let (_, (first, _)) = files[0];
        let name = Some(first.folder()).filter(|name| !name.is_empty());
        let name = name.map(|name| el("h4").with(String::from(Printable::line(name, 200))));
        let files = files.iter().map(|(place, (file, _))| saved_file(job, *place, file));
        el("div").class("folder").all(name).with(el("ul").class("files").all(files))
    });
    el("div")
        .class("card")
        .key("results")
        .with(el("h3").with("Results"))
        .with(el("p").class("soft").with("Every file is as it is on the worker, by its hash."))
        .all(job.saved.as_deref().map(|folder| {
            let folder = Printable::line(folder, 200);
            el("p").attr("role", "status").with(format!("Saved into {folder}."))
        }))
        .all(folders)
}

fn saved_file(job: &JobState, place: usize, file: &ResultFile) -> Element {
    let label = format!("Save {}", Printable::line(&file.path, 200));
    el("li")
        .with(el("span").class("path").with(String::from(Printable::line(file.name(), 200))))
        .with(el("span").class("soft").with(bytes(file.bytes)))
        .with(action(job, "Save", "small", JobAction::SaveFile(place)).attr("aria-label", label))
}
