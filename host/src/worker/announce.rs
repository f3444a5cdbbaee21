//! Prints the credentials once, and writes them to a file if requested. They never appear in the
//! log.

use super::WorkerError;
use sleap_rtc_base::file::{Readers, replace};
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_trust::credential::Credential;
use sleap_rtc_trust::device::DeviceId;
use sleap_rtc_trust::session::SessionString;
use std::io::Write;
use std::path::Path;

/// The file in the state folder with the credentials for other workers.
const WORKER_TOKEN: &str = "worker-token";

/// A worker in its room.
pub(crate) struct JoinedRoom<'a> {
    pub(crate) worker: &'a PeerId,
    pub(crate) room: &'a Credential,
    /// Its device, if clients can verify it.
    pub(crate) device: Option<DeviceId>,
}

impl JoinedRoom<'_> {
    /// Prints the credentials for clients, and writes them to `file`. Writes those for workers only
    /// to `state_dir`.
    pub(crate) fn announce(
        &self,
        state_dir: &Path,
        file: Option<&Path>,
    ) -> Result<(), WorkerError> {
        let text = self.text(state_dir);
        let write = |path: &Path, text: &str| {
            replace(path, text.as_bytes(), Readers::Owner)
                .map_err(|source| WorkerError::Credentials { path: path.to_owned(), source })
        };
        if let Some(path) = file {
            write(path, &text)?;
        }
        if self.certifies() {
            let token = self.room.token.reveal();
            write(&state_dir.join(WORKER_TOKEN), &format!("{}\n", *token))?;
        }
        let mut stdout = std::io::stdout().lock();
        // The worker can run without stdout: the file and the state folder have the credentials too.
        if stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_err() {
            tracing::warn!("stdout is closed; the credentials were not shown");
        }
        Ok(())
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
