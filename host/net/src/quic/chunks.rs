//! File content: streams of at most a mebibyte, each finished before the next begins.
//!
//! A single long stream does not work: QUIC closes a connection in which a stream has more than a
//! thousand gaps, and an early loss on a fast link creates that many.

use super::frames::{FrameReader, head};
use super::settings::SEND_WINDOW_BYTES;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use iroh::endpoint::{Connection, ConnectionError, SendStream, WriteError};
use sleap_rtc_protocol::transfer::{CHUNK_BYTES, CHUNK_HEADER_BYTES};
use tokio::sync::Mutex;

/// The most bytes that one stream carries.
const STREAM_BYTES: usize = 1 << 20;
/// The most streams that may be unacknowledged. They leave room in the window for the conversation.
const UNDER_WAY: usize = SEND_WINDOW_BYTES / STREAM_BYTES - 1;
const MAX_CHUNK_BYTES: usize = CHUNK_BYTES + CHUNK_HEADER_BYTES;

/// The outgoing and the incoming file content of one connection.
pub struct Chunks {
    connection: Connection,
    outgoing: Mutex<OutgoingContent>,
    incoming: Mutex<Option<FrameReader>>,
}

#[derive(Default)]
struct OutgoingContent {
    stream: Option<SendStream>,
    written_bytes: usize,
    /// Each resolves when its stream is acknowledged.
    under_way: FuturesUnordered<BoxFuture<'static, ()>>,
}

/// Why no more content can be sent.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// The connection is lost.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The other side stopped the stream, or the connection is lost.
    #[error(transparent)]
    Stream(#[from] WriteError),
}

impl Chunks {
    pub(crate) fn new(connection: Connection) -> Self {
        Self { connection, outgoing: Mutex::default(), incoming: Mutex::default() }
    }

    /// Sends an encoded chunk. Waits while too much is unacknowledged. Not cancel safe: a stream
    /// with a partial chunk is useless.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn send(&self, chunk: Bytes) -> Result<(), ChunkError> {
        let outgoing = &mut *self.outgoing.lock().await;
        let mut stream = match outgoing.stream.take() {
            Some(stream) => stream,
            None => outgoing.open(&self.connection).await?,
        };
        outgoing.written_bytes += chunk.len();
        stream.write_all_chunks(&mut [head(chunk.len()), chunk]).await?;
        if outgoing.written_bytes < STREAM_BYTES - MAX_CHUNK_BYTES {
            outgoing.stream = Some(stream);
        } else {
            outgoing.finish(stream);
        }
        Ok(())
    }

    /// Finishes the open stream, because no more content follows for now.
    pub async fn finish(&self) {
        let outgoing = &mut *self.outgoing.lock().await;
        if let Some(stream) = outgoing.stream.take() {
            outgoing.finish(stream);
        }
    }

    /// The next chunk, or `None` when the connection is over. Cancel safe.
    pub async fn next(&self) -> Option<Bytes> {
        let incoming = &mut *self.incoming.lock().await;
        loop {
            let Some(reader) = incoming else {
                let stream = self.connection.accept_uni().await.ok()?;
                *incoming = Some(FrameReader::new(stream, MAX_CHUNK_BYTES));
                continue;
            };
            match reader.next().await {
                Ok(Some(chunk)) => return Some(chunk),
                Ok(None) => *incoming = None,
                Err(error) => {
                    tracing::debug!(%error, "a stream of file content ended early");
                    *incoming = None;
                    if self.connection.close_reason().is_some() {
                        return None;
                    }
                }
            }
        }
    }
}

impl OutgoingContent {
    /// Opens the next stream once few enough are unacknowledged.
    async fn open(&mut self, connection: &Connection) -> Result<SendStream, ConnectionError> {
        while self.under_way.len() >= UNDER_WAY {
            self.under_way.next().await;
        }
        self.written_bytes = 0;
        connection.open_uni().await
    }

    fn finish(&mut self, mut stream: SendStream) {
        // Fails only if the stream is already finished.
        let _ = stream.finish();
        let acknowledged = stream.stopped();
        self.under_way.push(Box::pin(async move {
            // Stopped, or lost with the connection: there is nothing left to wait for.
            let _ = acknowledged.await;
        }));
    }
}
