//! One connection to the relay: binary WebSocket messages, read no faster than its limit allows.

use super::admission::RelayPermit;
use crate::server::Share;
use crate::server::addresses::OpenSocket;
use futures_util::{Sink, SinkExt, Stream, StreamExt, ready};
use iroh_relay::protos::streams::StreamError;
use iroh_relay::server::Metrics;
use iroh_relay::server::streams::{Bucket, MaybeTlsStream};
use iroh_relay::{ExportKeyingMaterial, MAX_PACKET_SIZE};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Sleep, sleep_until};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message};

/// The longest message: packets that travel together, and what the protocol adds.
const MAX_MESSAGE_BYTES: usize = MAX_PACKET_SIZE + 1024;
/// What is read from the socket at once.
const READ_BUFFER_BYTES: usize = 32 * 1024;
/// How often the rate limit gives out new bytes.
const REFILL_EVERY: Duration = Duration::from_millis(100);

/// The permits that a socket holds until it is dropped.
pub(crate) struct Holds {
    pub(crate) _share: Arc<Share>,
    /// Behind a trusted proxy.
    pub(crate) _place: Option<OpenSocket>,
}

/// The socket, and what it holds for as long as it lives.
pub(crate) struct RelaySocket {
    ws: WebSocketStream<MaybeTlsStream>,
    bucket: Option<Bucket>,
    /// When it is read again.
    resume: Option<Pin<Box<Sleep>>>,
    traffic: Arc<Metrics>,
    place: Option<RelayPermit>,
    _holds: Holds,
}

impl RelaySocket {
    /// A socket that is read at `bytes_per_s`. What came after the request already is in `read`.
    pub(crate) async fn new(
        stream: MaybeTlsStream,
        read: Vec<u8>,
        bytes_per_s: u32,
        traffic: Arc<Metrics>,
        holds: Holds,
    ) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        let ws = WebSocketStream::from_partially_read(stream, read, Role::Server, Some(config));
        let bytes_per_s = i64::from(bytes_per_s);
        // A burst holds the longest message at least.
        let burst = (bytes_per_s / 10).max(MAX_MESSAGE_BYTES as i64);
        let bucket = Bucket::new(burst, bytes_per_s, REFILL_EVERY);
        Self {
            ws: ws.await,
            bucket: bucket.ok(),
            resume: None,
            traffic,
            place: None,
            _holds: holds,
        }
    }

    /// From now on it holds a place in the relay.
    pub(crate) fn hold(&mut self, place: RelayPermit) {
        self.place = Some(place);
    }

    /// Closes, and reads until the other side has closed too, so that what was sent arrives.
    pub(crate) async fn close(mut self) {
        if SinkExt::close(&mut self).await.is_ok() {
            while let Some(Ok(_)) = self.next().await {}
        }
    }
}

impl Stream for RelaySocket {
    type Item = Result<Bytes, StreamError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(resume) = &mut this.resume {
            ready!(resume.as_mut().poll(cx));
            this.resume = None;
        }
        loop {
            let message = match ready!(this.ws.poll_next_unpin(cx)) {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Poll::Ready(Some(Err(StreamError::from_std(error)))),
                None => return Poll::Ready(None),
            };
            match message {
                Message::Binary(bytes) => {
                    let spent = this.bucket.as_mut().map(|bucket| bucket.consume(bytes.len()));
                    if let Some(Err(refilled)) = spent {
                        this.traffic.bytes_rx_ratelimited_total.inc_by(bytes.len() as u64);
                        this.resume = Some(Box::pin(sleep_until(refilled)));
                    }
                    return Poll::Ready(Some(Ok(bytes)));
                }
                Message::Close(_) => return Poll::Ready(None),
                // The library answers pings itself.
                Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }
}

impl Sink<Bytes> for RelaySocket {
    type Error = StreamError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.ws.poll_ready_unpin(cx).map_err(StreamError::from_std)
    }

    fn start_send(mut self: Pin<&mut Self>, bytes: Bytes) -> Result<(), StreamError> {
        self.ws.start_send_unpin(Message::Binary(bytes)).map_err(StreamError::from_std)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.ws.poll_flush_unpin(cx).map_err(StreamError::from_std)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.ws.poll_close_unpin(cx).map_err(StreamError::from_std)
    }
}

impl ExportKeyingMaterial for RelaySocket {
    fn export_keying_material<T: AsMut<[u8]>>(
        &self,
        output: T,
        label: &[u8],
        context: Option<&[u8]>,
    ) -> Option<T> {
        self.ws.get_ref().export_keying_material(output, label, context)
    }
}
