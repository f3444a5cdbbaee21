//! A socket in the worker's state folder, through which its user requests an invitation from
//! another terminal. Ignores jobs of this worker.

use super::Inviter;
use super::news::InvitationNews;
use serde::{Deserialize, Serialize};
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_base::local_socket;
use sleap_rtc_job::is_of_a_job;
use sleap_rtc_trust::certificate::MemberRole;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::warn;

const SOCKET: &str = "pairing.sock";
const MAX_CONNECTIONS: usize = 8;
/// The longest line in either direction.
const MAX_LINE_BYTES: u64 = 4096;
/// How long a caller may take to send its request, and to read a line.
const LINE_DEADLINE: Duration = Duration::from_secs(10);

/// A caller's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ControlRequest {
    /// Invites one device with this role.
    Invite(MemberRole),
}

/// Why the worker on this machine cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No worker listens.
    #[error("no running worker on this machine uses the state folder {0}")]
    NoWorker(PathBuf),
    /// The folder or its socket cannot be used.
    #[error("cannot ask the worker that uses the state folder {path}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Listens for callers, if the state folder can have a socket.
pub(crate) fn listen(state_dir: &Path) -> Option<UnixListener> {
    local_socket::listen(state_dir, SOCKET)
        .inspect_err(|error| {
            warn!(error = %WithCauses(error), "`sleap-rtc room invite` is not possible");
        })
        .ok()
}

/// Serves callers until it is dropped.
pub(crate) async fn serve(inviter: Inviter, listener: UnixListener) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut callers = tokio::task::JoinSet::new();
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) if is_of_a_job(&stream) => {
                warn!("ignored a job that asked for a pairing code");
            }
            Ok((stream, _)) => {
                let inviter = inviter.clone();
                callers.spawn(async move {
                    let _place = place;
                    // A caller that disconnects does not matter to the worker.
                    let _ = answer(stream, &inviter).await;
                });
            }
            Err(error) => {
                warn!(error = %WithCauses(&error), "cannot accept a caller");
                sleep(Duration::from_secs(1)).await;
            }
        }
        while callers.try_join_next().is_some() {}
    }
}

async fn answer(stream: UnixStream, inviter: &Inviter) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read.take(MAX_LINE_BYTES));
    let mut line = Vec::new();
    timeout(LINE_DEADLINE, read.read_until(b'\n', &mut line)).await??;
    let ControlRequest::Invite(role) = serde_json::from_slice(&line)?;
    let mut invitation = inviter.invite(role);
    let mut rest = Vec::new();
    loop {
        let news = tokio::select! {
            news = invitation.next() => news,
            // Dropping the connection withdraws the invitation.
            _ = read.read_until(b'\n', &mut rest) => None,
        };
        let Some(news) = news else { return Ok(()) };
        let mut line = serde_json::to_vec(&news)?;
        line.push(b'\n');
        timeout(LINE_DEADLINE, write.write_all(&line)).await??;
    }
}

/// Asks the worker that uses `state_dir` for an invitation. Passes each event to `show`, and
/// returns the last one.
///
/// # Errors
/// No such worker is running, or it belongs to another user.
pub async fn invite(
    state_dir: &Path,
    role: MemberRole,
    mut show: impl FnMut(&InvitationNews),
) -> Result<InvitationNews, ControlError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            ControlError::NoWorker(state_dir.to_owned())
        }
        _ => ControlError::Io { path: state_dir.to_owned(), source },
    };
    let stream = local_socket::connect(state_dir, SOCKET).await.map_err(failed)?;
    let (read, mut write) = stream.into_split();
    let mut request =
        serde_json::to_vec(&ControlRequest::Invite(role)).map_err(|e| failed(e.into()))?;
    request.push(b'\n');
    write.write_all(&request).await.map_err(failed)?;
    let mut read = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        (&mut read).take(MAX_LINE_BYTES).read_until(b'\n', &mut line).await.map_err(failed)?;
        if line.is_empty() {
            return Err(ControlError::NoWorker(state_dir.to_owned()));
        }
        let news = serde_json::from_slice(&line).map_err(|error| failed(error.into()))?;
        show(&news);
        if news.is_end() {
            return Ok(news);
        }
    }
}
