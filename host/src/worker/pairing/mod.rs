//! Invites devices to this worker's room, by codes that their users type.
//!
//! | module | what it does |
//! |---|---|
//! | `host` | what a paired device gets |
//! | `joining` | how this worker joins the room of another one |
//! | `invitation` | one invitation, from its first code to its end |
//! | `failures` | how often a wrong code may be tried |
//! | `news` | the events of an invitation, and their texts |
//! | `control` | lets other programs of this user ask for an invitation |

mod control;
mod failures;
mod host;
mod invitation;
mod joining;
mod news;
#[cfg(test)]
mod tests;

pub use control::{ControlError, invite};
pub(crate) use joining::resolve;
pub use news::InvitationNews;

use crate::config::Config;
use failures::Failures;
use invitation::Shared;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_trust::certificate::MemberRole;
use sleap_rtc_trust::credential::Credential;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;

/// The most open invitations.
const MAX_INVITATIONS: usize = 4;
/// The most events that wait for a reader.
const QUEUE: usize = 16;

/// The invitations of a worker, and the socket for requests.
pub(crate) struct Invitations {
    inviter: Inviter,
    callers: Option<UnixListener>,
}

impl Invitations {
    /// Prepares the grants of `worker` in `room`. Programs may request invitations from now on, and
    /// are answered once the worker serves.
    pub(crate) fn prepare(config: &Config, worker: &PeerId, room: &Credential) -> Self {
        let host = joining::host(&config.worker, worker, room);
        let server = config.signaling.websocket.clone();
        let shared = Shared { server, host, failures: Failures::default().into() };
        let open = Arc::new(Semaphore::new(MAX_INVITATIONS));
        let inviter = Inviter { shared: Arc::new(shared), open };
        Self { inviter, callers: control::listen(&config.worker.state_dir) }
    }

    /// Invites a laptop at the start, and the devices that callers request. Shows no code by itself
    /// if standard output is not a terminal.
    pub(crate) async fn serve(self) {
        let answering = async {
            if let Some(callers) = self.callers {
                control::serve(self.inviter.clone(), callers).await;
            }
        };
        tokio::join!(welcome(&self.inviter), answering);
    }
}

/// Creates the invitations of a worker. Clones share their limits.
#[derive(Debug, Clone)]
struct Inviter {
    shared: Arc<Shared>,
    open: Arc<Semaphore>,
}

impl Inviter {
    /// Invites one device with `role`. Dropping the returned value withdraws the invitation.
    fn invite(&self, role: MemberRole) -> OpenInvitation {
        let (sender, news) = mpsc::channel(QUEUE);
        let (shared, place) =
            (Arc::clone(&self.shared), Arc::clone(&self.open).try_acquire_owned());
        let inviting = async move {
            match place {
                Ok(_place) => shared.invite(role, &sender).await,
                // The receiver may be gone.
                Err(_) => drop(sender.send(InvitationNews::TooMany).await),
            }
        };
        OpenInvitation { news, _task: AbortOnDropHandle::new(tokio::spawn(inviting)) }
    }
}

/// An invitation. Dropping it withdraws the invitation.
struct OpenInvitation {
    news: mpsc::Receiver<InvitationNews>,
    _task: AbortOnDropHandle<()>,
}

impl OpenInvitation {
    /// The next event. `None` after the end.
    async fn next(&mut self) -> Option<InvitationNews> {
        self.news.recv().await
    }
}

/// Invites the first laptop, if there is a terminal for the code.
async fn welcome(inviter: &Inviter) {
    if std::io::stdout().is_terminal() {
        let mut invitation = inviter.invite(MemberRole::Client);
        while let Some(news) = invitation.next().await {
            print(&news.line());
        }
    }
    print("To pair a laptop at any time, run on this machine:  sleap-rtc room invite");
}

/// Shows a line. A worker keeps running without standard output.
fn print(line: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
