//! Prints the credentials once, and writes them to a file if requested. They never appear in the
//! log.

use super::WorkerError;
use super::members::Members;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_base::file::{Readers, replace};
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_trust::credential::Credential;
use sleap_rtc_trust::device::DeviceId;
use sleap_rtc_trust::session::{RoomString, SessionString};
use std::io::Write;
use std::path::{Path, PathBuf};
use url::Url;

/// The file in the state folder with the credentials for other workers.
const WORKER_TOKEN: &str = "worker-token";

/// A worker in its room, and where it says how to join.
#[derive(Clone)]
pub(crate) struct JoinedRoom {
    pub(crate) worker: PeerId,
    pub(crate) room: Credential,
    /// Its device, if clients can have it proven.
    pub(crate) device: Option<DeviceId>,
    pub(crate) state_dir: PathBuf,
    /// Where the credentials go besides standard output.
    pub(crate) file: Option<PathBuf>,
    /// Where the signaling server is, if it serves the client for browsers.
    pub(crate) page: Option<Url>,
}

impl JoinedRoom {
    /// Prints how clients join, and writes it to the file. What workers join with goes to the state folder
    /// alone.
    pub(crate) fn announce(&self) -> Result<(), WorkerError> {
        let text = self.text(&self.state_dir);
        let write = |path: &Path, text: &str| {
            replace(path, text.as_bytes(), Readers::Owner)
                .map_err(|source| WorkerError::Credentials { path: path.to_owned(), source })
        };
        if let Some(path) = &self.file {
            write(path, &text)?;
        }
        if self.certifies() {
            let token = self.room.token.reveal();
            write(&self.state_dir.join(WORKER_TOKEN), &format!("{}\n", *token))?;
        }
        print(&text);
        Ok(())
    }

    /// Announces each new token of the room, until it is dropped.
    pub(crate) async fn announce_changes(mut self, members: &Members) {
        let mut number = members.token_number();
        // Without the authority this worker does not know the new one.
        while self.certifies() {
            number = members.token_changed(number).await;
            self.room = members.credential();
            print(
                "The room's token has changed: a device was removed. Earlier session strings and tokens open \
                 nothing any more; devices that have paired need nothing.\n",
            );
            if let Err(error) = self.announce() {
                tracing::warn!(error = %WithCauses(&error), "the new token is not everywhere");
            }
        }
    }

    /// Whether this worker has the room's authority.
    fn certifies(&self) -> bool {
        self.room.peer().is_some_and(|peer| peer.authority_key().is_some())
    }

    fn text(&self, state_dir: &Path) -> String {
        let (room, worker, device) = (self.room.for_clients(), self.worker.clone(), self.device);
        // The only places that print a token.
        let token = room.token.reveal();
        let server = String::from(room.token.server().clone());
        let mut text = format!(
            "Session string (for one client: goes straight to this worker)\n  \
             {}\n\
             Room credentials (for clients that choose a worker)\n  \
             Room ID: {}\n  \
             Token:   {}\n",
            SessionString { room: room.clone(), worker, device },
            room.room_id,
            *token
        );
        if let Some(server) = &self.page {
            let link = RoomString { room: room.clone() }.link(server.as_str());
            text.push_str(&format!("In a browser (the link holds the token)\n  {link}\n"));
        }
        if self.certifies() {
            text.push_str(&format!(
                "For another worker of this room: the token in {}\n",
                state_dir.join(WORKER_TOKEN).display()
            ));
        }
        if room.peer().is_some() {
            text.push_str(&format!(
                "For Python clients, which trust the signaling server\n  \
                 Python token: {server}\n"
            ));
        }
        text
    }
}

fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    // The worker can run without stdout: the file and the state folder have the credentials too.
    if stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_err() {
        tracing::warn!("stdout is closed; the credentials were not shown");
    }
}
