//! The command line: arguments become checked options, and each subcommand a call.
//!
//! Order of every invocation: arguments, conflicts between them, files that they name, the
//! configuration; only then logging starts and something runs. Whatever is wrong until there ends
//! with exit code 2 and no socket opened.

mod ambient;
pub mod client_track;
pub mod client_train;
mod common;
pub mod connect;
pub mod exit;
pub mod logging;
pub mod print;
pub mod run_job;
#[cfg(test)]
mod tests;
pub mod worker;

use crate::config::{self, Config, Overrides};
use ambient::Ambient;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use client_track::{TrackArgs, TrackOptions};
use client_train::{TrainArgs, TrainOptions};
use exit::{EXIT_CODES, Exit, Failure};
use logging::{LogArgs, LogOptions};
use std::ffi::OsString;
use std::path::PathBuf;
use worker::{WorkerArgs, WorkerOptions};

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
    /// Serve jobs on this machine's GPUs
    #[command(after_help = worker::EXAMPLES)]
    Worker(WorkerArgs),
    /// Train models on a worker
    #[command(after_help = client_train::EXAMPLES)]
    ClientTrain(TrainArgs),
    /// Predict with trained models on a worker
    #[command(after_help = client_track::EXAMPLES)]
    ClientTrack(TrackArgs),
    /// Old name of client-train
    #[command(hide = true)]
    Client(TrainArgs),
    /// Own one job; started by the worker
    #[command(hide = true)]
    RunJob(run_job::Args),
}

/// What to do, with all that it needs.
#[derive(Debug)]
pub enum Command {
    /// `worker`
    Worker(WorkerOptions, Box<Config>),
    /// `client-train`
    ClientTrain(TrainOptions, Box<Config>),
    /// `client-track`
    ClientTrack(TrackOptions, Box<Config>),
    /// `run-job`
    RunJob(run_job::Args),
}

/// A checked command line.
#[derive(Debug)]
pub struct Invocation {
    /// How to log.
    pub log: LogOptions,
    /// `SLEAP_RTC_LOG`: a filter that stands over `log`.
    pub log_filter: Option<String>,
    /// What to do.
    pub command: Command,
    /// What the user should hear of first, one sentence each.
    pub warnings: Vec<String>,
}

/// Why there is nothing to run.
#[derive(Debug)]
enum Stop {
    /// Help, a version, or a word that clap does not know.
    Clap(clap::Error),
    Failure(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// Reads the command line and everything that it names. `Err` when there is nothing to run: help
/// was asked for, or something is wrong, and the user has been told.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, Exit> {
    parse_in(arguments, &mut Ambient::from_process()).map_err(|stop| match stop {
        Stop::Clap(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Success };
            // Nothing can be done when the reader has gone.
            let _ = error.print();
            exit
        }
        Stop::Failure(failure) => fail(&failure),
    })
}

/// Tells the user why the program ends, and with which code.
pub fn fail(failure: &Failure) -> Exit {
    print::error(&failure.report());
    failure.exit
}

fn parse_in(
    arguments: impl IntoIterator<Item = OsString>,
    ambient: &mut Ambient,
) -> Result<Invocation, Stop> {
    let matches = grammar().try_get_matches_from(arguments).map_err(Stop::Clap)?;
    let cli = Cli::from_arg_matches(&matches).map_err(Stop::Clap)?;
    let log = cli.log.options(matches!(cli.command, CommandArgs::Worker(_)));
    let mut warnings = Vec::new();
    let sources = (ambient.sources)(cli.config);
    let mut load = |overrides: Overrides| -> Result<_, Failure> {
        let mut config = config::load(&sources, overrides)?;
        warnings.append(&mut config.warnings);
        Ok(Box::new(config))
    };
    let deprecated = matches!(cli.command, CommandArgs::Client(_));
    let command = match cli.command {
        CommandArgs::Worker(args) => {
            let (options, overrides) = args.check(ambient)?;
            Command::Worker(options, load(overrides)?)
        }
        CommandArgs::ClientTrain(args) | CommandArgs::Client(args) => {
            let (options, overrides) = args.check(ambient)?;
            Command::ClientTrain(options, load(overrides)?)
        }
        CommandArgs::ClientTrack(args) => {
            let (options, overrides) = args.check(ambient)?;
            Command::ClientTrack(options, load(overrides)?)
        }
        CommandArgs::RunJob(args) => Command::RunJob(args),
    };
    if deprecated {
        warnings.push("`sleap-rtc client` is deprecated: use `sleap-rtc client-train`".into());
    }
    Ok(Invocation { log, log_filter: ambient.log.take(), command, warnings })
}

/// The derived grammar, each long option with underscores too: the Python program's users have
/// scripts with `--pkg_path`.
fn grammar() -> clap::Command {
    let underscores = |arg: clap::Arg| match arg.get_long().map(|long| long.replace('-', "_")) {
        Some(alias) if alias.contains('_') => arg.alias(alias),
        _ => arg,
    };
    let command = Cli::command().mut_args(underscores);
    command.mut_subcommands(move |subcommand| subcommand.mut_args(underscores))
}

/// Does it.
pub async fn run(command: Command) -> Result<Exit, Failure> {
    let name = match command {
        Command::Worker(..) => "worker",
        Command::ClientTrain(..) => "client-train",
        Command::ClientTrack(..) => "client-track",
        Command::RunJob(_) => "run-job",
    };
    Err(Failure::message(Exit::Unexpected, format!("`{name}` is not wired yet")))
}
