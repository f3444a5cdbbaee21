//! The rooms that this device has paired with, as a way to name a room on the command line. They are
//! read only for a command that names no room by its id and its token.

use super::exit::Failure;
use crate::client::rooms::{RoomsError, SavedRoom, SavedRooms};
use crate::config::{self, Overrides, Sources};
use sleap_rtc_protocol::ids::RoomName;

/// Where they are saved, and which of them counts where none is named.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownRooms(Sources);

impl KnownRooms {
    pub(crate) fn new(sources: Sources) -> Self {
        Self(sources)
    }

    /// The room of that name. Where none is named: that of the configuration, or the only one; nothing
    /// where this device has paired with none.
    ///
    /// # Errors
    /// No room has that name, several are known and none is named, or a file cannot be read.
    pub(crate) fn find(&self, name: Option<&RoomName>) -> Result<Option<SavedRoom>, Failure> {
        let config = config::load(&self.0, Overrides::default())?;
        let rooms = SavedRooms::load(&config.client.state_dir)?;
        match rooms.find(name.or(config.client.room.as_ref())) {
            Err(RoomsError::NoRoom) => Ok(None),
            found => Ok(Some(found?.clone())),
        }
    }

    /// Whether a command without options finds a room.
    pub(crate) fn has_usual(&self) -> bool {
        matches!(self.find(None), Ok(Some(_)))
    }
}
