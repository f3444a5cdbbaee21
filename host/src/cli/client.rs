//! The subcommands for people who submit jobs.

mod connect;
mod description;
mod early_end;
#[cfg_attr(not(feature = "worker"), path = "client/end_here/absent.rs")]
mod end_here;
#[cfg(feature = "worker")]
mod estimates;
mod exit_codes;
mod interrupt;
#[cfg(feature = "worker")]
mod invite;
mod jobs;
mod limit;
#[cfg_attr(not(feature = "worker"), path = "client/local/absent.rs")]
mod local;
mod log;
#[cfg(feature = "worker")]
mod members;
mod notify;
mod pair;
mod paths;
mod plugin;
mod queue;
mod ranking;
mod report;
mod room;
mod rooms;
mod submit;
mod submit_args;
mod top;
pub mod track;
pub mod train;
#[cfg(feature = "worker")]
mod worker_folder;

use super::environment::Environment;
use super::exit::{Exit, Failure};
use super::{common, environment, exit, nearby, print};
use crate::client::Join;
use crate::config::{Config, Overrides};
use clap::Subcommand;
use pair::{PairArgs, PairOptions};
use plugin::{PluginArgs, PluginOptions};
use queue::{QueueArgs, QueueOptions};
pub(super) use room::WhichRoom;
use room::{RoomArgs, RoomOptions, WhyArgs, WhyOptions};
use rooms::RoomsArgs;
use top::TopArgs;
use track::{TrackArgs, TrackOptions};
use train::{TrainArgs, TrainOptions};

#[derive(Subcommand)]
pub(crate) enum ClientArgs {
    /// Train models on a worker
    #[command(visible_alias = "train", after_help = train::EXAMPLES)]
    ClientTrain(TrainArgs),
    /// Predict with trained models on a worker
    #[command(visible_alias = "track", after_help = track::EXAMPLES)]
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
    Cancel(jobs::CancelArgs),
    /// Download a finished job's result (repeatable)
    Fetch(jobs::FetchArgs),
    /// Write one file about a finished job: curves, settings, numbers and pictures
    #[command(after_help = report::EXAMPLES)]
    Report(report::ReportArgs),
    /// Compare what this machine's worker had estimated with what its jobs took
    #[cfg(feature = "worker")]
    #[command(after_help = estimates::EXAMPLES)]
    Estimates(estimates::EstimatesArgs),
    /// Show what runs and what waits on each worker of a room
    #[command(after_help = queue::EXAMPLES)]
    Queue(QueueArgs),
    /// Show a room on the whole screen: workers, jobs, queue, and the losses of your own jobs
    #[command(after_help = top::EXAMPLES)]
    Top(TopArgs),
    /// Show which worker of a room would get a job, and why; or why a job waits
    #[command(after_help = room::WHY_EXAMPLES)]
    Why(WhyArgs),
    /// Join a room by the code that one of its workers shows
    #[command(after_help = pair::EXAMPLES)]
    Pair(PairArgs),
    /// List, rename or forget the rooms that this device has paired with
    #[command(after_help = rooms::EXAMPLES)]
    Rooms(RoomsArgs),
    /// Show the workers of a room, or invite a device to the room of this machine's worker
    #[command(after_help = room::ROOM_EXAMPLES)]
    Room(RoomArgs),
    /// Create, test and install policy plugins
    #[command(after_help = plugin::EXAMPLES)]
    Plugin(PluginArgs),
    /// The old name of client-train
    #[command(hide = true)]
    Client(TrainArgs),
}

/// What to do, with checked options.
#[derive(Debug)]
pub enum ClientCommand {
    /// `client-train`
    Train(TrainOptions),
    /// `client-track`
    Track(TrackOptions),
    /// `jobs`
    Jobs(jobs::ListArgs),
    /// `attach`, `logs`, `stop`, `cancel`, `fetch`
    ExistingJob(jobs::JobOptions),
    /// `report`
    Report(report::ReportArgs),
    /// `estimates`
    #[cfg(feature = "worker")]
    Estimates,
    /// `queue`
    Queue(QueueOptions),
    /// `top`
    Top(Join),
    /// `why`
    Why(WhyOptions),
    /// `room list`, `room snapshot`, `room invite`
    Room(RoomOptions),
    /// `pair`
    Pair(PairOptions),
    /// `rooms`
    Rooms(RoomsArgs),
    /// `plugin`
    Plugin(PluginOptions),
}

impl ClientCommand {
    /// Whether it needs a signaling server, and no record of a job names one.
    fn goes_to_a_room(&self) -> bool {
        match self {
            Self::Train(_) | Self::Track(_) | Self::Top(_) | Self::Why(_) | Self::Pair(_) => true,
            Self::Queue(options) => matches!(options, QueueOptions::Room(_)),
            Self::Room(options) => matches!(options, RoomOptions::Show { .. }),
            _ => false,
        }
    }
}

impl ClientArgs {
    /// A warning to log before the command runs.
    pub(crate) fn warning(&self) -> Option<&'static str> {
        matches!(self, Self::Client(_))
            .then_some("`sleap-rtc client` is deprecated: use `sleap-rtc client-train`")
    }

    pub(crate) fn check(
        self,
        environment: &mut Environment,
    ) -> Result<(ClientCommand, Overrides), Failure> {
        let (command, overrides) = match self {
            Self::ClientTrain(args) | Self::Client(args) => {
                let (options, overrides) = args.check(environment)?;
                (ClientCommand::Train(options), overrides)
            }
            Self::ClientTrack(args) => {
                let (options, overrides) = args.check(environment)?;
                (ClientCommand::Track(options), overrides)
            }
            Self::Jobs(args) => {
                let overrides = args.overrides();
                (ClientCommand::Jobs(args), overrides)
            }
            Self::Attach(args) => existing_job(args.check()?),
            Self::Logs(args) => existing_job(args.check()?),
            Self::Stop(args) => existing_job(args.check()?),
            Self::Cancel(args) => existing_job(args.check()?),
            Self::Fetch(args) => existing_job(args.check()?),
            Self::Report(args) => (ClientCommand::Report(args), Overrides::default()),
            #[cfg(feature = "worker")]
            Self::Estimates(args) => (ClientCommand::Estimates, args.check()?),
            Self::Queue(args) => {
                let (options, overrides) = args.check(environment)?;
                (ClientCommand::Queue(options), overrides)
            }
            Self::Top(args) => {
                let (join, overrides) = args.check(environment)?;
                (ClientCommand::Top(join), overrides)
            }
            Self::Why(WhyArgs { waiting: Some(job), common, .. }) => {
                existing_job(jobs::why(job, common)?)
            }
            Self::Why(args) => {
                let (options, overrides) = args.check(environment)?;
                (ClientCommand::Why(options), overrides)
            }
            Self::Room(args) => {
                let (options, overrides) = args.check(environment)?;
                (ClientCommand::Room(options), overrides)
            }
            Self::Pair(args) => {
                let (options, overrides) = args.check(environment)?;
                (ClientCommand::Pair(options), overrides)
            }
            Self::Rooms(args) => (ClientCommand::Rooms(args), Overrides::default()),
            Self::Plugin(args) => (ClientCommand::Plugin(args.check()), Overrides::default()),
        };
        Ok((command, overrides))
    }
}

fn existing_job((options, overrides): (jobs::JobOptions, Overrides)) -> (ClientCommand, Overrides) {
    (ClientCommand::ExistingJob(options), overrides)
}

/// Runs the command.
pub(crate) async fn run(command: ClientCommand, config: Config) -> Result<Exit, Failure> {
    let config = match command.goes_to_a_room() {
        true => nearby::with_server(config).await?,
        false => config,
    };
    match command {
        ClientCommand::Train(options) => submit::train(options, config).await,
        ClientCommand::Track(options) => submit::track(options, config).await,
        ClientCommand::Jobs(args) => jobs::list(&args, &config),
        ClientCommand::ExistingJob(options) => {
            jobs::run(options, config, interrupt::while_following_a_job()?).await
        }
        ClientCommand::Report(args) => report::run(args, &config).await,
        #[cfg(feature = "worker")]
        ClientCommand::Estimates => estimates::show(&config),
        ClientCommand::Queue(options) => queue::run(options, &config).await,
        ClientCommand::Top(join) => top::run(join, config).await,
        ClientCommand::Why(options) => room::why(options, &config).await,
        ClientCommand::Room(options) => room::run(&options, &config).await,
        ClientCommand::Pair(options) => pair::run(&options, &config).await,
        ClientCommand::Rooms(args) => rooms::run(args, &config).await,
        ClientCommand::Plugin(options) => plugin::run(options, &config.policy).await,
    }
}
