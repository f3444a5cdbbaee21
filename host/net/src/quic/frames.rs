//! Messages in a stream of bytes: the length in four bytes, big-endian, and the message.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use iroh::endpoint::{ReadError, RecvStream, SendStream, WriteError};

/// The most bytes that are read from a stream at once.
const READ_BYTES: usize = 256 << 10;

/// The receiving half of a stream of messages.
pub(crate) struct FrameReader {
    stream: RecvStream,
    buffer: BytesMut,
    max_bytes: usize,
}

/// Why there is no next message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameReadError {
    #[error(transparent)]
    Stream(#[from] ReadError),
    #[error("the other side sent a message of {0} bytes")]
    TooLong(usize),
    #[error("a stream ended in the middle of a message")]
    Cut,
}

impl FrameReader {
    /// Messages of at most `max_bytes`.
    pub(crate) fn new(stream: RecvStream, max_bytes: usize) -> Self {
        Self { stream, buffer: BytesMut::new(), max_bytes }
    }

    /// The next message, or `None` at the end of the stream. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, FrameReadError> {
        loop {
            if let Some(frame) = take(&mut self.buffer, self.max_bytes)? {
                return Ok(Some(frame));
            }
            match self.stream.read_chunk(READ_BYTES).await? {
                Some(bytes) => self.buffer.extend_from_slice(&bytes),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(FrameReadError::Cut),
            }
        }
    }
}

/// Removes a complete message from the front of `buffer`, if there is one.
fn take(buffer: &mut BytesMut, max_bytes: usize) -> Result<Option<Bytes>, FrameReadError> {
    let Some(head) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*head) as usize;
    if length > max_bytes {
        return Err(FrameReadError::TooLong(length));
    }
    if buffer.len() < 4 + length {
        buffer.reserve(4 + length - buffer.len());
        return Ok(None);
    }
    buffer.advance(4);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// The length prefix of a message.
pub(crate) fn head(length: usize) -> Bytes {
    Bytes::copy_from_slice(&(length as u32).to_be_bytes())
}

/// The sending half. If sending is cancelled, the message may still be sent, but never in part.
pub(crate) struct FrameWriter {
    pub(crate) stream: SendStream,
    /// The unsent rest of the latest message.
    pending: BytesMut,
}

impl FrameWriter {
    pub(crate) fn new(stream: SendStream) -> Self {
        Self { stream, pending: BytesMut::new() }
    }

    /// Sends a message. Waits while too much is unacknowledged.
    pub(crate) async fn send(&mut self, message: &[u8]) -> Result<(), WriteError> {
        self.write().await?;
        self.pending.put_u32(message.len() as u32);
        self.pending.extend_from_slice(message);
        self.write().await
    }

    /// Writes the unsent rest.
    pub(crate) async fn write(&mut self) -> Result<(), WriteError> {
        while !self.pending.is_empty() {
            let written = self.stream.write(&self.pending).await?;
            self.pending.advance(written);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The same messages arrive, however the bytes are split.
        #[test]
        fn messages_survive_any_cut(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
            cuts in prop::collection::vec(1..30usize, 1..60),
        ) {
            let mut sent = Vec::new();
            for message in &messages {
                sent.extend_from_slice(&head(message.len()));
                sent.extend_from_slice(message);
            }
            let (mut buffer, mut arrived, mut sent) = (BytesMut::new(), Vec::new(), &sent[..]);
            let mut cuts = cuts.into_iter().cycle();
            while !sent.is_empty() {
                let (now, later) = sent.split_at(cuts.next().unwrap().min(sent.len()));
                buffer.extend_from_slice(now);
                sent = later;
                while let Some(message) = take(&mut buffer, 40).unwrap() {
                    arrived.push(message.to_vec());
                }
            }
            prop_assert_eq!(arrived, messages);
            prop_assert!(buffer.is_empty());
        }
    }

    #[test]
    fn a_message_that_is_too_long_is_refused_before_it_comes() {
        let mut buffer = BytesMut::from(&[0, 1, 0, 0][..]);
        assert!(matches!(take(&mut buffer, 65_535), Err(FrameReadError::TooLong(65_536))));
    }
}
