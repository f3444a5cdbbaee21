//! Prints how to join, once, and writes it to a file if asked. It never appears in the log.

use super::WorkerError;
use sleap_rtc_base::file::{Readers, replace};
use sleap_rtc_protocol::ids::{PeerId, RoomCredentials};
use sleap_rtc_protocol::session::SessionString;
use std::io::Write;
use std::path::Path;

pub(crate) fn credentials(
    worker: &PeerId,
    room: &RoomCredentials,
    file: Option<&Path>,
) -> Result<(), WorkerError> {
    let text = text(worker, room);
    if let Some(path) = file {
        replace(path, text.as_bytes(), Readers::Owner)
            .map_err(|source| WorkerError::Credentials { path: path.to_owned(), source })?;
    }
    let mut stdout = std::io::stdout().lock();
    // The worker can run without stdout: the file and the state folder have the credentials too.
    if stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_err() {
        tracing::warn!("stdout is closed; the credentials were not shown");
    }
    Ok(())
}

fn text(worker: &PeerId, room: &RoomCredentials) -> String {
    let session = SessionString { room: room.clone(), worker: worker.clone() };
    // The only place that prints a token.
    let token = String::from(room.token.clone());
    format!(
        "Session string (for one client: goes straight to this worker)\n  \
         {session}\n\
         Room credentials (for other workers and for clients that choose a worker)\n  \
         Room ID: {}\n  \
         Token:   {token}\n",
        room.room_id
    )
}
