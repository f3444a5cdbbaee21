//! What this browser remembers: its key, its rooms with their removed devices, and its jobs. Each is a
//! text in the browser's local storage, which only pages of this server can read.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sleap_rtc_protocol::ids::{JobId, RoomId, RoomName};
use sleap_rtc_trust::certificate::Certificate;
use sleap_rtc_trust::credential::Credential;
use sleap_rtc_trust::device::{DeviceId, DeviceKey};
use sleap_rtc_trust::pairing::Grant;
use sleap_rtc_trust::removal::{RemovalNote, Removals};
use sleap_rtc_trust::session::{JobString, RoomString};
use std::collections::BTreeMap;
use web_sys::Storage;

const KEY: &str = "sleap-rtc key";
const ROOMS: &str = "sleap-rtc rooms";
const JOBS: &str = "sleap-rtc jobs";
const REMOVALS: &str = "sleap-rtc removals";
/// The most jobs that are remembered. The oldest are forgotten first.
const MAX_JOBS: usize = 100;

/// A room that this browser has entered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownRoom {
    /// What opens it.
    #[serde(flatten)]
    pub credential: Credential,
    /// What its people call it, if this browser has paired.
    #[serde(default)]
    pub name: Option<RoomName>,
    /// What the room's authority says of this browser, if it has paired.
    #[serde(default)]
    pub certificate: Option<Certificate>,
    /// The workers that this browser has paired with.
    #[serde(default)]
    pub workers: Vec<DeviceId>,
}

/// A room in the browser's storage.
#[derive(Deserialize)]
#[serde(untagged)]
enum StoredRoom {
    Known(Box<KnownRoom>),
    /// As pages before pairing have kept it.
    Text(String),
}

impl StoredRoom {
    fn known(self) -> Option<KnownRoom> {
        match self {
            Self::Known(known) => Some(*known),
            Self::Text(text) => Some(KnownRoom::new(text.parse::<RoomString>().ok()?.room)),
        }
    }
}

impl KnownRoom {
    /// A room of which nothing is known but what opens it.
    fn new(credential: Credential) -> Self {
        Self { credential, name: None, certificate: None, workers: Vec::new() }
    }

    /// Which one.
    pub fn id(&self) -> &RoomId {
        &self.credential.room_id
    }

    /// What people call it.
    pub fn label(&self) -> &str {
        self.name.as_ref().map_or(self.id().as_str(), RoomName::as_str)
    }
}

/// A job that this browser has submitted, or was given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnownJob {
    /// Its job string.
    pub job: String,
    /// Its name.
    pub name: String,
    /// What people call its worker.
    pub worker: String,
    /// When it was submitted, in milliseconds since 1970.
    pub since_ms: u64,
    /// Whether it predicts, and makes no models.
    #[serde(default)]
    pub is_prediction: bool,
    /// Whether the worker has the whole package.
    #[serde(default = "yes")]
    pub is_sent: bool,
    /// How it ended, in words, if it has.
    #[serde(default)]
    pub ended: Option<String>,
}

fn yes() -> bool {
    true
}

impl KnownJob {
    /// What the job string says. `None` if it is damaged.
    pub fn job_ref(&self) -> Option<JobString> {
        self.job.parse().ok()
    }
}

fn storage() -> Option<Storage> {
    web_sys::window()?.local_storage().ok()?
}

fn read<T: DeserializeOwned>(name: &str) -> Option<T> {
    serde_json::from_str(&storage()?.get_item(name).ok()??).ok()
}

/// A browser that keeps nothing still works until the page is closed.
fn write(name: &str, value: &impl Serialize) {
    if let (Some(storage), Ok(text)) = (storage(), serde_json::to_string(value)) {
        let _ = storage.set_item(name, &text);
    }
}

/// The key of this browser. `fresh` is kept if it has none yet.
pub fn device_key(fresh: [u8; 32]) -> DeviceKey {
    let seed = read::<Vec<u8>>(KEY).and_then(|seed| <[u8; 32]>::try_from(seed).ok());
    DeviceKey::from_bytes(seed.unwrap_or_else(|| {
        write(KEY, &fresh.to_vec());
        fresh
    }))
}

/// The rooms, the last one first.
pub fn rooms() -> Vec<KnownRoom> {
    let stored: Vec<StoredRoom> = read(ROOMS).unwrap_or_default();
    stored.into_iter().filter_map(StoredRoom::known).collect()
}

/// Remembers a room, as the last one, with what else is known of it.
pub fn add_room(credential: Credential) -> KnownRoom {
    let known = rooms().into_iter().find(|known| *known.id() == credential.room_id);
    let room = known.unwrap_or_else(|| KnownRoom::new(credential.clone()));
    put_first(KnownRoom { credential, ..room })
}

/// Remembers what a worker has granted.
pub fn add_grant(grant: Grant) -> KnownRoom {
    let mut room = add_room(grant.room);
    (room.name, room.certificate) = (Some(grant.room_name), grant.certificate);
    room.workers.retain(|known| Some(*known) != grant.worker_device);
    room.workers.extend(grant.worker_device);
    put_first(room)
}

fn put_first(room: KnownRoom) -> KnownRoom {
    let mut rooms = rooms();
    rooms.retain(|known| known.id() != room.id());
    rooms.insert(0, room.clone());
    write(ROOMS, &rooms);
    room
}

/// The removed devices of a room, as far as its `authority` has signed them.
pub fn removals(room: &RoomId, authority: &DeviceId) -> Removals {
    Removals::of(authority, all_removals().get(room.as_str()).map_or(&[], Vec::as_slice))
}

/// Keeps what a worker has told of removed devices, to tell it to others.
pub fn add_removals(room: &RoomId, authority: &DeviceId, news: &[RemovalNote]) {
    let mut known = removals(room, authority);
    if !known.take(authority, news).is_empty() {
        let mut all = all_removals();
        all.insert(room.to_string(), known.notes());
        write(REMOVALS, &all);
    }
}

fn all_removals() -> BTreeMap<String, Vec<RemovalNote>> {
    read(REMOVALS).unwrap_or_default()
}

/// Forgets a room.
pub fn forget_room(room: &RoomId) {
    let mut removals = all_removals();
    if removals.remove(room.as_str()).is_some() {
        write(REMOVALS, &removals);
    }
    let mut rooms = rooms();
    rooms.retain(|known| known.id() != room);
    write(ROOMS, &rooms);
}

/// The jobs, the newest first.
pub fn jobs() -> Vec<KnownJob> {
    read(JOBS).unwrap_or_default()
}

/// Remembers a job, or what has become of it.
pub fn put_job(job: &KnownJob) {
    let mut jobs = jobs();
    match jobs.iter_mut().find(|known| known.job == job.job) {
        Some(known) => *known = job.clone(),
        None => jobs.insert(0, job.clone()),
    }
    jobs.truncate(MAX_JOBS);
    write(JOBS, &jobs);
}

/// Forgets a job.
pub fn forget_job(id: &JobId) {
    let mut jobs = jobs();
    jobs.retain(|known| known.job_ref().is_some_and(|job| job.job != *id));
    write(JOBS, &jobs);
}
