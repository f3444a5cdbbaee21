//! `sleap-rtc worker`: runs jobs on this machine's GPUs.

use super::common::CommonArgs;
use super::environment::{Environment, SecretText};
use super::exit::{Exit, ExitWith, Failure};
use super::{interrupt, nearby, print};
use crate::config::{Config, Overrides};
use crate::worker::{self, WorkerError, WorkerOptions, WorkerRoom};
use sleap_rtc_base::os::at_each_hang_up;
use std::path::PathBuf;

/// The examples under `--help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  Return to the last room, or make one at the first start:
    sleap-rtc worker
  Join another worker's room, so that clients can choose between both:
    sleap-rtc worker --room-id ROOM --token TOKEN
  Join it by the code that `sleap-rtc room invite --worker` shows on the other worker's machine:
    sleap-rtc worker --pair CODE
  Be the signaling server of your lab at the same time:
    sleap-rtc worker --serve
  Discard identity and room, so that old session strings and tokens stop working:
    sleap-rtc worker --new-room";

/// The options of `worker`.
#[derive(clap::Args)]
pub struct WorkerArgs {
    /// Join this room; needs --token
    #[arg(short, long, value_name = "ID")]
    room_id: Option<String>,
    /// The room's token, or `-` to read it from standard input [env: SLEAP_RTC_TOKEN]
    #[arg(short, long, value_name = "TOKEN", allow_hyphen_values = true)]
    token: Option<SecretText>,
    /// Join the room of the worker that shows this code (`sleap-rtc room invite --worker` there)
    #[arg(long, value_name = "CODE", conflicts_with_all = ["room_id", "token", "new_room"])]
    pair: Option<SecretText>,
    /// Discard the identity and the room of the last start, and make new ones
    #[arg(long)]
    new_room: bool,
    /// Also write session string, room id and token to this file, readable only by you
    #[arg(long, value_name = "FILE")]
    credentials_file: Option<PathBuf>,
    /// State folder, for identity, room and jobs
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Be the signaling server too, for a lab that has none
    #[cfg(feature = "signaling")]
    #[arg(long, conflicts_with_all = ["signaling", "pair"])]
    serve: bool,
    /// Take no new jobs, and report this in the room; existing jobs stay reachable
    #[arg(long)]
    maintenance: bool,
    /// On SIGTERM or Ctrl-C, wait for running jobs; without this they keep running on their own
    #[arg(long)]
    drain: bool,
    #[command(flatten)]
    common: CommonArgs,
}

/// `sleap-rtc worker`, checked.
#[derive(Debug)]
pub struct WorkerCommand {
    /// How the worker starts.
    pub(crate) options: WorkerOptions,
    /// Where it meets its clients.
    meeting_place: MeetingPlace,
}

/// Where the signaling server of a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MeetingPlace {
    /// At the configured address.
    Elsewhere,
    /// In this process.
    #[cfg(feature = "signaling")]
    Here,
}

impl WorkerArgs {
    pub(crate) fn check(
        self,
        environment: &mut Environment,
    ) -> Result<(WorkerCommand, Overrides), Failure> {
        let has_token = self.token.is_some() || environment.token.is_some();
        if self.new_room && (self.room_id.is_some() || self.token.is_some()) {
            return Err(Failure::usage(
                "--new-room cannot be used together with --room-id and --token: it makes a new room \
                 instead of joining one",
            ));
        }
        if self.room_id.is_some() && !has_token {
            return Err(Failure::usage(
                "--room-id and --token are required together: --token is missing",
            ));
        }
        if self.room_id.is_none() && self.token.is_some() {
            return Err(Failure::usage(
                "--room-id and --token are required together: --room-id is missing",
            ));
        }
        let (state_dir, maintenance) = (self.state_dir, self.maintenance);
        let overrides = Overrides { state_dir, maintenance, ..self.common.check()? };
        let code = self.pair.map(|SecretText(code)| code.parse()).transpose()?;
        let token = self.token.or_else(|| environment.token.clone());
        let room = match (code, self.room_id, token) {
            (Some(code), ..) => WorkerRoom::Pair(code),
            (None, Some(room_id), Some(token)) => {
                WorkerRoom::Join(environment.credentials(&room_id, token)?)
            }
            _ if self.new_room => WorkerRoom::New,
            _ => WorkerRoom::Kept,
        };
        let (credentials_file, drain) = (self.credentials_file, self.drain);
        #[cfg(feature = "signaling")]
        let meeting_place = if self.serve { MeetingPlace::Here } else { MeetingPlace::Elsewhere };
        #[cfg(not(feature = "signaling"))]
        let meeting_place = MeetingPlace::Elsewhere;
        let options = WorkerOptions { room, credentials_file, drain, served_at: None };
        Ok((WorkerCommand { options, meeting_place }, overrides))
    }
}

/// Runs until Ctrl-C or SIGTERM; a second one ends it at once. SIGHUP is ignored: jobs outlive the
/// terminal from which their worker was started.
pub(crate) async fn run(command: WorkerCommand, config: Config) -> Result<Exit, Failure> {
    let shutdown = interrupt::until_asked_to_end()?;
    at_each_hang_up(|| tracing::info!("SIGHUP is ignored; SIGTERM ends the worker"))
        .exit(Exit::Unexpected)?;
    match command.meeting_place {
        MeetingPlace::Elsewhere => {
            let ended = shutdown.run_until_cancelled(nearby::with_server(config)).await;
            let Some(config) = ended else { return Ok(Exit::Success) };
            worker::run(config?, command.options, shutdown).await?;
        }
        #[cfg(feature = "signaling")]
        MeetingPlace::Here => super::serve::run(command.options, config, shutdown).await?,
    }
    Ok(Exit::Success)
}

/// Prints what the GPU driver reports.
pub(crate) fn survey_gpus() -> Result<Exit, Failure> {
    let survey = serde_json::to_string(&sleap_rtc_gpu::survey()).exit(Exit::Unexpected)?;
    print::line(&survey).exit(Exit::Unexpected)?;
    Ok(Exit::Success)
}

impl From<WorkerError> for Failure {
    fn from(error: WorkerError) -> Self {
        let exit = match &error {
            WorkerError::Signaling(_) | WorkerError::Endpoint(_) | WorkerError::Pair(_) => {
                Exit::Connect
            }
            WorkerError::Identity(_)
            | WorkerError::Policy(_)
            | WorkerError::Sandbox(_)
            | WorkerError::Slots(_)
            | WorkerError::Members(_)
            | WorkerError::NoProc
            | WorkerError::Token(_)
            | WorkerError::Credentials { .. } => Exit::Usage,
        };
        let hint = match &error {
            WorkerError::Signaling(error) => error.advice(),
            WorkerError::Pair(error) => error.advice(),
            _ => None,
        };
        Self { hint, ..Self::new(exit, error) }
    }
}
