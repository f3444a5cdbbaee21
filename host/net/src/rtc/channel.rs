//! One data channel: ordered, reliable, with back-pressure both ways.

use super::connection::Shared;
use bytes::{Bytes, BytesMut};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use webrtc::data_channel::{DataChannel, DataChannelEvent};

/// How often a flush looks at what is unacknowledged; the crate has no event for it.
const FLUSH_POLL: Duration = Duration::from_millis(5);

/// Who waits for room looks this often although nothing was said of any: the crate tells only of
/// the moment when the mark is passed.
const ROOM_POLL: Duration = Duration::from_millis(10);
/// How far below what it may be the unacknowledged data has to fall before a waiter is woken: half
/// a chunk, so that there is more on its way when the next one comes.
const ROOM_STEP: usize = 32 << 10;

/// How long closing a channel waits for acknowledgements.
const CLOSE_FLUSH: Duration = Duration::from_secs(5);

/// A message from the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// UTF-8.
    Text(String),
    /// Anything.
    Binary(Bytes),
}

/// Why nothing can be sent.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The channel or its connection is over.
    #[error("the data channel is closed")]
    Closed,
    /// The other side did not acknowledge in time.
    #[error("the other side did not acknowledge everything within {} s", .0.as_secs())]
    NotAcknowledged(Duration),
    /// The WebRTC stack said no.
    #[error("the data channel failed")]
    Webrtc(#[source] webrtc::error::Error),
}

/// An open data channel. Dropping it leaves it to the connection to close.
pub struct Channel {
    inner: Arc<dyn DataChannel>,
    connection: Arc<Shared>,
    label: String,
    protocol: String,
    /// Told when the unacknowledged data has fallen below `mark`.
    drained: Notify,
    mark: AtomicU32,
}

impl Channel {
    /// Waits until `inner` is open.
    pub(super) async fn opened(
        inner: Arc<dyn DataChannel>,
        connection: Arc<Shared>,
    ) -> Result<Self, ChannelError> {
        let label = inner.label().await.map_err(ChannelError::Webrtc)?;
        let protocol = inner.protocol().await.map_err(ChannelError::Webrtc)?;
        let (drained, mark) = (Notify::new(), AtomicU32::new(0));
        let channel = Self { inner, connection, label, protocol, drained, mark };
        loop {
            match channel.event().await {
                Some(DataChannelEvent::OnOpen) => return Ok(channel),
                Some(DataChannelEvent::OnClose) | None => return Err(ChannelError::Closed),
                Some(_) => {}
            }
        }
    }

    /// The name that its opener gave it.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The dialect that its opener wants to speak on it; empty for legacy.
    pub fn protocol(&self) -> &str {
        &self.protocol
    }

    /// Sends a text, waiting while too much is unacknowledged.
    pub async fn send_text(&self, text: String) -> Result<(), ChannelError> {
        self.until_over(self.inner.send_text(&text)).await
    }

    /// Sends bytes, waiting while too much is unacknowledged.
    pub async fn send_binary(&self, bytes: BytesMut) -> Result<(), ChannelError> {
        self.until_over(self.inner.send(bytes)).await
    }

    /// The next message, or `None` when the channel or its connection is over. One reader at a
    /// time; cancel safe. While nobody reads, the other side is held back after a bounded queue.
    pub async fn recv(&self) -> Option<Message> {
        loop {
            match self.event().await? {
                DataChannelEvent::OnMessage(message) if message.is_string => {
                    match String::from_utf8(message.data.to_vec()) {
                        Ok(text) => return Some(Message::Text(text)),
                        Err(_) => {
                            tracing::warn!("a text message was not UTF-8; channel closed");
                            self.reset().await;
                            return None;
                        }
                    }
                }
                DataChannelEvent::OnMessage(message) => {
                    return Some(Message::Binary(message.data.freeze()));
                }
                DataChannelEvent::OnBufferedAmountLow => self.drained.notify_waiters(),
                DataChannelEvent::OnClose => return None,
                _ => {}
            }
        }
    }

    /// Bytes that were sent and are not acknowledged.
    pub async fn outstanding_bytes(&self) -> Result<usize, ChannelError> {
        self.until_over(self.inner.outstanding_bytes()).await
    }

    /// Waits until fewer bytes than `below` says are unacknowledged; says how many. It is asked
    /// again whenever some were acknowledged. Needs a reader on the channel to be quick.
    pub async fn room(&self, mut below: impl FnMut(usize) -> usize) -> Result<(), ChannelError> {
        loop {
            let mut drained = pin!(self.drained.notified());
            drained.as_mut().enable();
            let outstanding = self.outstanding_bytes().await?;
            let below = below(outstanding);
            if outstanding < below {
                return Ok(());
            }
            self.wake_below(below).await?;
            // Late is what the wait is for.
            let _ = tokio::time::timeout(ROOM_POLL, drained).await;
        }
    }

    /// Has the crate tell when the unacknowledged data falls to a little less than `below`.
    async fn wake_below(&self, below: usize) -> Result<(), ChannelError> {
        let mark = u32::try_from(below.saturating_sub(ROOM_STEP)).unwrap_or(u32::MAX);
        let set = self.mark.load(Ordering::Relaxed);
        // Each change costs more than a mark that is a little off.
        if mark.abs_diff(set) > set / 8 {
            self.mark.store(mark, Ordering::Relaxed);
            self.until_over(self.inner.set_buffered_amount_low_threshold(mark)).await?;
        }
        Ok(())
    }

    /// From here to the other side and back, as the connection has measured it last.
    pub async fn round_trip(&self) -> Option<Duration> {
        self.connection.round_trip().await
    }

    /// The length of SCTP packets that suits the way that the connection takes, as far as this
    /// machine knows it.
    pub async fn packet_bytes(&self) -> Option<u32> {
        self.connection.packet_bytes().await
    }

    /// Waits until everything sent so far is acknowledged, at most `limit`; less when the connection
    /// is over, after which nobody acknowledges anything.
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
    /// Acknowledged is not read: what the other side has received and not yet read may be lost to
    /// it. Where that matters, wait for a message that confirms before closing.
    pub async fn close(&self) {
        // Closing at once would discard what is on its way.
        if let Err(error) = self.flush(CLOSE_FLUSH).await {
            tracing::debug!(%error, "closing a data channel with unacknowledged messages");
        }
        self.reset().await;
    }

    async fn reset(&self) {
        if let Err(error) = self.inner.close().await {
            tracing::debug!(%error, "closing a data channel");
        }
    }

    async fn event(&self) -> Option<DataChannelEvent> {
        let event = tokio::select! {
            // What has arrived is read to its end before the connection's end counts.
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
