//! The outcome of a run of the trainer.

use super::active::{ActiveRun, EarlyEnd};
use super::failure;
use super::output::Stream;
use sleap_rtc_package::script::Run;
use sleap_rtc_protocol::job::JobOutcome;

/// The exit code for a command line that the trainer does not understand.
const USAGE: i32 = 2;

impl From<EarlyEnd> for JobOutcome {
    fn from(end: EarlyEnd) -> Self {
        match end {
            EarlyEnd::Cancelled => Self::Cancelled,
            EarlyEnd::Interrupted => Self::Interrupted,
        }
    }
}

/// Whether the trainer ended because it does not know `word` of its command line.
pub(crate) fn complains(active: &ActiveRun, complaint: &str, word: &str) -> bool {
    let says = |line: &String| line.contains(complaint) && line.contains(word);
    active.exit_code() == Some(USAGE) && active.output().tail(Stream::Err).iter().any(says)
}

/// The outcome of a run. Exit code 0 alone proves nothing: a training also returns it after
/// SIGTERM, and after it printed its help.
pub(crate) fn judge(run: &Run, active: &ActiveRun) -> JobOutcome {
    if let Some(end) = active.early_end() {
        return end.into();
    }
    if let Some(excess) = active.excess() {
        return failed(None, excess.to_owned());
    }
    let done = match run {
        Run::Train(_) => active.has_trained(),
        Run::TrainLegacy(_) | Run::Track(_) => true,
    };
    if matches!(run, Run::Track(_))
        && active.exit_code() == Some(0)
        && active.output().findings().predicted_nothing
    {
        let message = "no frame was predicted: the data cannot be read, or contain none of the \
                       requested frames";
        return failed(Some(0), message.to_owned());
    }
    if let Some(option) = unknown_option(run, active) {
        let message = format!(
            "this worker's sleap-nn does not know the option {option}: remove it, or choose a worker \
             with a newer sleap-nn"
        );
        return failed(None, message);
    }
    match active.status() {
        _ if active.was_hanging() => success(active),
        // The model saved so far is the result, if the trainer saved one.
        Some(_) if active.was_terminated() => JobOutcome::StoppedEarly,
        Some(status) if status.success() && done => success(active),
        Some(status) => failed(status.code(), failure::explain(status, active.output())),
        None => failed(None, "cannot wait for the trainer".to_owned()),
    }
}

fn failed(exit_code: Option<i32>, message: String) -> JobOutcome {
    JobOutcome::Failed { exit_code, message }
}

/// The option that the installed tracker does not have. The prediction never began.
fn unknown_option(run: &Run, active: &ActiveRun) -> Option<&'static str> {
    let Run::Track(track) = run else { return None };
    let mut names = track.options.iter().map(|option| option.name);
    names.find(|name| complains(active, "No such option", name))
}

fn success(active: &ActiveRun) -> JobOutcome {
    if active.was_stopped() { JobOutcome::StoppedEarly } else { JobOutcome::Succeeded }
}
