//! Keeps the members' list in step with the room's other workers, by sealed notes through the signaling
//! server. The server can withhold notes, but cannot read or forge them.

use super::Members;
use super::member_list::{Member, MemberListEntries};
use super::report::OtherWorker;
use crate::blocking::blocking;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sleap_rtc_base::deadline;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::signaling::{AppMessage, ClientMessage, Filters, PeerMessage, Role};
use sleap_rtc_signaling::client::SignalingClient;
use sleap_rtc_trust::device::{DeviceId, DeviceKey};
use sleap_rtc_trust::removal::RemovalNote;
use sleap_rtc_trust::sealed_note::NoteRoute;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::MissedTickBehavior;
use tracing::debug;

/// How often digests are sent when nothing changes, and last-seen times are saved.
const GREET_EVERY: Duration = Duration::from_secs(60);
/// The shortest time between two full lists to one worker.
const TELL_EVERY: Duration = Duration::from_secs(2);
/// The most workers with which notes are exchanged.
const MAX_WORKERS: usize = 256;
/// Members in one note.
const MEMBERS_PER_NOTE: usize = 100;
/// Notes that wait to be read.
const QUEUE: usize = 64;

/// A note of another worker, unread.
#[derive(Debug)]
pub(crate) struct Note {
    pub(crate) from: PeerId,
    pub(crate) sealed: String,
}

/// What a note says.
#[derive(Debug, Serialize, Deserialize)]
struct MemberNote {
    /// The writer's device.
    device: DeviceId,
    /// The digest of its list.
    digest: String,
    /// Whether it asks for the whole list.
    #[serde(default)]
    asks: bool,
    #[serde(flatten)]
    entries: MemberListEntries,
}

/// The effect of a received note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NoteEffect {
    Unchanged,
    Merged,
    /// The writer's list differs, but it was sent this one only a moment ago.
    TooSoon,
}

/// What is known of another worker.
#[derive(Debug, Clone)]
struct Other {
    device: DeviceId,
    digest: String,
    sent_at: Option<Instant>,
}

/// The exchange of one worker with the others of its room.
pub(crate) struct Exchange {
    members: Arc<Members>,
    signaling: SignalingClient,
    own_id: PeerId,
    inbox: mpsc::Sender<Note>,
    unread: Mutex<Option<mpsc::Receiver<Note>>>,
    /// The workers that have been heard, by peer.
    others: watch::Sender<HashMap<PeerId, Other>>,
    greet: Notify,
}

impl Exchange {
    /// The exchange of the worker `own_id`. Nothing is sent before [`Self::run`].
    pub(crate) fn new(
        members: &Arc<Members>,
        signaling: &SignalingClient,
        own_id: &PeerId,
    ) -> Arc<Self> {
        let (inbox, unread) = mpsc::channel(QUEUE);
        Arc::new(Self {
            members: members.clone(),
            signaling: signaling.clone(),
            own_id: own_id.clone(),
            inbox,
            unread: Mutex::new(Some(unread)),
            others: watch::Sender::default(),
            greet: Notify::new(),
        })
    }

    /// Queues a note. If too many wait, drops it: later greetings make up for that.
    pub(crate) fn deliver(&self, note: Note) {
        let _ = self.inbox.try_send(note);
    }

    /// Greets the others soon, because they may have missed something.
    pub(crate) fn greet_soon(&self) {
        self.greet.notify_one();
    }

    /// The devices of the workers whose list equals this one.
    pub(super) fn agreeing(&self) -> Vec<DeviceId> {
        let digest = self.members.list.borrow().digest();
        let others = self.others.borrow();
        others.values().filter(|other| other.digest == digest).map(|other| other.device).collect()
    }

    /// Resolves when the lists of all `workers` equal this one.
    pub(super) async fn until_all_agree(&self, workers: &[OtherWorker]) {
        let mut others = self.others.subscribe();
        loop {
            others.mark_unchanged();
            let agreeing = self.agreeing();
            if workers.iter().all(|worker| agreeing.contains(&worker.device)) {
                return;
            }
            // The sender is in `self`.
            let _ = others.changed().await;
        }
    }

    /// Keeps the list in step with those of the other workers, and saves it, until it is dropped.
    pub(crate) async fn run(&self) {
        let Some(mut unread) = self.unread.lock().take() else { return };
        let mut changes = self.members.list.subscribe();
        self.greet_others(true).await;
        let mut again = None;
        let mut greeting = tokio::time::interval(GREET_EVERY);
        greeting.set_missed_tick_behavior(MissedTickBehavior::Delay);
        greeting.reset();
        loop {
            tokio::select! {
                Some(note) = unread.recv() => {
                    if self.read(note).await == NoteEffect::TooSoon {
                        again = Some(again.unwrap_or(Instant::now() + TELL_EVERY));
                    }
                }
                // The sender is in `self`.
                _ = changes.changed() => {
                    self.save().await;
                    for peer in self.other_peers().await {
                        self.tell_all(&peer).await;
                    }
                }
                () = self.greet.notified() => self.greet_others(true).await,
                () = deadline::reached(again) => {
                    again = None;
                    self.greet_others(false).await;
                }
                _ = greeting.tick() => {
                    self.save().await;
                    self.greet_others(false).await;
                }
            }
        }
    }

    async fn save(&self) {
        let members = self.members.clone();
        // A panic is in the log already.
        let _ = blocking(move || members.try_save()).await;
    }

    /// Sends the digest of this list to every worker of the room. A worker with a different list answers with
    /// its entries.
    async fn greet_others(&self, asks: bool) {
        for peer in self.other_peers().await {
            self.tell(&peer, MemberListEntries::default(), asks).await;
        }
    }

    /// The workers that are in the room now, if notes can be written to them.
    async fn other_peers(&self) -> Vec<PeerId> {
        if self.authority().is_none() {
            return Vec::new();
        }
        let filters = Filters { role: Some(Role::Worker), ..Filters::default() };
        let found = self.signaling.discover(filters).await.unwrap_or_else(|error| {
            debug!(%error, "the room's other workers are not known now");
            Vec::new()
        });
        let peers = found.into_iter().map(|peer| peer.peer_id);
        peers.filter(|peer| *peer != self.own_id).take(MAX_WORKERS).collect()
    }

    fn authority(&self) -> Option<&DeviceKey> {
        self.members.peer.authority_key()
    }

    async fn read(&self, note: Note) -> NoteEffect {
        let Some(authority) = self.authority() else { return NoteEffect::Unchanged };
        let told = self.route(&note.from, &self.own_id).open(authority, &note.sealed);
        let told = told.and_then(|text| serde_json::from_slice::<MemberNote>(&text).ok());
        let Some(told) = told else {
            // Any peer can send one.
            debug!(peer = %note.from, "a note that none of the room's workers has written");
            return NoteEffect::Unchanged;
        };
        let MemberNote { device, digest, asks, entries } = told;
        let has_entries = !entries.members.is_empty() || !entries.removals.is_empty();
        self.members.merge(entries);
        let agrees = digest == self.members.list.borrow().digest();
        let sent_at = self.others.borrow().get(&note.from).and_then(|other| other.sent_at);
        let is_due = asks || sent_at.is_none_or(|at| at.elapsed() >= TELL_EVERY);
        let tells = (asks || !agrees) && is_due;
        let sent_at = if tells { Some(Instant::now()) } else { sent_at };
        self.others.send_modify(|others| {
            if others.len() < MAX_WORKERS || others.contains_key(&note.from) {
                others.insert(note.from.clone(), Other { device, digest, sent_at });
            }
        });
        match (tells, agrees) {
            (true, _) => self.tell_all(&note.from).await,
            // Now both know that they agree.
            (false, true) if has_entries => {
                self.tell(&note.from, MemberListEntries::default(), false).await
            }
            (false, true) => {}
            (false, false) => return NoteEffect::TooSoon,
        }
        NoteEffect::Merged
    }

    /// Tells a worker all entries, in as many notes as they need.
    async fn tell_all(&self, to: &PeerId) {
        let entries = self.members.list.borrow().entries();
        debug!(worker = %to, members = entries.members.len(), "telling the room's members");
        for (members, removals) in portions(entries) {
            self.tell(to, MemberListEntries { members, removals }, false).await;
        }
    }

    async fn tell(&self, to: &PeerId, entries: MemberListEntries, asks: bool) {
        let Some(authority) = self.authority() else { return };
        let digest = self.members.list.borrow().digest();
        let told = MemberNote { device: self.members.own, digest, asks, entries };
        let text = serde_json::to_vec(&told).unwrap_or_default();
        let route = self.route(&self.own_id, to);
        let Some(sealed) = route.seal(authority, rand::random(), &text) else { return };
        let payload = AppMessage::WorkerNote { sealed };
        let message = PeerMessage::new(self.own_id.clone(), to.clone(), payload);
        if let Err(error) = self.signaling.send(ClientMessage::PeerMessage(message)).await {
            debug!(%error, "a note was not sent");
        }
    }

    fn route<'a>(&'a self, from: &'a PeerId, to: &'a PeerId) -> NoteRoute<'a> {
        NoteRoute { room: &self.members.room.room_id, from, to }
    }
}

/// The entries in portions that fit into a note. The removals come first.
fn portions(entries: MemberListEntries) -> Vec<(Vec<Member>, Vec<RemovalNote>)> {
    let mut portions = vec![(Vec::new(), entries.removals)];
    for some in entries.members.chunks(MEMBERS_PER_NOTE) {
        portions.push((some.to_vec(), Vec::new()));
    }
    portions
}
