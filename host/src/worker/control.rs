//! A socket in the worker's state folder, through which its user asks from another terminal for an
//! invitation, about the room's members, or about the queue. Connections of jobs are ignored.

use super::WorkerContext;
use super::coordinator::CoordinatorHandle;
use super::members::{self, Exchange, Members, MembersReport, RemovalReport};
use super::pairing::{InvitationNews, Invited, Inviter};
use super::queue_report::QueueReport;
use super::trust::ClientCheck;
use crate::config::Config;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_base::local_socket;
use sleap_rtc_job::is_of_a_job;
use sleap_rtc_protocol::ids::{JobId, PeerId};
use sleap_rtc_protocol::queue_report::{Decided, Decision, QueuedJob};
use sleap_rtc_trust::certificate::MemberRole;
use sleap_rtc_trust::credential::Credential;
use sleap_rtc_trust::removal::JobsLeft;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tracing::warn;

const SOCKET: &str = "pairing.sock";
const MAX_CONNECTIONS: usize = 8;
/// The longest question, and the longest answer: a list of members.
const MAX_QUESTION_BYTES: u64 = 4096;
const MAX_ANSWER_BYTES: u64 = 1024 * 1024;
/// How long a caller may take to send its question, and to read a line.
const LINE_DEADLINE: Duration = Duration::from_secs(10);
/// How long a worker may take to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// What a caller asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ControlRequest {
    /// An invitation of one device of that role.
    Invite(MemberRole),
    /// An invitation to a membership that ends after this many seconds.
    InviteFor { role: MemberRole, for_s: u64 },
    /// Who is a member of the room.
    Members,
    /// To remove the member that `who` names.
    Remove { who: String, jobs: JobsLeft },
    /// The jobs that wait, in the order in which they start.
    Queue,
    /// A decision about one of them.
    Decide { job: JobId, decision: Decision },
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
    /// The worker refuses.
    #[error("{0}")]
    Refused(String),
}

/// The socket, and what answers callers.
pub(crate) struct Control {
    callers: Option<UnixListener>,
    inviter: Inviter,
    trust: Arc<ClientCheck>,
    /// Absent in a room without keys.
    exchange: Option<Arc<Exchange>>,
    queue_report: watch::Receiver<Arc<QueueReport>>,
    state_dir: PathBuf,
}

impl Control {
    /// Listens from now on; the worker `own_id` in `room` answers once it serves. Others find its signaling
    /// server at `signaling`.
    pub(crate) fn of(
        config: &Config,
        context: &WorkerContext,
        own_id: &PeerId,
        room: &Credential,
        signaling: Option<String>,
    ) -> Self {
        let members = context.trust.members().cloned();
        Self {
            callers: listen(&config.worker.state_dir),
            inviter: Inviter::new(config, own_id, room, members, signaling),
            trust: context.trust.clone(),
            exchange: context.exchange.clone(),
            queue_report: context.queue_report.subscribe(),
            state_dir: config.worker.state_dir.clone(),
        }
    }
}

/// Listens for callers, where the state folder can have a socket.
fn listen(state_dir: &Path) -> Option<UnixListener> {
    local_socket::listen(state_dir, SOCKET)
        .inspect_err(|error| {
            warn!(error = %WithCauses(error), "`sleap-rtc room invite` is not possible");
        })
        .ok()
}

impl Control {
    /// Invites a laptop at the start, and answers callers, until it is dropped.
    /// The coordinator applies what the operator decides.
    pub(crate) async fn serve(mut self, coordinator: CoordinatorHandle) {
        let (inviter, callers) = (self.inviter.clone(), self.callers.take());
        let answering = async {
            if let Some(callers) = callers {
                Arc::new(self).accept(callers, coordinator).await;
            }
        };
        tokio::join!(inviter.welcome(), answering);
    }

    async fn accept(self: Arc<Self>, listener: UnixListener, coordinator: CoordinatorHandle) {
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
                    let (control, coordinator) = (self.clone(), coordinator.clone());
                    callers.spawn(async move {
                        let _place = place;
                        // A caller that disconnects does not matter to the worker.
                        let _ = control.answer(stream, &coordinator).await;
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

    async fn answer(&self, stream: UnixStream, coordinator: &CoordinatorHandle) -> io::Result<()> {
        let (read, mut write) = stream.into_split();
        let mut read = BufReader::new(read);
        let mut line = Vec::new();
        let mut question = (&mut read).take(MAX_QUESTION_BYTES);
        timeout(LINE_DEADLINE, question.read_until(b'\n', &mut line)).await??;
        match serde_json::from_slice(&line)? {
            ControlRequest::Invite(role) => self.invite(read, write, Invited::of(role)).await,
            ControlRequest::InviteFor { role, for_s } => {
                let invited = Invited { for_s: Some(for_s), ..Invited::of(role) };
                self.invite(read, write, invited).await
            }
            ControlRequest::Members => {
                let members = self.members().map(|(members, _)| members.report());
                tell(&mut write, &members).await
            }
            ControlRequest::Remove { who, jobs } => {
                let removed = self.remove(&who, jobs).await;
                tell(&mut write, &removed).await
            }
            ControlRequest::Queue => {
                let queue_report = Arc::clone(&self.queue_report.borrow());
                let line: Result<Vec<QueuedJob>, String> = Ok(queue_report.queued_jobs().collect());
                tell(&mut write, &line).await
            }
            ControlRequest::Decide { job, decision } => {
                let decided = coordinator.decide(&job, decision).await;
                tell(&mut write, &Ok::<_, String>(decided)).await
            }
        }
    }

    async fn invite(
        &self,
        mut read: BufReader<OwnedReadHalf>,
        mut write: OwnedWriteHalf,
        invited: Invited,
    ) -> io::Result<()> {
        let mut invitation = self.inviter.invite(invited);
        loop {
            let news = tokio::select! {
                news = invitation.next() => news,
                // A caller that hangs up takes the invitation back.
                _ = read.read_u8() => None,
            };
            let Some(news) = news else { return Ok(()) };
            tell(&mut write, &news).await?;
        }
    }

    fn members(&self) -> Result<(&Arc<Members>, &Exchange), String> {
        self.trust.members().zip(self.exchange.as_deref()).ok_or_else(|| {
            "this room has no keys, so it does not know its members; `sleap-rtc worker --new-room` \
             makes one that does"
                .to_owned()
        })
    }

    async fn remove(&self, who: &str, jobs: JobsLeft) -> Result<RemovalReport, String> {
        let (known, exchange) = self.members()?;
        let removed = members::remove(known, exchange, &self.state_dir, who, jobs).await;
        let python = self.trust.serves_keyless();
        removed
            .map(|report| RemovalReport { python, ..report })
            .map_err(|error| WithCauses(&error).to_string())
    }
}

async fn tell(write: &mut OwnedWriteHalf, answer: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    timeout(LINE_DEADLINE, write.write_all(&line)).await?
}

/// A conversation with the worker that uses a state folder.
struct OpenRequest {
    state_dir: PathBuf,
    read: BufReader<OwnedReadHalf>,
    /// The worker takes an invitation back when this is closed.
    _write: OwnedWriteHalf,
}

impl OpenRequest {
    async fn begin(state_dir: &Path, request: &ControlRequest) -> Result<Self, ControlError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ControlError::NoWorker(state_dir.to_owned())
            }
            _ => ControlError::Io { path: state_dir.to_owned(), source },
        };
        let stream = local_socket::connect(state_dir, SOCKET).await.map_err(failed)?;
        let (read, mut write) = stream.into_split();
        let mut line = serde_json::to_vec(request).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        write.write_all(&line).await.map_err(failed)?;
        let read = BufReader::new(read);
        Ok(Self { state_dir: state_dir.to_owned(), read, _write: write })
    }

    /// The next line.
    async fn next<T: DeserializeOwned>(&mut self) -> Result<T, ControlError> {
        let path = self.state_dir.clone();
        let failed = |source| ControlError::Io { path: path.clone(), source };
        let mut line = Vec::new();
        let mut read = (&mut self.read).take(MAX_ANSWER_BYTES);
        read.read_until(b'\n', &mut line).await.map_err(failed)?;
        if line.is_empty() {
            return Err(ControlError::NoWorker(path));
        }
        serde_json::from_slice(&line).map_err(|error| failed(error.into()))
    }
}

async fn ask<T: DeserializeOwned>(
    state_dir: &Path,
    request: ControlRequest,
) -> Result<T, ControlError> {
    let asking = async {
        let mut asking = OpenRequest::begin(state_dir, &request).await?;
        asking.next::<Result<T, String>>().await?.map_err(ControlError::Refused)
    };
    timeout(ANSWER_DEADLINE, asking).await.unwrap_or_else(|late| {
        Err(ControlError::Io { path: state_dir.to_owned(), source: late.into() })
    })
}

/// Asks the worker that uses `state_dir` for an invitation. Passes each event to `show`, and
/// returns the last one.
///
/// # Errors
/// No such worker runs, or it belongs to another user.
pub async fn invite(
    state_dir: &Path,
    invited: Invited,
    mut show: impl FnMut(&InvitationNews),
) -> Result<InvitationNews, ControlError> {
    let Invited { role, for_s } = invited;
    let request = match for_s {
        None => ControlRequest::Invite(role),
        Some(for_s) => ControlRequest::InviteFor { role, for_s },
    };
    let mut asking = OpenRequest::begin(state_dir, &request).await?;
    loop {
        let news = asking.next().await?;
        show(&news);
        if news.is_end() {
            return Ok(news);
        }
    }
}

/// Asks the worker that uses `state_dir` who is a member of its room.
///
/// # Errors
/// No such worker runs, it belongs to another user, or its room has no keys.
pub async fn members(state_dir: &Path) -> Result<MembersReport, ControlError> {
    ask(state_dir, ControlRequest::Members).await
}

/// The jobs that wait at the worker that uses `state_dir`, in the order in which they start.
///
/// # Errors
/// No such worker runs, or it belongs to another user.
pub async fn queue(state_dir: &Path) -> Result<Vec<QueuedJob>, ControlError> {
    ask(state_dir, ControlRequest::Queue).await
}

/// Has the worker that uses `state_dir` apply a decision about a waiting job.
///
/// # Errors
/// As [`queue`].
pub async fn decide(
    state_dir: &Path,
    job: JobId,
    decision: Decision,
) -> Result<Decided, ControlError> {
    ask(state_dir, ControlRequest::Decide { job, decision }).await
}

/// Has the worker that uses `state_dir` remove the member that `who` names: a name, or the beginning of a
/// key.
///
/// # Errors
/// No such worker runs, it belongs to another user, or it refuses.
pub async fn remove(
    state_dir: &Path,
    who: String,
    jobs: JobsLeft,
) -> Result<RemovalReport, ControlError> {
    ask(state_dir, ControlRequest::Remove { who, jobs }).await
}
