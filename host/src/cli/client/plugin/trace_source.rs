//! Where the trace of a simulation comes from: a file, a recipe, or the folders of jobs that have run.

#[cfg(feature = "worker")]
mod folders;

use super::super::description::read_json;
use super::super::exit::{Exit, ExitWith, Failure};
use clap::{ArgGroup, Args};
use sleap_rtc_policy::simulate::generate::{Recipe, generate};
use sleap_rtc_policy::simulate::trace::{Trace, TraceWorker};
use sleap_rtc_protocol::signaling::{PeerInfo, Role};
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// One of the trace's sources must be given, and the error names them all.
const SOURCE: &str = "source";

/// Where the trace comes from.
#[derive(Args)]
#[command(group = ArgGroup::new(SOURCE).required(true).multiple(true))]
pub(crate) struct TraceArgs {
    /// The trace: workers and jobs as lines of JSON
    #[arg(value_name = "TRACE", group = SOURCE, conflicts_with = "generate")]
    trace: Option<PathBuf>,
    /// Make up the trace
    #[arg(long, group = SOURCE)]
    generate: bool,
    /// Take the finished jobs of this state folder of a worker; repeatable, needs --room
    #[cfg(feature = "worker")]
    #[arg(long, value_name = "DIR", requires = "room", group = SOURCE,
        conflicts_with_all = ["generate", "trace"])]
    jobs_of: Vec<PathBuf>,
    /// The room's workers, as printed by `sleap-rtc room snapshot`
    #[arg(long, value_name = "ROOM.json", conflicts_with = "trace")]
    room: Option<PathBuf>,
    /// Keep the trace in this file
    #[arg(long, value_name = "FILE", conflicts_with = "trace")]
    save: Option<PathBuf>,
    #[command(flatten)]
    recipe: RecipeArgs,
}

/// How a trace is made up.
#[derive(Args)]
#[command(next_help_heading = "Made-up traces, with --generate")]
struct RecipeArgs {
    /// The same seed makes the same trace
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// How many jobs
    #[arg(long, value_name = "NUMBER", default_value_t = 1000,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    jobs: u32,
    /// How many users; the first submits most
    #[arg(long, value_name = "NUMBER", default_value_t = 6,
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    users: u32,
    /// How many workers, unless --room names some
    #[arg(long, value_name = "NUMBER", default_value_t = 4,
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    workers: u32,
    /// Jobs in an hour of a working day
    #[arg(long, value_name = "NUMBER", default_value_t = 8.0, value_parser = positive)]
    per_hour: f64,
    /// The share of tracking jobs, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.3, value_parser = share)]
    tracking: f64,
    /// Make the second week the one before a deadline
    #[arg(long)]
    deadline_week: bool,
}

fn positive(text: &str) -> Result<f64, &'static str> {
    let number = text.parse().ok().filter(|number| (0.001..=1e6).contains(number));
    number.ok_or("expects a number from 0.001 to 1000000")
}

fn share(text: &str) -> Result<f64, &'static str> {
    let number = text.parse().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or("expects a number from 0 to 1")
}

/// Where the trace comes from, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TraceSource {
    /// A file.
    File(PathBuf),
    /// It is made up, and kept in `save`.
    Recipe { recipe: Recipe, room: Option<PathBuf>, save: Option<PathBuf> },
    /// The jobs of these state folders, for the workers of a room.
    #[cfg(feature = "worker")]
    Jobs { state_dirs: Vec<PathBuf>, room: PathBuf, save: Option<PathBuf> },
}

impl TraceArgs {
    pub(crate) fn check(self) -> TraceSource {
        #[cfg(feature = "worker")]
        if let (false, Some(room)) = (self.jobs_of.is_empty(), &self.room) {
            let room = room.clone();
            return TraceSource::Jobs { state_dirs: self.jobs_of, room, save: self.save };
        }
        match self.trace {
            Some(trace) => TraceSource::File(trace),
            None => {
                let recipe = self.recipe.check();
                TraceSource::Recipe { recipe, room: self.room, save: self.save }
            }
        }
    }
}

impl RecipeArgs {
    fn check(self) -> Recipe {
        let Self { seed, jobs, users, workers, per_hour, tracking, deadline_week } = self;
        let (jobs, users, workers) = (jobs as usize, users as usize, workers as usize);
        Recipe { seed, jobs, users, workers, per_hour, tracking, deadline_week }
    }
}

impl TraceSource {
    /// Reads, makes up or collects the trace.
    pub(crate) fn trace(&self) -> Result<Trace, Failure> {
        let (trace, save) = match self {
            Self::File(path) => return read(path),
            Self::Recipe { recipe, room, save } => {
                let room = room.as_ref().map(|room| workers(room)).transpose()?;
                (generate(recipe, room), save)
            }
            #[cfg(feature = "worker")]
            Self::Jobs { state_dirs, room, save } => {
                (folders::trace(state_dirs, workers(room)?)?, save)
            }
        };
        if let Some(path) = save {
            let text = trace.to_text().exit(Exit::Unexpected)?;
            fs::write(path, text).map_err(|error| cannot("write", path, error))?;
        }
        Ok(trace)
    }
}

fn read(path: &Path) -> Result<Trace, Failure> {
    let file = File::open(path).map_err(|error| cannot("read", path, error))?;
    Trace::read(BufReader::new(file))
        .map_err(|error| Failure::usage(format!("{} is not a trace: {error}", path.display())))
}

/// The workers of a recorded room.
fn workers(room: &Path) -> Result<Vec<TraceWorker>, Failure> {
    let peers: Vec<PeerInfo> = read_json("--room", room, "a list of peers")?;
    let workers = peers.iter().filter(|peer| peer.role != Role::Client);
    let workers: Vec<_> = workers.map(TraceWorker::from_peer).collect();
    match workers.is_empty() {
        true => Err(Failure::usage(format!("{} has no workers", room.display()))),
        false => Ok(workers),
    }
}

pub(crate) fn cannot(what: &str, path: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::usage(format!("cannot {what} {}: {error}", path.display()))
}
