//! One connection to a peer: the conversation in a stream of its own, file content in others.

use super::calls::BegunCall;
use super::chunks::Chunks;
use super::error::QuicError;
use super::frames::{FrameReader, FrameWriter};
use super::routes::WatchedRoutes;
use super::udp::Udp;
use crate::binding::ChannelBinding;
use crate::route::Route;
use iroh::EndpointId;
use iroh::endpoint::{Connection, VarInt};
use sleap_rtc_protocol::connection::ConnectionState;
use sleap_rtc_protocol::frame::MAX_CONTROL_BYTES;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// The conversation has priority over file content.
const PRIORITY: i32 = 1;
/// Why a connection was closed.
pub(crate) const DONE: VarInt = VarInt::from_u32(0);
pub(crate) const NOT_EXPECTED: VarInt = VarInt::from_u32(1);
pub(crate) const SUPERSEDED: VarInt = VarInt::from_u32(2);

/// What a connection needs from its endpoint.
#[derive(Clone)]
pub(crate) struct LocalEnd {
    pub(crate) id: EndpointId,
    pub(crate) udp: watch::Receiver<Udp>,
}

/// A connection over which two programs talk. Dropping it closes it.
pub struct Session {
    connection: Connection,
    outgoing: Mutex<FrameWriter>,
    incoming: Mutex<FrameReader>,
    chunks: Chunks,
    state: watch::Receiver<ConnectionState>,
    route: watch::Receiver<Option<Route>>,
    local_id: EndpointId,
    _watching: [AbortOnDropHandle<()>; 2],
}

impl Session {
    /// The session of either side.
    pub(crate) fn new(call: BegunCall, local: LocalEnd) -> Self {
        let BegunCall { connection, send, receive } = call;
        // Fails only if the stream is closed.
        let _ = send.set_priority(PRIORITY);
        let (changed, state) = watch::channel(ConnectionState::Connected);
        // Holds no handle, so dropping the last handle closes the connection.
        let closed = connection.weak_handle().closed();
        let watched = WatchedRoutes::of(&connection, local.udp);
        let (newest, route) = watch::channel(watched.route(&connection));
        let routes = watched.watch(connection.path_events(), newest);
        let watching = tokio::spawn(async move {
            let end = closed.await;
            tracing::debug!(reason = ?end.map(|end| end.reason), "a connection has ended");
            changed.send_replace(ConnectionState::Closed);
        });
        Self {
            chunks: Chunks::new(connection.clone()),
            outgoing: Mutex::new(FrameWriter::new(send)),
            incoming: Mutex::new(FrameReader::new(receive, MAX_CONTROL_BYTES)),
            connection,
            state,
            route,
            local_id: local.id,
            _watching: [watching, tokio::spawn(routes)].map(AbortOnDropHandle::new),
        }
    }

    /// Sends a message of the conversation. Waits while too much is unacknowledged. If sending is
    /// cancelled, the message may still be sent, but never in part.
    ///
    /// # Errors
    /// The connection is over.
    pub async fn send(&self, text: &str) -> Result<(), QuicError> {
        Ok(self.outgoing.lock().await.send(text.as_bytes()).await?)
    }

    /// The next message of the conversation, or `None` once it has ended. Cancel safe.
    pub async fn recv(&self) -> Option<String> {
        match self.incoming.lock().await.next().await {
            Ok(message) => String::from_utf8(message?.to_vec())
                .inspect_err(|_| tracing::warn!("received a message that is not UTF-8"))
                .ok(),
            Err(error) => {
                tracing::debug!(%error, "the conversation has ended");
                None
            }
        }
    }

    /// The file content of this connection.
    pub fn chunks(&self) -> &Chunks {
        &self.chunks
    }

    /// The connection's state. The receiver is notified of each change.
    pub fn state(&self) -> watch::Receiver<ConnectionState> {
        self.state.clone()
    }

    /// The channel binding, which ties a proof of identity to this connection.
    pub fn binding(&self) -> ChannelBinding {
        let (local, remote) = (self.local_id, self.connection.remote_id());
        ChannelBinding::Iroh { local: *local.as_bytes(), remote: *remote.as_bytes() }
    }

    /// The connection's route. The receiver is notified of each change.
    pub fn route(&self) -> watch::Receiver<Option<Route>> {
        self.route.clone()
    }

    /// Announces that this side sends no more messages, and waits for at most `limit` until all of
    /// them are acknowledged. Returns whether they are.
    async fn finish(&self, limit: Duration) -> bool {
        let finished = async {
            let mut outgoing = self.outgoing.lock().await;
            outgoing.write().await.ok()?;
            // Fails only if the stream is already finished.
            let _ = outgoing.stream.finish();
            outgoing.stream.stopped().await.ok()
        };
        timeout(limit, finished).await.is_ok_and(|finished| finished.is_some())
    }

    /// Delivers everything that was sent, for at most `limit`, then closes.
    pub async fn close(&self, limit: Duration) {
        if !self.finish(limit).await {
            tracing::debug!("closing a connection with unacknowledged messages");
        }
        self.connection.close(DONE, b"done");
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.close(DONE, b"done");
    }
}
