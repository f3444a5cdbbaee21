//! `jobs`, `attach`, `logs`, `stop`, `cancel`, `fetch`: commands for existing jobs.

use super::common::CommonArgs;
use super::early_end::EarlyEnd;
use super::exit::{Exit, ExitWith, Failure};
use super::limit::LimitArgs;
use super::local::{self, LocalArgs};
use super::log::WholeLogArgs;
use super::notify::NotifyArgs;
use super::{end_here, print};
use crate::client::existing_job;
use crate::client::interrupt::Interrupts;
use crate::client::queue_text::standing;
use crate::client::record::{self, LastSeen, Record, SeenState};
use crate::client::{Action, ClientError, Output, UnknownJob};
use crate::config::{Config, Overrides};
use crate::dates::ago;
use sleap_rtc_base::clock::now_s;
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_protocol::job::{JobOutcome, JobType};
use sleap_rtc_trust::session::JobString;
use std::path::PathBuf;

/// The options of `jobs`.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Also print each job string, which gives access to the job from any machine: keep it secret
    #[arg(long)]
    pub(crate) strings: bool,
    #[command(flatten)]
    whose: LocalArgs,
}

impl ListArgs {
    pub(crate) fn overrides(&self) -> Overrides {
        self.whose.overrides()
    }
}

/// The job that a command is about.
#[derive(clap::Args)]
pub struct JobArgs {
    /// The job's id or the beginning of it, as listed by `jobs`, or its job string
    job: String,
    #[command(flatten)]
    common: CommonArgs,
}

/// The options of `cancel`.
#[derive(clap::Args)]
pub struct CancelArgs {
    #[command(flatten)]
    whose: LocalArgs,
    #[command(flatten)]
    job: JobArgs,
}

/// The part of a job's log to show.
#[derive(clap::Args)]
pub struct AfterArgs {
    /// Show only what came after this event; `jobs` prints the last one shown here
    #[arg(long, value_name = "EVENT", default_value_t = 0, hide_default_value = true)]
    after: u64,
}

/// The options of `attach`.
#[derive(clap::Args)]
pub struct AttachArgs {
    #[command(flatten)]
    after: AfterArgs,
    #[command(flatten)]
    log: WholeLogArgs,
    #[command(flatten)]
    notify: NotifyArgs,
    #[command(flatten)]
    result: ResultArgs,
}

/// The options of commands that download a result.
#[derive(clap::Args)]
pub struct ResultArgs {
    /// Where to put the result [default: as given when the job was submitted]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    #[command(flatten)]
    limit: LimitArgs,
    #[command(flatten)]
    job: JobArgs,
}

/// The options of `fetch`.
#[derive(clap::Args)]
pub struct FetchArgs {
    #[command(flatten)]
    whose: LocalArgs,
    #[command(flatten)]
    result: ResultArgs,
}

/// The options of `logs`.
#[derive(clap::Args)]
pub struct LogsArgs {
    /// Keep printing until the job ends
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    after: AfterArgs,
    #[command(flatten)]
    job: JobArgs,
}

/// The options of `stop`.
#[derive(clap::Args)]
pub struct StopArgs {
    /// Also skip the models that have not been trained yet
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    whose: LocalArgs,
    #[command(flatten)]
    job: JobArgs,
}

/// An existing job and what to do with it, checked.
#[derive(Debug)]
pub struct JobOptions {
    job: String,
    wanted: Wanted,
}

#[derive(Debug)]
enum Wanted {
    Attach { output: Option<PathBuf>, after: u64 },
    Logs { follow: bool, after: u64 },
    End(EarlyEnd),
    EndHere(EarlyEnd),
    Why,
    Fetch(Option<PathBuf>),
    FetchHere(Option<PathBuf>),
}

type Checked = Result<(JobOptions, Overrides), Failure>;

impl JobOptions {
    /// Attaches to `job`, which has a record here.
    pub(crate) fn attach(job: &JobId) -> Self {
        Self { job: job.to_string(), wanted: Wanted::Attach { output: None, after: 0 } }
    }
}

impl JobArgs {
    fn with(self, wanted: Wanted) -> Checked {
        Ok((JobOptions { job: self.job, wanted }, self.common.check()?))
    }

    fn end(self, end: EarlyEnd, whose: &LocalArgs) -> Checked {
        let wanted = if whose.is_meant() { Wanted::EndHere } else { Wanted::End };
        let (options, overrides) = self.with(wanted(end))?;
        Ok((options, Overrides { state_dir: whose.overrides().state_dir, ..overrides }))
    }
}

/// Why the job waits.
pub(crate) fn why(job: String, common: CommonArgs) -> Checked {
    Ok((JobOptions { job, wanted: Wanted::Why }, common.check()?))
}

impl FetchArgs {
    pub(crate) fn check(self) -> Checked {
        let state_dir = self.whose.overrides().state_dir;
        let ResultArgs { output, limit, job } = self.result;
        let wanted = if self.whose.is_meant() { Wanted::FetchHere } else { Wanted::Fetch };
        let (options, overrides) = job.with(wanted(output))?;
        Ok((options, Overrides { state_dir, ..limit.over(overrides) }))
    }
}

impl AttachArgs {
    pub(crate) fn check(self) -> Checked {
        let ResultArgs { output, limit, job } = self.result;
        let (options, overrides) = job.with(Wanted::Attach { output, after: self.after.after })?;
        Ok((options, self.log.over(self.notify.over(limit.over(overrides)))))
    }
}

impl LogsArgs {
    pub(crate) fn check(self) -> Checked {
        self.job.with(Wanted::Logs { follow: self.follow, after: self.after.after })
    }
}

impl StopArgs {
    pub(crate) fn check(self) -> Checked {
        self.job.end(EarlyEnd::Stop { all: self.all }, &self.whose)
    }
}

impl CancelArgs {
    pub(crate) fn check(self) -> Checked {
        self.job.end(EarlyEnd::Cancel, &self.whose)
    }
}

/// Lists the jobs that this user has submitted from this machine.
pub(crate) fn list(args: &ListArgs, config: &Config) -> Result<Exit, Failure> {
    if args.whose.is_meant() {
        return local::list(config);
    }
    let records = Record::all(&config.client.jobs_dir);
    if records.is_empty() {
        print::line("you have not submitted any jobs from this machine").exit(Exit::Unexpected)?;
    }
    for record in records {
        print::line(&job_row(&record, now_s())?).exit(Exit::Unexpected)?;
        if args.strings {
            print::line(&format!("    {}", record.string())).exit(Exit::Unexpected)?;
        }
    }
    Ok(Exit::Success)
}

/// A job as `jobs` shows it: what it is, its last known state, and what to do next.
fn job_row(record: &Record, now: u64) -> Result<String, ClientError> {
    let JobString { job, worker, .. } = record.job_string()?;
    let worker = record.host.clone().unwrap_or_else(|| worker.to_string());
    let LastSeen { state, event, at_s, route, progress } = &record.last_seen;
    let is_running = matches!(state, SeenState::Running { .. });
    let progress = progress.as_ref().filter(|_| is_running);
    let progress = progress.map(|progress| format!(": {progress}")).unwrap_or_default();
    let route = route.as_ref().map(|route| format!(" ({route})")).unwrap_or_default();
    let kind = record.job_type.as_str();
    let is_training = record.job_type == JobType::Training;
    let (submitted, seen) = (ago(now, record.submitted_s), ago(now, *at_s));
    let output = record.output();
    let place = output.path().display();
    let (state, next) = match state {
        SeenState::Submitted => ("submitted".to_owned(), format!("sleap-rtc attach {job}")),
        SeenState::Waiting { place, starts_in_s } => {
            let text = format!("waiting ({})", standing(*place, *starts_in_s));
            (text, format!("sleap-rtc attach {job}"))
        }
        SeenState::Running { run } => {
            let run = run.as_ref().map_or(String::new(), |run| format!(" ({run})"));
            (format!("running{run}"), format!("sleap-rtc attach {job}"))
        }
        SeenState::Over { fetched: true, outcome } => {
            (outcome.words().to_owned(), format!("its result is in {place}"))
        }
        SeenState::Over { outcome, .. } if outcome.is_success() => {
            (outcome.words().to_owned(), format!("sleap-rtc fetch {job}"))
        }
        SeenState::Over { outcome, .. } if is_training && *outcome != JobOutcome::Cancelled => {
            let next = format!("sleap-rtc logs {job}; sleap-rtc fetch {job} brings what it saved");
            (outcome.words().to_owned(), next)
        }
        SeenState::Over { outcome, .. } => {
            (outcome.words().to_owned(), format!("sleap-rtc logs {job}"))
        }
        SeenState::Refused { why } => {
            (format!("refused: {why}"), "submit it again once that is fixed".to_owned())
        }
        SeenState::Unknown => ("unknown".to_owned(), format!("sleap-rtc attach {job}")),
    };
    Ok(format!(
        "{job}  {kind}  {name}  {state}\n    submitted {submitted} to {worker}{route}; last seen {seen}, \
         at event {event}{progress}\n    {next}",
        name = record.name
    ))
}

/// Runs a command for an existing job.
pub(crate) async fn run(
    options: JobOptions,
    mut config: Config,
    interrupts: Interrupts,
) -> Result<Exit, Failure> {
    match options.wanted {
        Wanted::FetchHere(output) => return local::fetch(&options.job, output, &config),
        Wanted::EndHere(end) => return end_here::end(&options.job, end, &config).await,
        _ => {}
    }
    let (job_ref, record) = if JobString::looks_like_one(&options.job) {
        let job_ref = options.job.parse::<JobString>();
        (job_ref.map_err(|error| Failure::usage(format!("the job string: {error}")))?, None)
    } else {
        let record = record::find(&config.client.jobs_dir, &options.job)?;
        config.signaling = record.servers(&config.signaling);
        (record.job_string()?, Some(record))
    };
    let action = match options.wanted {
        Wanted::Attach { output, after } => {
            Action::Attach { output: place(output, record.as_ref())?, after }
        }
        Wanted::Fetch(output) | Wanted::FetchHere(output) => {
            let place = place(output, record.as_ref())?;
            if record.is_some_and(|record| record.has_result_at(place.path())) {
                return already_there(&place);
            }
            Action::Fetch(place)
        }
        Wanted::Logs { follow, after } => Action::Logs { follow, after },
        Wanted::End(EarlyEnd::Stop { all }) | Wanted::EndHere(EarlyEnd::Stop { all }) => {
            Action::Stop { all }
        }
        Wanted::End(EarlyEnd::Cancel) | Wanted::EndHere(EarlyEnd::Cancel) => Action::Cancel,
        Wanted::Why => Action::Why,
    };
    let said = match action {
        Action::Stop { all: false } => Some(
            "the model that is being trained ends early and is kept; if further ones follow, the next \
             trains on (`--all` stops all); a job that still waits is withdrawn; `sleap-rtc attach` \
             waits for its end",
        ),
        Action::Stop { all: true } => Some(
            "the job ends early and keeps the model that is being trained; a job that still waits is \
             withdrawn; `sleap-rtc attach` waits for its end",
        ),
        Action::Cancel => Some("the job is cancelled"),
        _ => None,
    };
    if let Some(place) = existing_job::run(&config, &job_ref, action, interrupts).await? {
        let place = std::path::absolute(&place).unwrap_or(place);
        print::line(&format!("Done: the result is in {}", place.display()))
            .exit(Exit::Unexpected)?;
    }
    if let Some(said) = said {
        print::line(said).exit(Exit::Unexpected)?;
    }
    Ok(Exit::Success)
}

/// Says that a result need not be downloaded again.
fn already_there(place: &Output) -> Result<Exit, Failure> {
    let path = std::path::absolute(place.path()).unwrap_or_else(|_| place.path().to_owned());
    let text = format!(
        "The result is already in {}; `--output PATH` downloads it to another place",
        path.display()
    );
    print::line(&text).exit(Exit::Unexpected)?;
    Ok(Exit::Success)
}

/// The path for a result. Without a record, the path determines the kind of result: predictions end
/// in `.slp`.
fn place(output: Option<PathBuf>, record: Option<&Record>) -> Result<Output, Failure> {
    match (output, record) {
        (Some(path), Some(record)) if record.job_type == JobType::Inference => {
            Ok(Output::Predictions(path))
        }
        (Some(path), None) if path.extension().is_some_and(|ending| ending == "slp") => {
            Ok(Output::Predictions(path))
        }
        (Some(path), _) => Ok(Output::Models(path)),
        (None, Some(record)) => Ok(record.output()),
        (None, None) => Err(ClientError::from(UnknownJob::NoOutput))?,
    }
}
