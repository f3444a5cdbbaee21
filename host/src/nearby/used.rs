//! The servers that this device has used before: a small file of the client's state folder.

use serde::{Deserialize, Serialize};
use sleap_rtc_base::json_file;
use sleap_rtc_signaling::client::Endpoints;
use std::io;
use std::path::Path;
use url::Url;

const FILE: &str = "servers.json";
/// More are forgotten, the oldest first.
const MAX_SERVERS: usize = 64;

/// The WebSocket addresses of servers that the user has agreed to, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct UsedServers(Vec<Url>);

impl UsedServers {
    /// Reads them from `folder`. None if there is no file, or a damaged one: then the user is asked again.
    pub(crate) fn load(folder: &Path) -> Self {
        json_file::load(&folder.join(FILE)).ok().flatten().unwrap_or_default()
    }

    /// Whether the user has agreed to this server.
    pub(crate) fn contains(&self, server: &Endpoints) -> bool {
        self.0.contains(&server.websocket)
    }

    /// Adds a server, and saves all in `folder`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn add(&mut self, server: &Endpoints, folder: &Path) -> io::Result<()> {
        self.0.retain(|known| *known != server.websocket);
        self.0.push(server.websocket.clone());
        let too_many = self.0.len().saturating_sub(MAX_SERVERS);
        self.0.drain(..too_many);
        json_file::save(&folder.join(FILE), self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_remembered_and_a_damaged_file_is_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let server = |number: usize| Endpoints::from_one(&format!("ws://10.0.0.{number}")).unwrap();
        let mut used = UsedServers::load(folder.path());
        for number in 0..=MAX_SERVERS {
            used.add(&server(number), folder.path()).unwrap();
        }
        let used = UsedServers::load(folder.path());
        assert!(!used.contains(&server(0)) && used.contains(&server(1)));
        assert!(used.contains(&server(MAX_SERVERS)));
        std::fs::write(folder.path().join(FILE), "[{").unwrap();
        assert_eq!(UsedServers::load(folder.path()), UsedServers::default());
    }
}
