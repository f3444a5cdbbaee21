//! The ways to connect to a worker, and which options go together.

use super::environment::{Environment, SecretText};
use super::exit::Failure;
use crate::client::{Choose, Join, ViewerPorts};
use clap::Args;
use sleap_rtc_protocol::ids::PeerId;

/// Options that choose a worker.
#[derive(Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectArgs {
    /// Session string that a worker printed; connects to that worker
    #[arg(short, long, value_name = "STRING")]
    session_string: Option<SecretText>,
    /// Room whose workers to choose from; needs --token
    #[arg(short, long, value_name = "ID")]
    room_id: Option<String>,
    /// The room's token, or `-` to read it from standard input [env: SLEAP_RTC_TOKEN]
    #[arg(short, long, value_name = "TOKEN", allow_hyphen_values = true)]
    token: Option<SecretText>,
    /// Use this worker of the room
    #[arg(short, long, value_name = "PEER_ID")]
    worker_id: Option<String>,
    /// Use the best available worker of the room; the default policy prefers GPU memory
    #[arg(short, long)]
    auto_select: bool,
    /// Also use Python workers, which cannot prove who they are: this trusts the signaling server
    #[arg(long)]
    python_worker: bool,
    /// Only use workers whose largest GPU has this much memory, in MB (MiB, as in nvidia-smi)
    #[arg(long, value_name = "MB", value_parser = whole_mb, allow_hyphen_values = true)]
    min_gpu_memory: Option<u64>,
    /// Feed SLEAP's loss viewer, which must be open
    #[arg(long)]
    gui: bool,
    /// Port for the loss viewer's commands [default: 9000]; implies --gui
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    controller_port: Option<u16>,
    /// Port for the loss viewer's updates [default: 9001]; implies --gui
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    publish_port: Option<u16>,
}

/// The checked choice of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectOptions {
    /// How to find the worker.
    pub join: Join,
    /// Whether Python workers are used where others prove who they are.
    pub python_worker: bool,
    /// The least memory of a worker's largest GPU.
    pub min_gpu_memory_mib: Option<u64>,
    /// The ports of SLEAP's loss viewer, if it should receive updates.
    pub gui: Option<ViewerPorts>,
}

const WAYS: &str = "\
to connect to one worker, give the --session-string STRING that it printed;
to choose a worker from a room's list, give --room-id ID and --token TOKEN;
to use the room's best available worker, add --auto-select; to name one, add --worker-id PEER_ID";

impl ConnectArgs {
    /// Allows all workers of the room, for commands that choose none.
    pub(crate) fn consider_all(&mut self) {
        self.auto_select |= self.room_id.is_some() && self.worker_id.is_none();
    }

    /// Checks for conflicts, then parses the values. Reads nothing until the options are known to
    /// fit together.
    pub(crate) fn check(self, environment: &mut Environment) -> Result<ConnectOptions, Failure> {
        self.conflicts(environment)?;
        let gui = self.gui_ports()?;
        let (python_worker, min_gpu_memory_mib) = (self.python_worker, self.min_gpu_memory);
        Ok(ConnectOptions { join: self.join(environment)?, python_worker, min_gpu_memory_mib, gui })
    }

    fn conflicts(&self, environment: &Environment) -> Result<(), Failure> {
        let room =
            given(&[("--room-id", self.room_id.is_some()), ("--token", self.token.is_some())]);
        let choice = given(&[
            ("--auto-select", self.auto_select),
            ("--worker-id", self.worker_id.is_some()),
        ]);
        let session = self.session_string.is_some();
        let has_token = self.token.is_some() || environment.token.is_some();
        let text = if session && !room.is_empty() {
            format!(
                "--session-string cannot be used together with {room}: a session string already \
                 contains the room and its token"
            )
        } else if session && !choice.is_empty() {
            format!(
                "--session-string cannot be used together with {choice}: a session string already \
                 encodes its target worker"
            )
        } else if self.auto_select && self.worker_id.is_some() {
            "--auto-select and --worker-id are mutually exclusive: one lets the policy choose the \
             worker, the other names it"
                .into()
        } else if self.room_id.is_some() && !has_token {
            "--room-id and --token are required together: --token is missing".into()
        } else if self.token.is_some() && self.room_id.is_none() {
            "--room-id and --token are required together: --room-id is missing".into()
        } else if !session && !choice.is_empty() && self.room_id.is_none() {
            format!("{choice} needs --room-id and --token: it chooses among the workers of a room")
        } else if !session && self.room_id.is_none() {
            return Err(Failure::usage("no worker was chosen").hint(WAYS));
        } else if !session && choice.is_empty() && !environment.stdin_is_terminal {
            return Err(Failure::usage(
                "standard input is not a terminal, so the worker cannot be chosen from a list",
            )
            .hint("use --auto-select for the best available worker, or --worker-id PEER_ID for a certain one"));
        } else {
            return Ok(());
        };
        Err(Failure::usage(text))
    }

    fn gui_ports(&self) -> Result<Option<ViewerPorts>, Failure> {
        if !self.gui && self.controller_port.is_none() && self.publish_port.is_none() {
            return Ok(None);
        }
        let controller = self.controller_port.unwrap_or(9000);
        let publish = self.publish_port.unwrap_or(9001);
        if controller == publish {
            return Err(Failure::usage(format!(
                "--controller-port and --publish-port are both {publish}, but the viewer needs two \
                 different ports"
            )));
        }
        Ok(Some(ViewerPorts { controller, publish }))
    }

    fn join(self, environment: &mut Environment) -> Result<Join, Failure> {
        if let Some(SecretText(text)) = self.session_string {
            let session = text.parse();
            return session
                .map(Join::Session)
                .map_err(|error| Failure::usage(format!("--session-string: {error}")));
        }
        let choose = match self.worker_id {
            Some(id) => Choose::Worker(
                PeerId::new(id).map_err(|error| Failure::usage(format!("--worker-id: {error}")))?,
            ),
            None if self.auto_select => Choose::Auto,
            None => Choose::Prompt,
        };
        // `conflicts` has checked that both were given.
        let (Some(room_id), Some(token)) =
            (self.room_id, self.token.or_else(|| environment.token.clone()))
        else {
            return Err(Failure::usage("no worker was chosen").hint(WAYS));
        };
        let credentials = environment.credentials(&room_id, token)?.for_clients();
        Ok(Join::Room { credentials, choose })
    }
}

fn given(options: &[(&str, bool)]) -> String {
    let given: Vec<&str> =
        options.iter().filter(|option| option.1).map(|option| option.0).collect();
    given.join(" and ")
}

pub(crate) fn whole_mb(text: &str) -> Result<u64, &'static str> {
    text.parse().map_err(|_| "expects a whole number of MB, such as 16000")
}
