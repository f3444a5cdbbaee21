//! `sleap-rtc room` and `sleap-rtc why`: show a room without starting a job, or say who is in it.

use super::common::CommonArgs;
use super::connect::whole_mb;
use super::description::load_job_description;
use super::environment::{Environment, SecretText};
use super::exit::{Exit, ExitWith, Failure};
#[cfg(feature = "worker")]
use super::invite::{self, InviteArgs};
#[cfg(feature = "worker")]
use super::members::{self, MembersArgs, RemoveArgs, RemoveOptions};
use super::ranking::{PluginNames, ranking};
use super::{interrupt, print};
use crate::client::{self, Choose, Join, package};
use crate::config::{Config, Overrides};
#[cfg(feature = "worker")]
use crate::worker::pairing::Invited;
use clap::{Args, Subcommand};
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::ids::RoomName;
use sleap_rtc_protocol::job::{JobDescription, JobType};
use sleap_rtc_signaling::client::Servers;
use std::path::PathBuf;

/// The examples under `why --help`.
pub(crate) const WHY_EXAMPLES: &str = "\
Examples:
  Who would get a job in the room that this device has paired with, and why the others would not:
    sleap-rtc why
  The same for this job, with at least 16 GB of GPU memory:
    sleap-rtc why --room-id ROOM --token TOKEN --job labels.pkg.zip --min-gpu-memory 16000
  Why a job of yours waits, and who is before it:
    sleap-rtc why JOB";

/// The examples under `room --help`.
pub(crate) const ROOM_EXAMPLES: &str = "\
Examples:
  List the workers and their running jobs:
    sleap-rtc room list --room northlab
  Record a room to test a plugin with:
    sleap-rtc room snapshot --room-id ROOM --token TOKEN > room.json
  Pair one more laptop with the worker that runs on this machine, for 90 days:
    sleap-rtc room invite --for 90d
  See who is a member of that worker's room, and remove one:
    sleap-rtc room members
    sleap-rtc room remove ada@laptop";

/// Which room.
#[derive(Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct WhichRoom {
    /// Room that this device has paired with, by its name in `sleap-rtc rooms` [default: the only one]
    #[arg(long, value_name = "NAME", conflicts_with_all = ["session_string", "room_id", "token"])]
    room: Option<RoomName>,
    /// Session string that a worker of the room printed
    #[arg(short, long, value_name = "STRING", conflicts_with = "room_id")]
    session_string: Option<SecretText>,
    /// Room; needs --token
    #[arg(short, long, value_name = "ID")]
    room_id: Option<String>,
    /// The room's token, or `-` to read it from standard input [env: SLEAP_RTC_TOKEN]
    #[arg(short, long, value_name = "TOKEN", allow_hyphen_values = true)]
    token: Option<SecretText>,
}

impl WhichRoom {
    /// Whether the user has named a room.
    pub(crate) fn is_given(&self) -> bool {
        self.room.is_some() || self.session_string.is_some() || self.room_id.is_some()
    }

    pub(crate) fn check(
        self,
        environment: &mut Environment,
    ) -> Result<(Join, Option<Servers>), Failure> {
        if let Some(SecretText(text)) = self.session_string {
            let session = text.parse();
            return session
                .map(|session| (Join::Session(session), None))
                .map_err(|error| Failure::usage(format!("--session-string: {error}")));
        }
        let choose = Choose::Auto;
        if self.room_id.is_none()
            && self.token.is_none()
            && let Some(saved) = environment.rooms.find(self.room.as_ref())?
        {
            let servers = Some(saved.servers);
            return Ok((Join::Room { credentials: saved.credential, choose }, servers));
        }
        let (room_id, token) = (self.room_id, self.token.or_else(|| environment.token.clone()));
        let (Some(room_id), Some(token)) = (room_id, token) else {
            let text = "give --room-id and --token, or the --session-string of one of the room's \
                        workers; or join the room by `sleap-rtc pair CODE`";
            return Err(Failure::usage("no room was chosen").hint(text));
        };
        let credentials = environment.credentials(&room_id, token)?.for_clients();
        Ok((Join::Room { credentials, choose }, None))
    }
}

/// The options of `why`.
#[derive(Args)]
pub struct WhyArgs {
    /// A job that waits, by its id or its job string: say why, instead
    #[arg(value_name = "JOB", conflicts_with_all = ["job", "min_gpu_memory", "session_string", "room", "room_id", "token"])]
    pub(crate) waiting: Option<String>,
    /// Training package, or a job's description as JSON [default: an unspecified training]
    #[arg(short, long, value_name = "PKG")]
    job: Option<PathBuf>,
    /// Only consider workers whose largest GPU has this much memory, in MB (MiB, as in nvidia-smi)
    #[arg(long, value_name = "MB", value_parser = whole_mb, allow_hyphen_values = true)]
    min_gpu_memory: Option<u64>,
    #[command(flatten)]
    room: WhichRoom,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// The room and the job, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WhyOptions {
    join: Join,
    job: Option<PathBuf>,
    min_gpu_memory_mib: Option<u64>,
}

impl WhyArgs {
    pub(crate) fn check(
        self,
        environment: &mut Environment,
    ) -> Result<(WhyOptions, Overrides), Failure> {
        let (join, servers) = self.room.check(environment)?;
        let (job, min_gpu_memory_mib) = (self.job, self.min_gpu_memory);
        Ok((WhyOptions { join, job, min_gpu_memory_mib }, self.common.check()?.or_servers(servers)))
    }
}

/// The options of `room`.
#[derive(Args)]
pub struct RoomArgs {
    #[command(subcommand)]
    command: RoomCommand,
}

#[derive(Subcommand)]
enum RoomCommand {
    /// List the room's workers, including busy ones, and their running jobs
    List(SnapshotArgs),
    /// Print the room's workers as JSON, for `plugin test`
    Snapshot(SnapshotArgs),
    /// Show a pairing code of the worker that runs on this machine, and wait until it was used
    #[cfg(feature = "worker")]
    Invite(InviteArgs),
    /// List the members of the room of the worker that runs on this machine
    #[cfg(feature = "worker")]
    Members(MembersArgs),
    /// Remove a member: every worker of the room refuses it from then on, and the room's token changes
    #[cfg(feature = "worker")]
    Remove(RemoveArgs),
}

#[derive(Args)]
struct SnapshotArgs {
    #[command(flatten)]
    room: WhichRoom,
    #[command(flatten)]
    common: CommonArgs,
}

impl RoomArgs {
    pub(crate) fn check(
        self,
        environment: &mut Environment,
    ) -> Result<(RoomOptions, Overrides), Failure> {
        let (args, as_json) = match self.command {
            RoomCommand::List(args) => (args, false),
            RoomCommand::Snapshot(args) => (args, true),
            #[cfg(feature = "worker")]
            RoomCommand::Invite(args) => {
                let (invited, overrides) = args.check();
                return Ok((RoomOptions::Invite(invited), overrides));
            }
            #[cfg(feature = "worker")]
            RoomCommand::Members(args) => return Ok((RoomOptions::Members, args.check())),
            #[cfg(feature = "worker")]
            RoomCommand::Remove(args) => {
                let (options, overrides) = args.check();
                return Ok((RoomOptions::Remove(options), overrides));
            }
        };
        let (join, servers) = args.room.check(environment)?;
        Ok((RoomOptions::Show { join, as_json }, args.common.check()?.or_servers(servers)))
    }
}

/// What to do with a room.
#[derive(Debug)]
pub enum RoomOptions {
    /// Show its workers.
    Show {
        /// Which room.
        join: Join,
        /// Whether as JSON.
        as_json: bool,
    },
    /// Invite a device to the room of this machine's worker.
    #[cfg(feature = "worker")]
    Invite(Invited),
    /// List the members of that room.
    #[cfg(feature = "worker")]
    Members,
    /// Remove one of them.
    #[cfg(feature = "worker")]
    Remove(RemoveOptions),
}

/// Shows the room, or its members, or changes who they are.
pub(crate) async fn run(options: &RoomOptions, config: &Config) -> Result<Exit, Failure> {
    match options {
        RoomOptions::Show { join, as_json } => show(join, *as_json, config).await,
        #[cfg(feature = "worker")]
        RoomOptions::Invite(invited) => invite::run(*invited, config).await,
        #[cfg(feature = "worker")]
        RoomOptions::Members => members::list(config).await,
        #[cfg(feature = "worker")]
        RoomOptions::Remove(options) => members::remove(options, config).await,
    }
}

/// Prints the room's workers, for people or as JSON.
async fn show(join: &Join, as_json: bool, config: &Config) -> Result<Exit, Failure> {
    let mut interrupts = interrupt::while_following_a_job()?;
    let peers = client::snapshot(config, join, &mut interrupts).await?;
    if !as_json {
        let rows = peers.iter().map(|peer| client::row("-", &WorkerFacts::from_peer(peer)));
        let text = rows.collect::<Vec<_>>().concat();
        let text =
            if text.is_empty() { "there are no workers in this room" } else { text.trim_end() };
        print::line(text).exit(Exit::Unexpected)?;
        return Ok(Exit::Success);
    }
    let text = serde_json::to_string_pretty(&peers).exit(Exit::Unexpected)?;
    print::line(&text).exit(Exit::Unexpected)?;
    Ok(Exit::Success)
}

/// Explains the room's ranking for the job that the options name.
pub(crate) async fn why(options: WhyOptions, config: &Config) -> Result<Exit, Failure> {
    let user = Some(client::user(&config.client));
    let min_gpu_memory_mib = options.min_gpu_memory_mib;
    let hashes = package::hashes(&config.client);
    let job = match &options.job {
        Some(path) => load_job_description("--job", path, min_gpu_memory_mib, user, hashes).await?,
        None => {
            let mut job = JobDescription::unknown(JobType::Training);
            job.requirements.min_gpu_memory_mib = min_gpu_memory_mib;
            JobDescription { user, ..job }
        }
    };
    explain(&options.join, config, &job).await
}

/// Prints each worker of the room with its rank, score and reason, or why it is left out.
///
/// Exits as the job would: with [`Exit::NoWorker`] if no worker is ranked.
pub(crate) async fn explain(
    join: &Join,
    config: &Config,
    job: &JobDescription,
) -> Result<Exit, Failure> {
    let mut interrupts = interrupt::while_following_a_job()?;
    let (workers, selection) = client::explain(config, join, job, &mut interrupts).await?;
    print::raw(&ranking(&workers, &selection, PluginNames::Shown)).exit(Exit::Unexpected)?;
    match (workers.is_empty(), selection.ranking.is_empty()) {
        (true, _) => Err(Failure::message(Exit::NoWorker, "there are no workers in this room")),
        (_, true) => {
            Err(Failure::message(Exit::NoWorker, "no worker in this room takes the job now"))
        }
        _ => Ok(Exit::Success),
    }
}
