//! The queue of the worker on this machine.

use crate::cli::exit::{Exit, ExitWith, Failure};
use crate::cli::print;
use crate::client::queue_text;
use crate::config::Config;
use crate::worker::control;
use sleap_rtc_protocol::queue_report::{Decided, Decision};
use sleap_rtc_protocol::short_id::{self, NoSingleJob};

/// Lists the jobs that wait, with their ids and with the rule behind each place.
pub(crate) async fn list(config: &Config) -> Result<Exit, Failure> {
    let jobs = control::queue(&config.worker.state_dir).await?;
    if jobs.is_empty() {
        print::line("no jobs wait for the worker on this machine").exit(Exit::Unexpected)?;
    }
    let entries: Vec<_> = jobs.iter().map(|job| job.entry.clone()).collect();
    for (row, job) in queue_text::table(&entries, 0).iter().zip(&jobs) {
        let reason = &job.reason.message;
        print::line(&format!("{row}\n      {}  {reason}", job.job)).exit(Exit::Unexpected)?;
    }
    Ok(Exit::Success)
}

/// Decides about the job whose id is `job` or, alone, begins with it.
pub(crate) async fn decide(
    config: &Config,
    job: &str,
    decision: Decision,
) -> Result<Exit, Failure> {
    let text = match decision {
        Decision::Hold => "the job is held back; `queue --local release` lets it start in its turn",
        Decision::Release => "the job starts in its turn",
        Decision::Front => "the job is the next one to start",
        Decision::Remove => "the job is withdrawn",
    };
    let not_waiting = |error: &NoSingleJob| {
        let text = match error {
            NoSingleJob::None => {
                format!("no job {} waits for the worker on this machine", job.escape_debug())
            }
            NoSingleJob::Several(_) => format!("several jobs begin with {job}: {error}"),
        };
        let hint = "`sleap-rtc queue --local` lists those that do, and `sleap-rtc cancel JOB --local` \
                    ends one that runs";
        Failure::message(Exit::Refused, text).hint(hint)
    };
    let waiting = control::queue(&config.worker.state_dir).await?;
    let id = short_id::find(job, waiting.into_iter().map(|waiting| waiting.job));
    let id = id.map_err(|error| not_waiting(&error))?;
    match control::decide(&config.worker.state_dir, id, decision).await? {
        Decided::Done => {
            print::line(text).exit(Exit::Unexpected)?;
            Ok(Exit::Success)
        }
        Decided::NotWaiting => Err(not_waiting(&NoSingleJob::None)),
        Decided::Failed(why) => Err(Failure::message(Exit::Unexpected, why)),
    }
}
