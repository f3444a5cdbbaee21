//! `sleap-rtc rooms`: the rooms that this device has paired with.

use super::exit::{Exit, ExitWith, Failure};
use super::print;
use crate::client::rooms::{self, RoomsError, SavedRoom, SavedRooms};
use crate::config::Config;
use crate::dates::day;
use clap::{Args, Subcommand};
use sleap_rtc_protocol::ids::RoomName;

/// The examples under `rooms --help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  List the rooms that this device has paired with:
    sleap-rtc rooms
  Call one of them something else:
    sleap-rtc rooms rename gpu2 northlab
  Forget one, and its token:
    sleap-rtc rooms forget northlab";

/// The options of `rooms`.
#[derive(Debug, Args)]
pub struct RoomsArgs {
    #[command(subcommand)]
    command: Option<RoomsCommand>,
}

#[derive(Debug, Subcommand)]
enum RoomsCommand {
    /// List them, with their workers; the same as `rooms` alone
    List,
    /// Call a room something else on this device
    Rename {
        /// Its name now
        old: RoomName,
        /// Its new name
        new: RoomName,
    },
    /// Forget a room and its token
    Forget {
        /// Its name
        name: RoomName,
    },
}

impl From<RoomsError> for Failure {
    fn from(error: RoomsError) -> Self {
        let hint = match &error {
            RoomsError::Several(_) => {
                "give --room NAME, or `room` under [client] in the configuration"
            }
            RoomsError::Unknown { .. } | RoomsError::NoRoom => {
                "`sleap-rtc pair CODE` adds a room; `sleap-rtc room invite` on the worker's machine \
                 shows a code"
            }
            _ => return Self::new(Exit::Usage, error),
        };
        Self::new(Exit::Usage, error).hint(hint)
    }
}

/// Lists or changes the saved rooms.
pub(crate) async fn run(args: RoomsArgs, config: &Config) -> Result<Exit, Failure> {
    let folder = &config.client.state_dir;
    let text = match args.command.unwrap_or(RoomsCommand::List) {
        RoomsCommand::List => listing(&SavedRooms::load(folder)?),
        RoomsCommand::Rename { old, new } => {
            let text = format!("{old} is called {new} on this device now");
            SavedRooms::change(folder, |rooms| rooms.rename(&old, new)).await?;
            text
        }
        RoomsCommand::Forget { name } => {
            rooms::forget(folder, &name).await?;
            format!(
                "forgot {name}, its token and its workers on this device; the room itself still exists"
            )
        }
    };
    print::line(&text).exit(Exit::Unexpected)?;
    Ok(Exit::Success)
}

fn listing(rooms: &SavedRooms) -> String {
    let row = |room: &SavedRoom| {
        let workers: Vec<&str> = room.workers.iter().map(|worker| worker.name.as_str()).collect();
        let server = &room.servers.first().websocket;
        let (name, workers, id) = (&room.name, workers.join(", "), &room.credential.room_id);
        let until_s = room.certificate.as_ref().and_then(|of| of.subject().not_after_s);
        let until = until_s.map(|until_s| format!("  until {}", day(until_s))).unwrap_or_default();
        format!("{name}  paired with {workers}  on {server}{until}  room id {id}")
    };
    let rows: Vec<String> = rooms.iter().map(row).collect();
    match rows.is_empty() {
        true => "this device has not paired with any room; to pair it, run `sleap-rtc pair CODE`"
            .to_owned(),
        false => rows.join("\n"),
    }
}
