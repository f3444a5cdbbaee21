//! What carries a conversation: a data channel or a QUIC connection.

use super::DialectError;
use crate::binding::ChannelBinding;
use crate::quic::Session;
use crate::route::Route;
use crate::rtc::{Channel, Message};
use bytes::{Bytes, BytesMut};
use sleap_rtc_protocol::connection::ConnectionState;
use sleap_rtc_transfer::LinkError;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A connection that carries one conversation.
#[derive(Clone)]
pub(crate) enum Wire {
    Channel(Arc<Channel>),
    Session(Arc<Session>),
}

impl Wire {
    pub(crate) async fn send_text(&self, text: String) -> Result<(), DialectError> {
        match self {
            Self::Channel(channel) => Ok(channel.send_text(text).await?),
            Self::Session(session) => Ok(session.send(&text).await?),
        }
    }

    /// The next message. `None` once the conversation has ended or was cut. Cancel safe.
    pub(crate) async fn recv(&self, cut: &CancellationToken) -> Option<Message> {
        let next = async {
            match self {
                Self::Channel(channel) => channel.recv().await,
                Self::Session(session) => session.recv().await.map(Message::Text),
            }
        };
        tokio::select! {
            biased;
            () = cut.cancelled() => None,
            message = next => message,
        }
    }

    /// Waits until the other side has acknowledged everything, for at most `limit`. A QUIC
    /// connection delivers everything before it closes, so it needs no wait.
    pub(crate) async fn flush(&self, limit: Duration) {
        if let Self::Channel(channel) = self
            && channel.flush(limit).await.is_err()
        {
            tracing::debug!("the channel closed before everything was acknowledged");
        }
    }

    pub(crate) fn state(&self) -> watch::Receiver<ConnectionState> {
        match self {
            Self::Channel(channel) => channel.state(),
            Self::Session(session) => session.state(),
        }
    }

    pub(crate) fn binding(&self) -> Option<ChannelBinding> {
        match self {
            Self::Channel(channel) => channel.binding(),
            Self::Session(session) => Some(session.binding()),
        }
    }

    /// The connection's route. The receiver is notified of each change.
    pub(crate) fn route(&self) -> watch::Receiver<Option<Route>> {
        match self {
            Self::Channel(channel) => channel.route(),
            Self::Session(session) => session.route(),
        }
    }

    /// Delivers everything that was sent, then closes. Bounded in time. A data channel is closed by
    /// the owner of its connection.
    pub(crate) async fn close(&self) {
        if let Self::Session(session) = self {
            session.close(CLOSE_LIMIT).await;
        }
    }

    /// Sends file content. Waits while too much is unacknowledged.
    pub(crate) async fn send_chunk(&self, chunk: BytesMut) -> Result<(), LinkError> {
        let lost = |error| LinkError::Lost(error);
        match self {
            Self::Channel(channel) => {
                channel.send_binary(chunk).await.map_err(|error| lost(Box::new(error)))
            }
            Self::Session(session) => {
                let sent = session.chunks().send(chunk.freeze()).await;
                sent.map_err(|error| lost(Box::new(error)))
            }
        }
    }

    /// The next file content that travels apart from the conversation. Cancel safe.
    pub(crate) async fn next_chunk(&self) -> Bytes {
        if let Self::Session(session) = self
            && let Some(chunk) = session.chunks().next().await
        {
            return chunk;
        }
        // On a data channel it comes with the conversation, which also reports the end of either.
        std::future::pending().await
    }

    /// Whether file content travels apart from the conversation and so cannot delay it.
    pub(crate) fn separates_chunks(&self) -> bool {
        matches!(self, Self::Session(_))
    }
}

/// How long the last messages of a conversation may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
