//! What this client keeps about rooms: lists, each in one file that only its owner can read.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sleap_rtc_base::json_file;
use sleap_rtc_protocol::ids::RoomId;
use std::fs::File;
use std::io;
use std::path::Path;
use tracing::warn;

/// An entry of such a list.
pub(super) trait RoomNote: Serialize + DeserializeOwned {
    /// The file's name.
    const FILE: &'static str;
    /// What the list says, after "cannot read".
    const SAYS: &'static str;

    /// The room that the entry is about.
    fn room(&self) -> &RoomId;
}

/// The list in `folder`. A file that cannot be read counts as empty.
pub(super) fn read<N: RoomNote>(folder: &Path) -> Vec<N> {
    let path = folder.join(N::FILE);
    let notes = json_file::load(&path).unwrap_or_else(|error| {
        warn!(path = %path.display(), %error, "cannot read {}; nothing counts as known", N::SAYS);
        None
    });
    notes.unwrap_or_default()
}

/// Changes the list in `folder`, while no other client does. If it cannot be written, the log says so.
pub(super) fn change<N: RoomNote>(folder: &Path, change: impl FnOnce(&mut Vec<N>)) {
    // It is held for one small write, so waiting for it is short. Without it, writing is still better than forgetting.
    let _lock = locked(&folder.join(format!("{}.lock", N::FILE))).inspect_err(|error| {
        warn!(folder = %folder.display(), %error, "cannot lock {}", N::SAYS);
    });
    let mut notes = read(folder);
    change(&mut notes);
    let path = folder.join(N::FILE);
    if let Err(error) = json_file::save(&path, &notes) {
        warn!(path = %path.display(), %error, "cannot save {}", N::SAYS);
    }
}

fn locked(path: &Path) -> io::Result<File> {
    let file = File::options().create(true).append(true).open(path)?;
    file.lock()?;
    Ok(file)
}

/// Removes what the list in `folder` has about `room`.
pub(super) fn forget<N: RoomNote>(folder: &Path, room: &RoomId) {
    if read::<N>(folder).iter().any(|note| note.room() == room) {
        change::<N>(folder, |notes| notes.retain(|note| note.room() != room));
    }
}
