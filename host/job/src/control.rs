//! The socket between a job's process and its worker.
//!
//! The worker sends one JSON command per line and receives [`ACCEPTED`] for each. The job sends [`WAKE`] when
//! there are new events. The worker reads the events themselves from the folder, so nothing is lost if the
//! socket closes. Every process that can reach the folder's path can connect, the job's own trainer too, so
//! each connection is checked for the process at its other end.

use super::folder::JobFolder;
use super::processes;
use serde::{Deserialize, Serialize};
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_base::local_socket;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A command to a running job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum JobCommand {
    /// End the current training early and keep its model.
    Stop {
        /// Whether to train no further models.
        #[serde(default)]
        all: bool,
    },
    /// End the job now.
    Cancel,
}

/// There are new events.
pub const WAKE: u8 = b'.';
/// A command was accepted.
pub const ACCEPTED: u8 = b'+';
const SOCKET: &str = "control.sock";
const MAX_CONNECTIONS: usize = 16;
const MAX_COMMAND_BYTES: u64 = 1024;
/// The pause after a connection that could not be accepted, for instance because no descriptors are left.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Connects to a job's process.
pub async fn connect(folder: &JobFolder) -> io::Result<UnixStream> {
    local_socket::connect(folder.path(), SOCKET).await
}

/// What a job's process offers over its socket.
#[derive(Clone)]
pub struct Service {
    /// Number of the last event.
    pub seq: watch::Receiver<u64>,
    /// Receives commands.
    pub commands: mpsc::Sender<JobCommand>,
    /// Ends the service.
    pub end: CancellationToken,
}

/// Listens until the service ends. Its tasks run in `tasks`. The caller holds the job's lock, so an existing
/// socket is a leftover.
pub fn listen(folder: &JobFolder, service: Service, tasks: &TaskTracker) -> io::Result<()> {
    let listener = local_socket::listen(folder.path(), SOCKET)?;
    let connections = tasks.clone();
    tasks.spawn(async move {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let permit = tokio::select! {
                permit = room.clone().acquire_owned() => permit,
                () = service.end.cancelled() => return,
            };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = service.end.cancelled() => return,
            };
            match accepted {
                Ok((stream, _)) if is_of_a_job(&stream) => {
                    tracing::warn!("refused a connection to a job's control socket, because it comes from a process of a job");
                }
                Ok((stream, _)) => {
                    let service = service.clone();
                    connections.spawn(async move {
                        // The worker handles a broken connection, not the job.
                        let _ = serve(stream, service).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(error = %WithCauses(&error), "cannot accept a connection to the job");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    });
    Ok(())
}

/// Whether the other end is a process of a job, any job, which must not command this user's programs.
pub fn is_of_a_job(stream: &UnixStream) -> bool {
    let peer = stream.peer_cred().ok().and_then(|peer| peer.pid());
    peer.is_none_or(processes::is_of_a_job)
}

async fn serve(stream: UnixStream, mut service: Service) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        let left = MAX_COMMAND_BYTES.saturating_sub(line.len() as u64);
        tokio::select! {
            // If another branch completes first, what was read remains in `line`.
            count = async { (&mut read).take(left).read_until(b'\n', &mut line).await } => {
                if count? == 0 {
                    return Ok(());
                }
                if line.last() != Some(&b'\n') {
                    continue;
                }
                let command = serde_json::from_slice(&line).map_err(io::Error::other)?;
                line.clear();
                service.commands.send(command).await.map_err(io::Error::other)?;
                write.write_all(&[ACCEPTED]).await?;
            }
            changed = service.seq.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                // A slow reader has unread bytes already, and needs no further one.
                match write.try_write(&[WAKE]) {
                    Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
                    _ => {}
                }
            }
            () = service.end.cancelled() => return Ok(()),
        }
    }
}
