//! What carries a conversation: a data channel or a QUIC connection.

use super::DialectError;
use super::lanes::RtcLane;
use crate::binding::ChannelBinding;
use crate::quic::Session;
use crate::route::Route;
use crate::rtc::{Channel, Message};
use bytes::BytesMut;
use sleap_rtc_protocol::connection::ConnectionState;
use sleap_rtc_transfer::{Gauge, Lane, LaneLost};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// See the module.
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

    /// The lane for chunks that this end sends.
    pub(crate) fn lane(&self, cut: CancellationToken) -> Arc<dyn Lane> {
        match self {
            Self::Channel(channel) => Arc::new(RtcLane::conversation(channel.clone(), cut)),
            Self::Session(session) => Arc::new(QuicLane { session: session.clone(), cut }),
        }
    }
}

/// How long the last messages of a conversation may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// QUIC itself limits how much is in flight.
struct QuicLane {
    session: Arc<Session>,
    cut: CancellationToken,
}

#[async_trait::async_trait]
impl Lane for QuicLane {
    async fn send(&self, chunk: BytesMut) -> Result<(), LaneLost> {
        let sending = self.session.chunks().send(chunk.freeze());
        match self.cut.run_until_cancelled(sending).await {
            Some(sent) => sent.map_err(|error| LaneLost(Box::new(error))),
            None => Err(LaneLost(Box::new(DialectError::Gone))),
        }
    }

    async fn room(&self, gauge: &Gauge) -> Result<(), LaneLost> {
        gauge.note(0);
        Ok(())
    }

    async fn round_trip(&self) -> Option<Duration> {
        self.session.route().borrow().as_ref().map(|route| route.round_trip)
    }

    fn close(&self) {}
}
