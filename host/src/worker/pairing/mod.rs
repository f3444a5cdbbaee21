//! Invites devices to this worker's room, by codes that their users type.
//!
//! | module | what it does |
//! |---|---|
//! | `host` | what a paired device gets |
//! | `joining` | how this worker joins the room of another one |
//! | `invitation` | one invitation, from its first code to its end |
//! | `failures` | how often a wrong code may be tried |
//! | `news` | the events of an invitation, and their texts |

mod failures;
mod host;
mod invitation;
mod joining;
mod news;
#[cfg(test)]
mod tests;

pub(crate) use joining::resolve;
pub use news::InvitationNews;

use super::members::Members;
use crate::config::Config;
use failures::Failures;
use invitation::Shared;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_trust::certificate::MemberRole;
use sleap_rtc_trust::credential::Credential;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;

/// The most open invitations.
const MAX_INVITATIONS: usize = 4;
/// The most events that wait for a reader.
const QUEUE: usize = 16;

/// Until when a laptop that pairs is a member, if nobody says otherwise, in seconds from then on.
const CLIENT_FOR_S: u64 = 365 * 24 * 3600;

/// Whom an invitation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invited {
    /// What the device may be.
    pub role: MemberRole,
    /// For how many seconds it is a member; `None` for a year, or for ever if it is a worker.
    pub for_s: Option<u64>,
}

impl Invited {
    /// A device of that role, for the usual time.
    pub fn of(role: MemberRole) -> Self {
        Self { role, for_s: None }
    }

    /// When the membership ends that begins at `from_s`, both in seconds since 1970.
    fn until_s(&self, from_s: u64) -> Option<u64> {
        let usual = (self.role == MemberRole::Client).then_some(CLIENT_FOR_S);
        self.for_s.or(usual).map(|for_s| from_s.saturating_add(for_s))
    }
}

/// Creates the invitations of a worker. Clones share their limits.
#[derive(Debug, Clone)]
pub(crate) struct Inviter {
    shared: Arc<Shared>,
    open: Arc<Semaphore>,
}

impl Inviter {
    /// What `worker` in `room` hands out. Others find its signaling server at `signaling`.
    pub(crate) fn new(
        config: &Config,
        worker: &PeerId,
        room: &Credential,
        members: Option<Arc<Members>>,
        signaling: Option<String>,
    ) -> Self {
        let host = joining::host(&config.worker, worker, room, members);
        let servers = config.signaling.clone();
        let shared = Shared { servers, signaling, host, failures: Failures::default().into() };
        Self { shared: Arc::new(shared), open: Arc::new(Semaphore::new(MAX_INVITATIONS)) }
    }

    /// Invites one device, until what is returned is dropped.
    pub(crate) fn invite(&self, invited: Invited) -> OpenInvitation {
        let (sender, news) = mpsc::channel(QUEUE);
        let (shared, place) =
            (Arc::clone(&self.shared), Arc::clone(&self.open).try_acquire_owned());
        let inviting = async move {
            match place {
                Ok(_place) => shared.invite(&invited, &sender).await,
                // The receiver may be gone already.
                Err(_) => drop(sender.send(InvitationNews::TooMany).await),
            }
        };
        OpenInvitation { news, _task: AbortOnDropHandle::new(tokio::spawn(inviting)) }
    }

    /// Invites the first laptop, if somebody is there to read the code: shows none by itself where standard
    /// output is no terminal.
    pub(crate) async fn welcome(self) {
        let mut when = "at any time";
        if std::io::stdout().is_terminal() {
            let mut invitation = self.invite(Invited::of(MemberRole::Client));
            while let Some(news) = invitation.next().await {
                print(&news.line());
                if let InvitationNews::Paused { .. } = news {
                    when = "after that";
                }
            }
        }
        print(&format!("To pair a laptop {when}, run on this machine:  sleap-rtc room invite"));
    }
}

/// An invitation, which is taken back when this is dropped.
pub(crate) struct OpenInvitation {
    news: mpsc::Receiver<InvitationNews>,
    _task: AbortOnDropHandle<()>,
}

impl OpenInvitation {
    /// What happens next; `None` after the end.
    pub(crate) async fn next(&mut self) -> Option<InvitationNews> {
        self.news.recv().await
    }
}

/// Shows a line. A worker runs on without standard output.
fn print(line: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
