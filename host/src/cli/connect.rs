//! The ways to connect to a worker, and which options go together.

use super::ambient::{Ambient, SecretText};
use super::exit::Failure;
use crate::client::{Choose, Join, ViewerPorts};
use clap::Args;
use sleap_rtc_protocol::ids::PeerId;

/// Options that say which worker, and what of it.
#[derive(Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectArgs {
    /// What a worker printed: goes straight to that worker
    #[arg(short, long, value_name = "STRING")]
    session_string: Option<SecretText>,
    /// The room whose workers to choose from; needs --token
    #[arg(short, long, value_name = "ID")]
    room_id: Option<String>,
    /// The room's token; `-` reads a line from standard input, and SLEAP_RTC_TOKEN works too
    #[arg(short, long, value_name = "TOKEN", allow_hyphen_values = true)]
    token: Option<SecretText>,
    /// Take this worker of the room
    #[arg(short, long, value_name = "PEER_ID")]
    worker_id: Option<String>,
    /// Take the best available worker of the room: the default policy prefers GPU memory
    #[arg(short, long)]
    auto_select: bool,
    /// Only workers whose largest GPU has this much memory, in MB (MiB, as nvidia-smi counts)
    #[arg(long, value_name = "MB", value_parser = whole_mb, allow_hyphen_values = true)]
    min_gpu_memory: Option<u64>,
    /// Feed SLEAP's own loss viewer, which must be open
    #[arg(long)]
    gui: bool,
    /// Port of the loss viewer's commands (9000); implies --gui
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    controller_port: Option<u16>,
    /// Port of the loss viewer's updates (9001); implies --gui
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    publish_port: Option<u16>,
}

/// Which worker, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectOptions {
    /// How to find the worker.
    pub join: Join,
    /// Only workers whose largest GPU has this much memory.
    pub min_gpu_memory_mib: Option<u64>,
    /// SLEAP's loss viewer, when it is to be fed.
    pub gui: Option<ViewerPorts>,
}

const WAYS: &str = "\
give --session-string STRING for the worker that printed it,
or --room-id ID and --token TOKEN for a room, to choose one of its workers from a list;
with --auto-select the best available worker is taken, with --worker-id PEER_ID that one";

impl ConnectArgs {
    /// The whole room is looked at, so nobody needs to choose.
    pub(super) fn choose_nobody(&mut self) {
        self.auto_select |= self.room_id.is_some() && self.worker_id.is_none();
    }

    /// Conflicts first, then values; nothing is read, and no socket opened, before all options are
    /// known to go together.
    pub(super) fn check(self, ambient: &mut Ambient) -> Result<ConnectOptions, Failure> {
        self.conflicts(ambient)?;
        let gui = self.gui_ports()?;
        let min_gpu_memory_mib = self.min_gpu_memory;
        Ok(ConnectOptions { join: self.join(ambient)?, min_gpu_memory_mib, gui })
    }

    fn conflicts(&self, ambient: &Ambient) -> Result<(), Failure> {
        let room =
            given(&[("--room-id", self.room_id.is_some()), ("--token", self.token.is_some())]);
        let choice = given(&[
            ("--auto-select", self.auto_select),
            ("--worker-id", self.worker_id.is_some()),
        ]);
        let session = self.session_string.is_some();
        let has_token = self.token.is_some() || ambient.token.is_some();
        let text = if session && !room.is_empty() {
            format!(
                "--session-string cannot be used together with {room}: a session string already \
                 holds the room and its token"
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
            return Err(Failure::usage("nothing says which worker to connect to").hint(WAYS));
        } else if !session && choice.is_empty() && !ambient.stdin_is_terminal {
            return Err(Failure::usage(
                "standard input is not a terminal, so the worker cannot be chosen from a list",
            )
            .hint("give --auto-select for the best available worker, or --worker-id PEER_ID"));
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
                "--controller-port and --publish-port are both {publish}: the viewer has one port \
                 for each"
            )));
        }
        Ok(Some(ViewerPorts { controller, publish }))
    }

    fn join(self, ambient: &mut Ambient) -> Result<Join, Failure> {
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
        // `conflicts` saw to it that both are there.
        let (Some(room_id), Some(token)) =
            (self.room_id, self.token.or_else(|| ambient.token.clone()))
        else {
            return Err(Failure::usage("nothing says which worker to connect to").hint(WAYS));
        };
        Ok(Join::Room { credentials: ambient.credentials(&room_id, token)?, choose })
    }
}

fn given(options: &[(&str, bool)]) -> String {
    let given: Vec<&str> =
        options.iter().filter(|option| option.1).map(|option| option.0).collect();
    given.join(" and ")
}

pub(super) fn whole_mb(text: &str) -> Result<u64, &'static str> {
    text.parse().map_err(|_| "expects a whole number of MB, such as 16000")
}
