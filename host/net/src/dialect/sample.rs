//! A sample of file content, by which a client measures the rate of a connection.

use super::{ClientEnd, WorkerEnd};
use bytes::BytesMut;
use sleap_rtc_protocol::frame::{ClientFrame, SAMPLE_BYTES, SAMPLE_TIME};
use sleap_rtc_protocol::transfer::CHUNK_BYTES;
use sleap_rtc_transfer::{Accept, Incoming, Link, LinkError};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// How long a client may stay after the sample.
const GOODBYE: Duration = Duration::from_secs(5);

impl WorkerEnd {
    /// Sends a sample until the client leaves. Bounded in bytes and time.
    pub async fn send_sample(&mut self) {
        let sending = async {
            for _ in 0..SAMPLE_BYTES / CHUNK_BYTES {
                self.send_chunk(BytesMut::zeroed(CHUNK_BYTES)).await?;
            }
            Ok::<_, LinkError>(())
        };
        if timeout(SAMPLE_TIME, sending).await.is_ok_and(|sent| sent.is_err()) {
            return;
        }
        // What is under way is lost if this side closes first.
        let until_gone = async { while self.recv().await.is_ok() {} };
        if timeout(GOODBYE, until_gone).await.is_err() {
            tracing::debug!("a client that has its sample stays; closing the connection");
        }
    }
}

impl ClientEnd {
    /// The rate at which a sample arrives, in bytes per second.
    ///
    /// # Errors
    /// The connection is lost, or the worker refuses.
    pub async fn measure_rate(&mut self) -> Result<f64, LinkError> {
        let asked = self.send(&ClientFrame::Sample).await;
        asked.map_err(|error| LinkError::Lost(Box::new(error)))?;
        let (start, mut bytes) = (Instant::now(), 0);
        let mut last = start;
        let receiving = async {
            while bytes < SAMPLE_BYTES {
                if let Incoming::Chunk(chunk) = self.next(Accept::ControlAndChunks).await? {
                    bytes += chunk.len();
                    last = Instant::now();
                }
            }
            Ok(())
        };
        // A slow line does not carry all of it in time.
        if let Ok(Err(error)) = timeout(SAMPLE_TIME, receiving).await {
            return Err(error);
        }
        let seconds = (last - start).as_secs_f64();
        Ok(if bytes > 0 { bytes as f64 / seconds } else { 0.0 })
    }
}
