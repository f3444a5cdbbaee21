//! The command line: arguments become checked options, and each subcommand a call.
//!
//! Every invocation checks, in this order, the arguments, the conflicts between them, the files that
//! they name, and the configuration. Only then does logging start and the command run. Every error
//! before that ends the program with exit code 2 and without opening a socket.

pub mod client_track;
pub mod client_train;
mod common;
pub mod connect;
mod description;
mod environment;
pub mod exit;
mod interrupt;
pub mod jobs;
mod local;
pub mod logging;
pub mod plugin;
pub mod print;
mod ranking;
pub mod room;
pub mod run_job;
pub mod signaling;
mod submit;
#[cfg(test)]
mod tests;
pub mod worker;

use crate::config::{self, Config, Overrides};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use client_track::{TrackArgs, TrackOptions};
use client_train::{TrainArgs, TrainOptions};
use environment::Environment;
use exit::{EXIT_CODES, Exit, ExitWith, Failure};
use logging::{LogArgs, LogOptions};
use plugin::{PluginArgs, PluginOptions};
use room::{RoomArgs, RoomOptions, WhyArgs, WhyOptions};
use signaling::{SignalingArgs, SignalingOptions};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use worker::WorkerArgs;

/// Train and track with SLEAP on another machine's GPU
#[derive(Parser)]
#[command(name = "sleap-rtc", version, after_help = EXIT_CODES, arg_required_else_help = true)]
struct Cli {
    /// Configuration file [default: sleap-rtc.toml here, else ~/.sleap-rtc/config.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    log: LogArgs,
    #[command(subcommand)]
    command: CommandArgs,
}

#[derive(Subcommand)]
enum CommandArgs {
    /// Run the server where workers and clients meet
    #[command(after_help = signaling::EXAMPLES)]
    Signaling(SignalingArgs),
    /// Run jobs on this machine's GPUs
    #[command(after_help = worker::EXAMPLES)]
    Worker(WorkerArgs),
    /// Train models on a worker
    #[command(after_help = client_train::EXAMPLES)]
    ClientTrain(TrainArgs),
    /// Predict with trained models on a worker
    #[command(after_help = client_track::EXAMPLES)]
    ClientTrack(TrackArgs),
    /// List the jobs that you submitted from this machine
    Jobs(jobs::ListArgs),
    /// Reattach to a job: show its log, then download its result
    Attach(jobs::AttachArgs),
    /// Show a job's log
    Logs(jobs::LogsArgs),
    /// End a training early and keep its model
    Stop(jobs::StopArgs),
    /// End a job now, without a result
    Cancel(jobs::JobArgs),
    /// Download a finished job's result (repeatable)
    Fetch(jobs::FetchArgs),
    /// Show which worker of a room would get a job, and why
    #[command(after_help = room::WHY_EXAMPLES)]
    Why(WhyArgs),
    /// Show the workers of a room
    #[command(after_help = room::ROOM_EXAMPLES)]
    Room(RoomArgs),
    /// Create, test and install policy plugins
    #[command(after_help = plugin::EXAMPLES)]
    Plugin(PluginArgs),
    /// The old name of client-train
    #[command(hide = true)]
    Client(TrainArgs),
    /// Print what the GPU driver reports; started by the worker
    #[command(name = sleap_rtc_gpu::SUBCOMMAND, hide = true)]
    SurveyGpus,
    /// Run one job; started by the worker
    #[command(hide = true)]
    RunJob(run_job::Args),
}

/// What to do, with checked options.
#[derive(Debug)]
pub enum Command {
    /// `signaling`
    Signaling(SignalingOptions, Box<Config>),
    /// `worker`
    Worker(crate::worker::WorkerOptions, Box<Config>),
    /// `client-train`
    ClientTrain(TrainOptions, Box<Config>),
    /// `client-track`
    ClientTrack(TrackOptions, Box<Config>),
    /// `jobs`
    Jobs(jobs::ListArgs, Box<Config>),
    /// `attach`, `logs`, `stop`, `cancel`, `fetch`
    ExistingJob(jobs::JobOptions, Box<Config>),
    /// `why`
    Why(WhyOptions, Box<Config>),
    /// `room list`, `room snapshot`
    Room(RoomOptions, Box<Config>),
    /// `plugin`
    Plugin(PluginOptions, Box<Config>),
    /// `survey-gpus`
    SurveyGpus,
    /// `run-job`
    RunJob(run_job::Args),
}

/// A checked command line.
#[derive(Debug)]
pub struct Invocation {
    /// How to log.
    pub log: LogOptions,
    /// `SLEAP_RTC_LOG`: a filter that overrides `log`.
    pub log_filter: Option<String>,
    /// What to do.
    pub command: Command,
    /// Warnings to log first, one sentence each.
    pub warnings: Vec<String>,
}

/// Why there is nothing to run.
#[derive(Debug)]
enum Stop {
    /// Help, the version, or an argument that clap rejects.
    Clap(clap::Error),
    Failure(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// How long the program waits, when it ends, for a thread that reads the user's next line.
const PROMPT_GRACE: Duration = Duration::from_secs(1);

/// The whole program, from arguments to exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let exit = match parse(arguments) {
        Ok(invocation) => start(invocation).unwrap_or_else(|failure| fail(&failure)),
        Err(exit) => exit,
    };
    exit.into()
}

fn start(invocation: Invocation) -> Result<Exit, Failure> {
    logging::init(invocation.log, invocation.log_filter.as_deref())?;
    for warning in &invocation.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Unexpected, error))?;
    let result = runtime.block_on(run(invocation.command));
    runtime.shutdown_timeout(PROMPT_GRACE);
    result
}

/// Reads the command line and everything that it names. `Err` means that there is nothing to run:
/// the help or an error has been printed.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, Exit> {
    parse_in(arguments, &mut Environment::from_process()).map_err(|stop| match stop {
        Stop::Clap(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Success };
            // Nothing can be done if standard output is closed.
            let _ = error.print();
            exit
        }
        Stop::Failure(failure) => fail(&failure),
    })
}

/// Prints why the program ends, and returns its exit code.
pub fn fail(failure: &Failure) -> Exit {
    print::error(&failure.report());
    failure.exit
}

fn parse_in(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &mut Environment,
) -> Result<Invocation, Stop> {
    let matches = grammar().try_get_matches_from(arguments).map_err(Stop::Clap)?;
    let cli = Cli::from_arg_matches(&matches).map_err(Stop::Clap)?;
    let log = cli.log.options(matches!(cli.command, CommandArgs::Worker(_)));
    let mut warnings = Vec::new();
    let sources = (environment.sources)(cli.config);
    let mut load = |overrides: Overrides| -> Result<_, Failure> {
        let mut config = config::load(&sources, overrides)?;
        warnings.append(&mut config.warnings);
        Ok(Box::new(config))
    };
    let deprecated = matches!(cli.command, CommandArgs::Client(_));
    let command = match cli.command {
        CommandArgs::Signaling(args) => {
            Command::Signaling(args.check(), load(Overrides::default())?)
        }
        CommandArgs::Worker(args) => {
            let (options, overrides) = args.check(environment)?;
            Command::Worker(options, load(overrides)?)
        }
        CommandArgs::ClientTrain(args) | CommandArgs::Client(args) => {
            let (options, overrides) = args.check(environment)?;
            Command::ClientTrain(options, load(overrides)?)
        }
        CommandArgs::ClientTrack(args) => {
            let (options, overrides) = args.check(environment)?;
            Command::ClientTrack(options, load(overrides)?)
        }
        CommandArgs::Jobs(args) => {
            let overrides = args.whose.overrides();
            Command::Jobs(args, load(overrides)?)
        }
        CommandArgs::Attach(args) => existing_job(args.check()?, &mut load)?,
        CommandArgs::Logs(args) => existing_job(args.check()?, &mut load)?,
        CommandArgs::Stop(args) => existing_job(args.check()?, &mut load)?,
        CommandArgs::Cancel(args) => existing_job(args.cancel()?, &mut load)?,
        CommandArgs::Fetch(args) => existing_job(args.check()?, &mut load)?,
        CommandArgs::Why(args) => {
            let (options, overrides) = args.check(environment)?;
            Command::Why(options, load(overrides)?)
        }
        CommandArgs::Room(args) => {
            let (options, overrides) = args.check(environment)?;
            Command::Room(options, load(overrides)?)
        }
        CommandArgs::Plugin(args) => Command::Plugin(args.check(), load(Overrides::default())?),
        CommandArgs::SurveyGpus => Command::SurveyGpus,
        CommandArgs::RunJob(args) => Command::RunJob(args),
    };
    if deprecated {
        warnings.push("`sleap-rtc client` is deprecated: use `sleap-rtc client-train`".into());
    }
    Ok(Invocation { log, log_filter: environment.log.take(), command, warnings })
}

/// The derived grammar, which accepts each long option with underscores too: scripts for the Python
/// program use `--pkg_path`.
fn grammar() -> clap::Command {
    with_underscores(Cli::command())
}

fn with_underscores(command: clap::Command) -> clap::Command {
    let underscores = |arg: clap::Arg| match arg.get_long().map(|long| long.replace('-', "_")) {
        Some(alias) if alias.contains('_') => arg.alias(alias),
        _ => arg,
    };
    command.mut_args(underscores).mut_subcommands(with_underscores)
}

fn existing_job(
    (options, overrides): (jobs::JobOptions, Overrides),
    load: &mut impl FnMut(Overrides) -> Result<Box<Config>, Failure>,
) -> Result<Command, Failure> {
    Ok(Command::ExistingJob(options, load(overrides)?))
}

/// Runs the command.
pub async fn run(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Signaling(options, config) => signaling::run(options, config.server).await,
        Command::Worker(options, config) => worker::run(options, *config).await,
        Command::ClientTrain(options, config) => submit::train(options, *config).await,
        Command::ClientTrack(options, config) => submit::track(options, *config).await,
        Command::Jobs(args, config) => jobs::list(&args, &config),
        Command::ExistingJob(options, config) => jobs::run(options, *config).await,
        Command::Why(options, config) => room::why(options, &config).await,
        Command::Room(options, config) => room::show(&options, &config).await,
        Command::Plugin(options, config) => plugin::run(options, &config.policy).await,
        Command::SurveyGpus => {
            let survey = serde_json::to_string(&sleap_rtc_gpu::survey()).exit(Exit::Unexpected)?;
            print::line(&survey).exit(Exit::Unexpected)?;
            Ok(Exit::Success)
        }
        Command::RunJob(args) => {
            run_job::run(args).await?;
            Ok(Exit::Success)
        }
    }
}
