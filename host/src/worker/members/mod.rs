//! Who is a member of this worker's room. Each worker has a list of the members, in its state folder;
//! the workers of a room tell each other what is new in theirs.
//!
//! | module | what it does |
//! |---|---|
//! | `member_list` | the entries, and how two lists become equal |
//! | `exchange` | tells the room's other workers, and hears them |
//! | `removing` | removes a member: here, and at the other workers |
//! | `report` | how people read it |

mod exchange;
mod member_list;
mod removing;
mod report;

pub(crate) use exchange::{Exchange, Note};
pub(crate) use removing::{cancel_jobs, remove};
pub use report::{MembersReport, RemovalReport};

use member_list::{Member, MemberList, MemberListEntries};
use sleap_rtc_base::clock::now_s;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_base::json_file;
use sleap_rtc_protocol::ids::RoomId;
use sleap_rtc_trust::certificate::{Certificate, MemberRole};
use sleap_rtc_trust::credential::{Credential, PeerPart};
use sleap_rtc_trust::device::DeviceId;
use sleap_rtc_trust::handshake::{Certification, Proven};
use sleap_rtc_trust::removal::{JobsLeft, Removal, RemovalNote, Removals};
use std::io;
use std::path::{Path, PathBuf};
use tokio::sync::watch;
use tracing::warn;

const FOLDER: &str = "members";

/// Why the list of members cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MembersError {
    /// The file or its folder cannot be used.
    #[error("cannot use the list of the room's members in {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is damaged.
    #[error(
        "{path} is damaged. It lists the members that were removed from the room: restore it from a backup, or move it away \
         and remove those members again"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
}

/// Why a member cannot be removed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RemoveError {
    #[error("this room has no member {0}; `sleap-rtc room members` lists their names and keys")]
    Unknown(String),
    #[error("{0} members have that name; give the beginning of a key instead: {1}")]
    Several(usize, String),
    #[error(
        "{0} is a worker. Workers have the key that admits members, so one alone cannot be removed: make a \
         new room, with `sleap-rtc worker --new-room` on the workers that remain"
    )]
    Worker(String),
    #[error(
        "this worker has joined with a token for clients, so it cannot remove anybody: do it on a worker \
         that made the room or paired as a worker"
    )]
    NoAuthority,
    #[error(
        "256 devices have been removed from this room, and it cannot remember more: make a new room with `sleap-rtc worker \
         --new-room`"
    )]
    Full,
}

/// The owner of a room's list.
#[derive(Debug)]
pub(crate) struct Members {
    room: Credential,
    peer: PeerPart,
    own: DeviceId,
    path: PathBuf,
    list: watch::Sender<MemberList>,
}

impl Members {
    /// The list of `room` in `state_dir`. `own` is this worker's device, with its certificate if it has one.
    /// `None` for a room without keys.
    pub(crate) fn open(
        state_dir: &Path,
        room: &Credential,
        own: DeviceId,
        certificate: Option<&Certificate>,
    ) -> Result<Option<Self>, MembersError> {
        let Some(peer) = room.peer().cloned() else { return Ok(None) };
        let path = state_dir.join(FOLDER).join(file_name(&room.room_id));
        let mut list = MemberList::default();
        match json_file::load::<MemberListEntries>(&path) {
            Ok(entries) => {
                list.merge(&peer.authority(), entries.unwrap_or_default());
            }
            Err(source) if source.kind() == io::ErrorKind::InvalidData => {
                return Err(MembersError::Damaged { path, source });
            }
            Err(source) => return Err(MembersError::Io { path, source }),
        }
        if let Some(certificate) = certificate {
            list.merge_member(member(own, Some(certificate), Some(now_s())));
        }
        let (room, list) = (room.clone(), watch::Sender::new(list));
        Ok(Some(Self { room, peer, own, path, list }))
    }

    /// The room's current credential. Its token changes when a member is removed.
    pub(crate) fn credential(&self) -> Credential {
        self.room.renewed(self.list.borrow().removals().token_number())
    }

    /// Waits until the number of the room's token differs from `known`, and returns the new number.
    pub(crate) async fn token_changed(&self, known: u32) -> u32 {
        let is_new = |list: &MemberList| list.removals().token_number() != known;
        let changed =
            self.list.subscribe().wait_for(is_new).await.map(|list| list.removals().token_number());
        // The sender is in `self`.
        changed.unwrap_or(known)
    }

    /// The number of the room's token.
    pub(crate) fn token_number(&self) -> u32 {
        self.list.borrow().removals().token_number()
    }

    /// Who has been removed.
    pub(crate) fn removals(&self) -> Removals {
        self.list.borrow().removals().clone()
    }

    /// Whether `device` was removed, and not admitted again since.
    pub(crate) fn is_removed(&self, device: &DeviceId) -> bool {
        self.list.borrow().is_removed(device)
    }

    /// Resolves when `device` is removed.
    pub(crate) async fn until_removed(&self, device: &DeviceId) {
        let removed = self.list.subscribe().wait_for(|list| list.is_removed(device)).await.is_ok();
        if !removed {
            std::future::pending().await
        }
    }

    /// A client has proven who it is.
    pub(crate) fn met(&self, client: &Proven) {
        let entry = member(client.device, client.certificate.as_ref(), Some(now_s()));
        // A client that returns to a job need not be a member.
        let members =
            if client.certification == Certification::JobHolder { vec![] } else { vec![entry] };
        self.merge(MemberListEntries { members, removals: client.news.clone() });
    }

    /// A device has paired just now, and got this certificate.
    pub(crate) fn admitted(&self, certificate: &Certificate) {
        let entry = member(certificate.subject().device, Some(certificate), Some(now_s()));
        self.merge(MemberListEntries { members: vec![entry], removals: Vec::new() });
    }

    /// The time from which a certificate for `device` counts, in seconds since 1970: now, and later than its
    /// removal.
    pub(crate) fn issue_s(&self, device: &DeviceId) -> u64 {
        let removed = self.list.borrow().removals().of_device(device).map(|removal| removal.at_s);
        now_s().max(removed.map_or(0, |at_s| at_s.saturating_add(1)))
    }

    /// Merges what another worker of the room, or a client, has sent, and wakes those who wait for changes.
    fn merge(&self, entries: MemberListEntries) {
        let authority = self.peer.authority();
        self.list.send_if_modified(|list| list.merge(&authority, entries));
    }

    /// Signs the removal of the member with this name, or with a key that begins so.
    fn sign_removal(&self, who: &str, jobs: JobsLeft) -> Result<RemovalNote, RemoveError> {
        let Some(authority) = self.peer.authority_key() else {
            return Err(RemoveError::NoAuthority);
        };
        let list = self.list.borrow();
        let found = find(&list, who)?;
        if list.removals().is_full() {
            return Err(RemoveError::Full);
        }
        // A worker whose clock is ahead may have issued the certificate.
        let at_s = now_s().max(found.issued_s().unwrap_or(0));
        let token_number = list.removals().token_number().saturating_add(1);
        let removal = Removal { at_s, token_number, jobs, device: found.device };
        Ok(RemovalNote::issue(authority, removal))
    }

    /// Writes the list to its file.
    pub(crate) fn save(&self) -> Result<(), MembersError> {
        let entries = self.list.borrow().entries();
        json_file::save(&self.path, &entries)
            .map_err(|source| MembersError::Io { path: self.path.clone(), source })
    }

    /// Like [`Self::save`], but logs an error instead of returning it.
    fn try_save(&self) {
        if let Err(error) = self.save() {
            warn!(error = %WithCauses(&error), "the room's members are not saved");
        }
    }
}

/// A room's id can be too long or too odd for a file's name.
fn file_name(room: &RoomId) -> String {
    let digits = hex::encode(room.as_str());
    format!("{}.json", &digits[..digits.len().min(200)])
}

fn member(device: DeviceId, certificate: Option<&Certificate>, seen_s: Option<u64>) -> Member {
    let certificate = certificate.cloned();
    let since_s = certificate.as_ref().map_or_else(now_s, |of| of.subject().issued_s);
    Member { device, certificate, since_s, seen_s }
}

/// The one member that `who` names.
fn find<'b>(list: &'b MemberList, who: &str) -> Result<&'b Member, RemoveError> {
    /// So many digits of a key tell the devices of a room apart.
    const MIN_DIGITS: usize = 6;
    let is_meant = |member: &&Member| {
        let key = member.device.to_string();
        member.name() == who || (who.len() >= MIN_DIGITS && key.starts_with(&who.to_lowercase()))
    };
    let is_there = |member: &&Member| !list.is_removed(&member.device);
    let found: Vec<&Member> = list.members().filter(is_there).filter(is_meant).collect();
    match found.as_slice() {
        [] => Err(RemoveError::Unknown(who.to_owned())),
        [only] if only.role() == MemberRole::Worker => Err(RemoveError::Worker(who.to_owned())),
        [only] => Ok(*only),
        several => {
            let keys: Vec<String> = several.iter().map(|member| member.device.short()).collect();
            Err(RemoveError::Several(several.len(), keys.join(", ")))
        }
    }
}
