//! A sample of file content, by which a client measures the rate of a connection.

use super::{ClientEnd, DialectError, DialectOrInterrupt, WorkerEnd};
use bytes::BytesMut;
use sleap_rtc_protocol::frame::{ClientFrame, SAMPLE_BYTES, SAMPLE_TIME, WorkerFrame};
use sleap_rtc_protocol::job::Refusal;
use sleap_rtc_protocol::transfer::CHUNK_BYTES;
use sleap_rtc_transfer::{Accept, Incoming, Link, LinkError};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// How long a client may stay after the sample.
const GOODBYE: Duration = Duration::from_secs(5);

/// Why no rate is measured.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// The worker refuses.
    #[error("the worker refuses: {0}")]
    Refused(Refusal),
    /// The connection is lost.
    #[error(transparent)]
    Dialect(#[from] DialectError),
}

impl From<DialectOrInterrupt<WorkerFrame>> for SampleError {
    fn from(error: DialectOrInterrupt<WorkerFrame>) -> Self {
        match error {
            DialectOrInterrupt::Dialect(error) => Self::Dialect(error),
            DialectOrInterrupt::Interrupt { frame: WorkerFrame::Refused { refusal }, .. } => {
                Self::Refused(refusal)
            }
            DialectOrInterrupt::Interrupt { .. } => Self::Dialect(DialectError::Gone),
        }
    }
}

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
    pub async fn measure_rate(&mut self) -> Result<f64, SampleError> {
        self.send(&ClientFrame::Sample).await?;
        let (start, mut bytes) = (Instant::now(), 0);
        let mut last = start;
        let receiving = async {
            while bytes < SAMPLE_BYTES {
                let incoming = self.next_of_transfer(Accept::ControlAndChunks).await?;
                if let Incoming::Chunk(chunk) = incoming {
                    bytes += chunk.len();
                    last = Instant::now();
                }
            }
            Ok::<_, SampleError>(())
        };
        // A slow line does not carry all of it in time.
        if let Ok(Err(error)) = timeout(SAMPLE_TIME, receiving).await {
            return Err(error);
        }
        let seconds = (last - start).as_secs_f64();
        Ok(if bytes > 0 { bytes as f64 / seconds } else { 0.0 })
    }
}
