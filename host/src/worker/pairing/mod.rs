//! Invites devices to this worker's room, by codes that their users type.
//!
//! | module | what it does |
//! |---|---|
//! | `host` | what a device gets that has paired |
//! | `joining` | how this worker gets into the room of another one |
//! | `invitation` | one invitation, from its first code to its end |
//! | `failures` | how often a wrong code may be tried |
//! | `news` | what becomes of an invitation, and how people read it |
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

/// Invitations that are open at once.
const MAX_INVITATIONS: usize = 4;
/// News that wait for a reader.
const QUEUE: usize = 16;

/// The invitations of a worker, and those who ask for one.
pub(crate) struct Invitations {
    inviter: Inviter,
    callers: Option<UnixListener>,
}

impl Invitations {
    /// What `worker` in `room` hands out. From now on others may ask for an invitation; they are
    /// answered once it serves.
    pub(crate) fn prepare(config: &Config, worker: &PeerId, room: &Credential) -> Self {
        let host = joining::host(&config.worker, worker, room);
        let server = config.signaling.websocket.clone();
        let shared = Shared { server, host, failures: Failures::default().into() };
        let open = Arc::new(Semaphore::new(MAX_INVITATIONS));
        let inviter = Inviter { shared: Arc::new(shared), open };
        Self { inviter, callers: control::listen(&config.worker.state_dir) }
    }

    /// Invites a laptop at the start, and the devices that callers ask for. It shows no code by itself
    /// where standard output is no terminal.
    pub(crate) async fn serve(self) {
        let answering = async {
            if let Some(callers) = self.callers {
                control::serve(self.inviter.clone(), callers).await;
            }
        };
        tokio::join!(welcome(&self.inviter), answering);
    }
}

/// Makes the invitations of a worker. Clones share what limits them.
#[derive(Debug, Clone)]
struct Inviter {
    shared: Arc<Shared>,
    open: Arc<Semaphore>,
}

impl Inviter {
    /// Invites one device of `role`, until what is returned is dropped.
    fn invite(&self, role: MemberRole) -> OpenInvitation {
        let (sender, news) = mpsc::channel(QUEUE);
        let (shared, place) =
            (Arc::clone(&self.shared), Arc::clone(&self.open).try_acquire_owned());
        let inviting = async move {
            match place {
                Ok(_place) => shared.invite(role, &sender).await,
                // The receiver may be gone already.
                Err(_) => drop(sender.send(InvitationNews::TooMany).await),
            }
        };
        OpenInvitation { news, _task: AbortOnDropHandle::new(tokio::spawn(inviting)) }
    }
}

/// An invitation, which is taken back when this is dropped.
struct OpenInvitation {
    news: mpsc::Receiver<InvitationNews>,
    _task: AbortOnDropHandle<()>,
}

impl OpenInvitation {
    /// What happens next; `None` after the end.
    async fn next(&mut self) -> Option<InvitationNews> {
        self.news.recv().await
    }
}

/// Invites the first laptop, if somebody is there to read the code.
async fn welcome(inviter: &Inviter) {
    if std::io::stdout().is_terminal() {
        let mut invitation = inviter.invite(MemberRole::Client);
        while let Some(news) = invitation.next().await {
            print(&news.line());
        }
    }
    print("To pair a laptop at any time, run on this machine:  sleap-rtc room invite");
}

/// Shows a line. A worker runs on without standard output.
fn print(line: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
