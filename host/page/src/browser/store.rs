//! What this browser remembers: its key, its rooms and its jobs. Each is a text in the browser's local
//! storage, which only pages of this server can read.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_trust::credential::Credential;
use sleap_rtc_trust::device::DeviceKey;
use sleap_rtc_trust::session::{JobString, RoomString};
use web_sys::Storage;

const KEY: &str = "sleap-rtc key";
const ROOMS: &str = "sleap-rtc rooms";
const JOBS: &str = "sleap-rtc jobs";
/// The most jobs that are remembered. The oldest are forgotten first.
const MAX_JOBS: usize = 100;

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
pub fn rooms() -> Vec<Credential> {
    let texts: Vec<String> = read(ROOMS).unwrap_or_default();
    let rooms = texts.iter().filter_map(|text| text.parse::<RoomString>().ok());
    rooms.map(|room| room.room).collect()
}

/// Remembers a room, as the last one.
pub fn add_room(room: &Credential) {
    let mut rooms = rooms();
    rooms.retain(|known| known.room_id != room.room_id);
    rooms.insert(0, room.clone());
    write_rooms(rooms);
}

/// Forgets a room.
pub fn forget_room(room: &Credential) {
    let mut rooms = rooms();
    rooms.retain(|known| known.room_id != room.room_id);
    write_rooms(rooms);
}

fn write_rooms(rooms: Vec<Credential>) {
    let texts = rooms.into_iter().map(|room| RoomString { room }.to_string());
    write(ROOMS, &texts.collect::<Vec<_>>());
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
