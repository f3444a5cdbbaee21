//! File content: streams of at most a mebibyte, each finished before the next begins.
//!
//! One long stream would not do: QUIC gives a connection up in which a stream has more than a thousand
//! gaps, and a loss at the start of a fast line makes as many.

use super::frames::{FrameReader, head};
use super::settings::SEND_WINDOW_BYTES;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use iroh::endpoint::{Connection, ConnectionError, SendStream, WriteError};
use sleap_rtc_protocol::transfer::{CHUNK_BYTES, CHUNK_HEADER_BYTES};
use tokio::sync::Mutex;

/// How much one stream carries.
const STREAM_BYTES: usize = 1 << 20;
/// Streams that are not acknowledged yet. They leave room in the window for the conversation.
const UNDER_WAY: usize = SEND_WINDOW_BYTES / STREAM_BYTES - 1;
const MAX_CHUNK_BYTES: usize = CHUNK_BYTES + CHUNK_HEADER_BYTES;

/// The content that goes out, and the content that comes in, of one connection.
pub struct Chunks {
    connection: Connection,
    outgoing: Mutex<Outgoing>,
    incoming: Mutex<Option<FrameReader>>,
}

#[derive(Default)]
struct Outgoing {
    stream: Option<SendStream>,
    written_bytes: usize,
    /// Each resolves when its stream is acknowledged.
    under_way: FuturesUnordered<BoxFuture<'static, ()>>,
}

/// Content can be sent no more.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// The connection is lost.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The other side wants no more of it, or the connection is lost.
    #[error(transparent)]
    Stream(#[from] WriteError),
}

impl Chunks {
    pub(crate) fn new(connection: Connection) -> Self {
        Self { connection, outgoing: Mutex::default(), incoming: Mutex::default() }
    }

    /// Sends an encoded chunk. Waits while too much is unacknowledged. Not cancel safe: a chunk of
    /// which a part was sent leaves its stream useless.
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

    /// Ends the stream that is open: nothing follows for now.
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
                    tracing::debug!(%error, "a stream of file content broke off");
                    *incoming = None;
                    if self.connection.close_reason().is_some() {
                        return None;
                    }
                }
            }
        }
    }
}

impl Outgoing {
    /// Opens the next stream when few enough are under way.
    async fn open(&mut self, connection: &Connection) -> Result<SendStream, ConnectionError> {
        while self.under_way.len() >= UNDER_WAY {
            self.under_way.next().await;
        }
        self.written_bytes = 0;
        connection.open_uni().await
    }

    fn finish(&mut self, mut stream: SendStream) {
        // Fails only for a stream that is finished.
        let _ = stream.finish();
        let acknowledged = stream.stopped();
        self.under_way.push(Box::pin(async move {
            // Stopped, or lost with the connection: there is nothing to wait for either.
            let _ = acknowledged.await;
        }));
    }
}
