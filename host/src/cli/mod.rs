//! The command line: parses arguments into checked options, and runs the subcommand.
//!
//! Every invocation checks, in this order, the arguments, the conflicts between them, the files that
//! they name, and the configuration. Only then does logging start and the command run. Every error
//! before that ends the program with exit code 2 and without opening a socket.

mod argv;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "peer")]
mod common;
#[cfg(feature = "worker")]
pub mod confine;
#[cfg(feature = "client")]
mod doctor;
mod documents;
#[cfg_attr(not(feature = "peer"), allow(dead_code, reason = "a server asks nobody for a token"))]
mod environment;
pub mod exit;
#[cfg(feature = "client")]
mod findings;
mod first_steps;
#[cfg(unix)]
mod init;
#[cfg(any(feature = "signaling", feature = "worker"))]
mod interrupt;
#[cfg(feature = "client")]
mod known_rooms;
pub mod logging;
#[cfg(feature = "peer")]
mod nearby;
#[cfg(feature = "client")]
mod netcheck;
mod on_path;
pub mod print;
#[cfg(feature = "worker")]
pub mod run_job;
#[cfg(all(feature = "worker", feature = "signaling"))]
mod serve;
#[cfg(all(target_os = "linux", any(feature = "worker", feature = "signaling")))]
mod service;
#[cfg(feature = "signaling")]
pub mod signaling;
#[cfg(test)]
#[cfg(feature = "default")]
mod tests;
mod version;
#[cfg(feature = "worker")]
pub mod worker;

use crate::config::{self, Config, Overrides};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use environment::Environment;
use exit::{EXIT_CODES, Exit, Failure};
use logging::{LogArgs, LogOptions};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Train and track with SLEAP on another machine's GPU
#[derive(Parser)]
#[command(name = "sleap-rtc", version = version::text(), after_help = EXIT_CODES, arg_required_else_help = true)]
struct Cli {
    /// Configuration file [default: sleap-rtc.toml here, else ~/.sleap-rtc/config.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    log: LogArgs,
    #[command(subcommand)]
    command: CommandArgs,
}

#[allow(clippy::large_enum_variant, reason = "there is one in the life of a program")]
#[derive(Subcommand)]
enum CommandArgs {
    /// Run the server where workers and clients meet
    #[cfg(feature = "signaling")]
    #[command(after_help = signaling::EXAMPLES)]
    Signaling(signaling::SignalingArgs),
    /// Run jobs on this machine's GPUs
    #[cfg(feature = "worker")]
    #[command(after_help = worker::EXAMPLES)]
    Worker(worker::WorkerArgs),
    #[cfg(feature = "client")]
    #[command(flatten)]
    Client(client::ClientArgs),
    /// Check this machine before a job waits for it: GPUs, trainer, disk, server, …
    #[cfg(feature = "client")]
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(doctor::DoctorArgs),
    /// Check what this machine's network lets through: server, proxy, UDP, relay, …
    #[cfg(feature = "client")]
    #[command(after_help = netcheck::EXAMPLES)]
    Netcheck(netcheck::NetcheckArgs),
    /// Let systemd run a worker or a signaling server for you
    #[cfg(all(target_os = "linux", any(feature = "worker", feature = "signaling")))]
    #[command(after_help = service::EXAMPLES)]
    Service(service::ServiceArgs),
    /// Print a script that completes commands and options in your shell
    #[command(after_help = documents::EXAMPLES)]
    Completions(documents::CompletionsArgs),
    /// Write the manual pages into a folder; for packages of this program
    #[command(hide = true)]
    Man(documents::ManArgs),
    /// Print what the GPU driver reports; started by the worker
    #[cfg(feature = "worker")]
    #[command(name = sleap_rtc_gpu::SUBCOMMAND, hide = true)]
    SurveyGpus,
    /// Run one job; started by the worker
    #[cfg(feature = "worker")]
    #[command(hide = true)]
    RunJob(run_job::Args),
    /// Confine this process and become a trainer; started by the process of a job
    #[cfg(feature = "worker")]
    #[command(name = sleap_rtc_job::confinement::SUBCOMMAND, hide = true)]
    Confine(confine::ConfineArgs),
}

impl CommandArgs {
    #[cfg(feature = "worker")]
    fn is_worker(&self) -> bool {
        matches!(self, Self::Worker(_))
    }

    #[cfg(not(feature = "worker"))]
    fn is_worker(&self) -> bool {
        false
    }
}

/// A subcommand with checked options.
#[allow(clippy::large_enum_variant, reason = "there is one in the life of a program")]
#[derive(Debug)]
pub enum Command {
    /// `signaling`
    #[cfg(feature = "signaling")]
    Signaling(signaling::SignalingOptions, Box<Config>),
    /// `worker`
    #[cfg(feature = "worker")]
    Worker(worker::WorkerCommand, Box<Config>),
    /// A client's command.
    #[cfg(feature = "client")]
    Client(client::ClientCommand, Box<Config>),
    /// `doctor`
    #[cfg(feature = "client")]
    Doctor(doctor::DoctorOptions, Box<Config>),
    /// `netcheck`
    #[cfg(feature = "client")]
    Netcheck(netcheck::NetcheckOptions, Box<Config>),
    /// `service`
    #[cfg(all(target_os = "linux", any(feature = "worker", feature = "signaling")))]
    Service(service::ServiceOptions),
    /// `completions`
    Completions(documents::CompletionsArgs),
    /// `man`
    Man(documents::ManArgs),
    /// `survey-gpus`
    #[cfg(feature = "worker")]
    SurveyGpus,
    /// `run-job`
    #[cfg(feature = "worker")]
    RunJob(run_job::Args),
    /// `confine`
    #[cfg(feature = "worker")]
    Confine(confine::ConfineArgs),
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
    /// Details to log next: which configuration file counts.
    pub details: Vec<String>,
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
    #[cfg(unix)]
    if init::is_wanted() {
        return init::run(arguments.into_iter())
            .map_or_else(|failure| fail(&failure).into(), ExitCode::from);
    }
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // Where it cannot be done, the documentation says what to do instead.
    let _ = argv::hide_secrets();
    if arguments.len() <= 1 {
        return first_steps::show().unwrap_or_else(|failure| fail(&failure)).into();
    }
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
    for detail in &invocation.details {
        tracing::debug!("{detail}");
    }
    #[cfg(feature = "worker")]
    if let Command::Confine(args) = &invocation.command {
        return confine::run(args);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Unexpected, error))?;
    // Beyond the limit of a file's size, writing fails with words instead of ending the process.
    #[cfg(unix)]
    let _kept = runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))
    });
    let result = runtime.block_on(run(invocation.command));
    runtime.shutdown_timeout(PROMPT_GRACE);
    result
}

/// Reads the command line and the files that it names. `Err` means that there is nothing to run,
/// because the help or an error has been printed.
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
    let log = cli.log.options(cli.command.is_worker());
    let (mut warnings, mut details) = (Vec::new(), Vec::new());
    let sources = (environment.sources)(cli.config);
    environment.look_for_rooms_in(&sources);
    let mut load = |overrides: Overrides| -> Result<_, Failure> {
        let mut config = config::load(&sources, overrides)?;
        warnings.append(&mut config.warnings);
        details.push(config.source());
        Ok(Box::new(config))
    };
    let command = match cli.command {
        #[cfg(feature = "signaling")]
        CommandArgs::Signaling(args) => {
            Command::Signaling(args.check(), load(Overrides::default())?)
        }
        #[cfg(feature = "worker")]
        CommandArgs::Worker(args) => {
            let (command, overrides) = args.check(environment)?;
            Command::Worker(command, load(overrides)?)
        }
        #[cfg(feature = "client")]
        CommandArgs::Client(args) => {
            let warning = args.warning();
            let (command, overrides) = args.check(environment)?;
            let config = load(overrides)?;
            warnings.extend(warning.map(str::to_owned));
            Command::Client(command, config)
        }
        #[cfg(feature = "client")]
        CommandArgs::Doctor(args) => {
            let (options, overrides) = args.check(environment)?;
            Command::Doctor(options, load(overrides)?)
        }
        #[cfg(feature = "client")]
        CommandArgs::Netcheck(args) => {
            let (options, overrides) = args.check(environment)?;
            Command::Netcheck(options, load(overrides)?)
        }
        #[cfg(all(target_os = "linux", any(feature = "worker", feature = "signaling")))]
        CommandArgs::Service(args) => {
            Command::Service(args.check(sources.file.clone(), environment, &mut warnings)?)
        }
        CommandArgs::Completions(args) => Command::Completions(args),
        CommandArgs::Man(args) => Command::Man(args),
        #[cfg(feature = "worker")]
        CommandArgs::SurveyGpus => Command::SurveyGpus,
        #[cfg(feature = "worker")]
        CommandArgs::RunJob(args) => Command::RunJob(args),
        #[cfg(feature = "worker")]
        CommandArgs::Confine(args) => Command::Confine(args),
    };
    Ok(Invocation { log, log_filter: environment.log.take(), command, warnings, details })
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

/// Runs the command.
pub async fn run(command: Command) -> Result<Exit, Failure> {
    match command {
        #[cfg(feature = "signaling")]
        Command::Signaling(options, config) => signaling::run(options, config.server).await,
        #[cfg(feature = "worker")]
        Command::Worker(command, config) => worker::run(command, *config).await,
        #[cfg(feature = "client")]
        Command::Client(command, config) => client::run(command, *config).await,
        #[cfg(feature = "client")]
        Command::Doctor(options, config) => doctor::run(options, &config).await,
        #[cfg(feature = "client")]
        Command::Netcheck(options, config) => netcheck::run(options, &config).await,
        #[cfg(all(target_os = "linux", any(feature = "worker", feature = "signaling")))]
        Command::Service(options) => service::run(options).await,
        Command::Completions(args) => documents::completions(&args),
        Command::Man(args) => documents::man(&args),
        #[cfg(feature = "worker")]
        Command::SurveyGpus => worker::survey_gpus(),
        #[cfg(feature = "worker")]
        Command::RunJob(args) => Ok(run_job::run(args).await?),
        #[cfg(feature = "worker")]
        Command::Confine(args) => confine::run(&args),
    }
}
