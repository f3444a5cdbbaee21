//! One data channel: ordered and reliable, with back-pressure in both directions.

use super::connection::Shared;
use super::turns::{LEFT_BYTES, Turns};
use crate::binding::ChannelBinding;
use crate::route::Route;
use bytes::{Bytes, BytesMut};
use sleap_rtc_protocol::connection::ConnectionState;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use webrtc::data_channel::{DataChannel, DataChannelEvent};

/// How often `flush` checks for unacknowledged data. The `webrtc` crate has no event for it.
const FLUSH_POLL: Duration = Duration::from_millis(5);

/// How long closing a channel waits for acknowledgements.
const CLOSE_FLUSH: Duration = Duration::from_secs(5);

/// A message from the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Bytes),
}

/// Why sending fails.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The channel or its connection is closed.
    #[error("the data channel is closed")]
    Closed,
    /// The other side did not acknowledge in time.
    #[error("the other side did not acknowledge everything within {} s", .0.as_secs())]
    NotAcknowledged(Duration),
    /// The WebRTC stack reports an error.
    #[error("the data channel failed")]
    Webrtc(#[source] webrtc::error::Error),
}

/// An open data channel. Dropping it does not close it; closing the connection does.
pub struct Channel {
    inner: Arc<dyn DataChannel>,
    connection: Arc<Shared>,
    /// The route when the channel opened.
    route: watch::Sender<Option<Route>>,
    /// Known once the channel is open.
    binding: Option<ChannelBinding>,
    /// If the other side's socket may hold no more than one large message.
    turns: Option<Turns>,
    label: String,
    protocol: String,
}

impl Channel {
    /// Waits until `inner` is open.
    pub(crate) async fn opened(
        inner: Arc<dyn DataChannel>,
        connection: Arc<Shared>,
    ) -> Result<Self, ChannelError> {
        let label = inner.label().await.map_err(ChannelError::Webrtc)?;
        let protocol = inner.protocol().await.map_err(ChannelError::Webrtc)?;
        let route = watch::Sender::new(None);
        let turns = connection.is_foreign().then(Turns::new);
        let mut channel = Self { inner, connection, route, binding: None, turns, label, protocol };
        loop {
            match channel.event().await {
                Some(DataChannelEvent::OnOpen) => {
                    channel.binding = channel.connection.binding().await;
                    if channel.turns.is_some() {
                        // Where the crate does not know the channel yet, messages are polled for.
                        let threshold = LEFT_BYTES as u32;
                        let _ = channel.inner.set_buffered_amount_low_threshold(threshold).await;
                    }
                    channel.route.send_replace(channel.connection.route().await);
                    return Ok(channel);
                }
                Some(DataChannelEvent::OnClose) | None => return Err(ChannelError::Closed),
                Some(_) => {}
            }
        }
    }

    /// The label that the opening side chose.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The dialect that the opening side wants to speak; empty for the Python dialect.
    pub fn protocol(&self) -> &str {
        &self.protocol
    }

    /// Sends a text message. Waits while too much data is unacknowledged.
    pub async fn send_text(&self, text: String) -> Result<(), ChannelError> {
        self.until_over(self.inner.send_text(&text)).await
    }

    /// Sends a binary message. Waits while too much data is unacknowledged.
    pub async fn send_binary(&self, bytes: BytesMut) -> Result<(), ChannelError> {
        if let Some(turns) = &self.turns {
            while turns.holds_back(self.outstanding_bytes().await?) {
                turns.news().await;
            }
        }
        self.until_over(self.inner.send(bytes)).await
    }

    /// The next message, or `None` once the channel or its connection is closed. One reader at a
    /// time; cancel safe. The queue is bounded: if nobody reads, the other side has to wait.
    pub async fn recv(&self) -> Option<Message> {
        loop {
            match self.event().await? {
                DataChannelEvent::OnMessage(message) if message.is_string => {
                    match String::from_utf8(message.data.to_vec()) {
                        Ok(text) => return Some(Message::Text(text)),
                        Err(_) => {
                            tracing::warn!(
                                "received a text message that is not UTF-8; closing the channel"
                            );
                            self.reset().await;
                            return None;
                        }
                    }
                }
                DataChannelEvent::OnMessage(message) => {
                    return Some(Message::Binary(message.data.freeze()));
                }
                DataChannelEvent::OnClose => return None,
                DataChannelEvent::OnBufferedAmountLow => {
                    self.turns.iter().for_each(Turns::drained);
                }
                _ => {}
            }
        }
    }

    /// The number of bytes that are sent and not acknowledged.
    pub(super) async fn outstanding_bytes(&self) -> Result<usize, ChannelError> {
        self.until_over(self.inner.outstanding_bytes()).await
    }

    /// The state of the connection, as it changes.
    pub fn state(&self) -> watch::Receiver<ConnectionState> {
        self.connection.state()
    }

    /// What ties a proof of identity to this connection; `None` if the other side's certificate is
    /// not known.
    pub fn binding(&self) -> Option<ChannelBinding> {
        self.binding
    }

    /// The connection's route.
    pub fn route(&self) -> watch::Receiver<Option<Route>> {
        self.route.subscribe()
    }

    /// Waits until everything sent so far is acknowledged, for at most `limit`. Returns early if the
    /// connection closes, because nothing is acknowledged after that.
    pub async fn flush(&self, limit: Duration) -> Result<(), ChannelError> {
        let acknowledged = async {
            while self.outstanding_bytes().await? > 0 {
                tokio::time::sleep(FLUSH_POLL).await;
            }
            Ok(())
        };
        tokio::select! {
            biased;
            flushed = tokio::time::timeout(limit, acknowledged) => {
                flushed.unwrap_or(Err(ChannelError::NotAcknowledged(limit)))
            }
            () = self.connection.over() => Err(ChannelError::Closed),
        }
    }

    /// Closes the channel once everything sent is acknowledged, or after five seconds.
    ///
    /// The other side may lose messages that it has acknowledged and not read. If that matters, wait
    /// for a message that confirms them before closing.
    pub async fn close(&self) {
        // Closing at once would discard data in flight.
        if let Err(error) = self.flush(CLOSE_FLUSH).await {
            tracing::debug!(%error, "closing a data channel with unacknowledged messages");
        }
        self.reset().await;
    }

    async fn reset(&self) {
        if let Err(error) = self.inner.close().await {
            tracing::debug!(%error, "cannot close a data channel");
        }
    }

    async fn event(&self) -> Option<DataChannelEvent> {
        let event = tokio::select! {
            // Deliver messages that have arrived before reporting the end of the connection.
            biased;
            event = self.inner.poll() => event,
            () = self.connection.over() => None,
        };
        if let Some(DataChannelEvent::OnClose) = event {
            self.connection.channel_ended().await;
        }
        event
    }

    async fn until_over<T>(
        &self,
        work: impl Future<Output = webrtc::error::Result<T>>,
    ) -> Result<T, ChannelError> {
        tokio::select! {
            biased;
            done = work => done.map_err(|error| match error {
                webrtc::error::Error::ErrDataChannelClosed => ChannelError::Closed,
                other => ChannelError::Webrtc(other),
            }),
            () = self.connection.over() => Err(ChannelError::Closed),
        }
    }
}
