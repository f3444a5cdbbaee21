//! Checks that the state file is still in its place. A file that was removed or replaced keeps
//! working until the server ends; then the rooms and the signing key are lost.

use crate::server::Server;
use crate::store::Store;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::spawn_blocking;

/// How often the server checks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Checks as long as the server runs, and logs changes.
pub(crate) async fn watch(server: Arc<Server>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(store) = server.state.own().cloned() else { return };
        // A dead mount may block for long, but only this task waits for it.
        let Ok(in_place) = spawn_blocking(move || store.is_in_place()).await else { continue };
        let was_lost = server.state_is_lost.swap(!in_place, Ordering::Relaxed);
        match (was_lost, in_place) {
            (false, false) => tracing::error!(
                file = %server.state.own().map(Store::path).unwrap_or(Path::new("")).display(),
                "the state file was removed or replaced: identities and new rooms will be lost when \
                 the server ends; put the file back, or restart the server for a new one"
            ),
            (true, true) => tracing::info!("the state file is back in its place"),
            _ => {}
        }
    }
}
