//! The ways to connect to a worker, and which options go together.

use super::environment::{Environment, SecretText};
use super::exit::Failure;
use crate::client::rooms::SavedRoom;
use crate::client::{Choose, Join, ViewerPorts};
use clap::Args;
use sleap_rtc_protocol::ids::{PeerId, RoomName};
use sleap_rtc_signaling::client::Servers;

/// Options that choose a worker.
#[derive(Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectArgs {
    /// Room that this device has paired with, by its name in `sleap-rtc rooms` [default: the only one]
    #[arg(long, value_name = "NAME", conflicts_with_all = ["session_string", "room_id", "token"])]
    room: Option<RoomName>,
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
    /// Where the room is, if this device has paired with it.
    pub servers: Option<Servers>,
    /// The least memory of a worker's largest GPU.
    pub min_gpu_memory_mib: Option<u64>,
    /// The ports of SLEAP's loss viewer, if it should receive updates.
    pub gui: Option<ViewerPorts>,
}

const WAYS: &str = "\
to join a worker's room, run `sleap-rtc pair CODE` with the code that it shows;
to connect to one worker, give the --session-string STRING that it printed;
to choose a worker from a room's list, give --room-id ID and --token TOKEN;
to use the room's best available worker, add --auto-select; to name one, add --worker-id PEER_ID";

impl ConnectArgs {
    /// Allows all workers of the room, for commands that choose none.
    pub(crate) fn consider_all(&mut self) {
        self.auto_select |= self.session_string.is_none() && self.worker_id.is_none();
    }

    /// Checks for conflicts, then parses the values. Until the options are known to fit together, reads
    /// nothing but the rooms that this device knows.
    pub(crate) fn check(self, environment: &mut Environment) -> Result<ConnectOptions, Failure> {
        self.conflicts(environment)?;
        let saved = self.saved_room(environment)?;
        self.choice(saved.is_some(), environment)?;
        let servers = saved.as_ref().map(|saved| saved.servers.clone());
        let gui = self.gui_ports()?;
        let (python_worker, min_gpu_memory_mib) = (self.python_worker, self.min_gpu_memory);
        let join = self.join(saved, environment)?;
        Ok(ConnectOptions { join, servers, python_worker, min_gpu_memory_mib, gui })
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
        } else {
            return Ok(());
        };
        Err(Failure::usage(text))
    }

    /// The room that this device has paired with, where the options name no other.
    fn saved_room(&self, environment: &Environment) -> Result<Option<SavedRoom>, Failure> {
        match self.session_string.is_some() || self.room_id.is_some() {
            true => Ok(None),
            false => environment.rooms.find(self.room.as_ref()),
        }
    }

    /// Checks that there is a room, and that a worker can be chosen there.
    fn choice(&self, has_saved: bool, environment: &Environment) -> Result<(), Failure> {
        let choice = given(&[
            ("--auto-select", self.auto_select),
            ("--worker-id", self.worker_id.is_some()),
        ]);
        let session = self.session_string.is_some();
        let has_room = has_saved || self.room_id.is_some();
        if !session && !has_room && !choice.is_empty() {
            let text = format!(
                "{choice} needs --room-id and --token, or a room that this device has paired with: it \
                 chooses among the workers of a room"
            );
            return Err(Failure::usage(text).hint(WAYS));
        }
        if !session && !has_room {
            return Err(Failure::usage("no worker was chosen").hint(WAYS));
        }
        if !session && choice.is_empty() && !environment.stdin_is_terminal {
            return Err(Failure::usage(
                "standard input is not a terminal, so the worker cannot be chosen from a list",
            )
            .hint("use --auto-select for the best available worker, or --worker-id PEER_ID for a certain one"));
        }
        Ok(())
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

    fn join(
        self,
        saved: Option<SavedRoom>,
        environment: &mut Environment,
    ) -> Result<Join, Failure> {
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
        if let Some(SavedRoom { credential, .. }) = saved {
            return Ok(Join::Room { credentials: credential, choose });
        }
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
