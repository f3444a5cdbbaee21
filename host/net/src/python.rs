//! A data channel that speaks the Python dialect, from either side: texts, keep-alives, and files.

use crate::rtc::{Channel, ChannelError, Message};
use bytes::{Bytes, BytesMut};
use sleap_rtc_protocol::python::{ClientText, FileMeta, KEEP_ALIVE, WorkerText};
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// A connection counts as dead if sending one message takes longer than this.
const SEND_LIMIT: Duration = Duration::from_secs(60);

/// The texts of one direction.
pub trait PythonText: Send + Sync {
    /// The end of a file.
    const END_OF_FILE: Self;
    /// Decodes a text message.
    fn decode(text: &str) -> Self;
    /// The text message.
    fn encode(&self) -> String;
}

impl PythonText for ClientText {
    const END_OF_FILE: Self = Self::EndOfFile;

    fn decode(text: &str) -> Self {
        Self::decode(text)
    }

    fn encode(&self) -> String {
        self.encode()
    }
}

impl PythonText for WorkerText {
    const END_OF_FILE: Self = Self::EndOfFile;

    fn decode(text: &str) -> Self {
        Self::decode(text)
    }

    fn encode(&self) -> String {
        self.encode()
    }
}

/// Why a channel has ended, or why a file cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum PythonError {
    /// The connection is closed.
    #[error("the connection to the other side is closed")]
    Gone,
    /// The other side has stopped reading.
    #[error("the other side accepted no data for {} s", SEND_LIMIT.as_secs())]
    Stalled,
    /// The file that is being sent cannot be read.
    #[error("cannot read the file to send")]
    File(#[from] io::Error),
}

/// A message from the other side.
#[derive(Debug)]
pub enum PythonMessage<In> {
    /// A text.
    Text(In),
    /// A part of a file.
    Content(Bytes),
}

/// A data channel that sends `Out` and receives `In`.
pub struct PythonChannel<Out, In> {
    channel: Channel,
    /// A message that was received and put back.
    put_back: Option<PythonMessage<In>>,
    direction: PhantomData<fn(Out)>,
}

/// The worker's end of a channel.
pub type PythonWorkerEnd = PythonChannel<WorkerText, ClientText>;
/// The client's end of a channel.
pub type PythonClientEnd = PythonChannel<ClientText, WorkerText>;

impl<Out: PythonText, In: PythonText> PythonChannel<Out, In> {
    /// Speaks the Python dialect on `channel`.
    pub fn new(channel: Channel) -> Self {
        Self { channel, put_back: None, direction: PhantomData }
    }

    /// Sends one text. Waits while too much data is unacknowledged.
    pub async fn send(&self, text: &Out) -> Result<(), PythonError> {
        within_limit(self.channel.send_text(text.encode())).await
    }

    /// Sends a keep-alive, which Python peers expect every 15 s.
    pub async fn send_keep_alive(&self) -> Result<(), PythonError> {
        within_limit(self.channel.send_binary(KEEP_ALIVE.into())).await
    }

    /// Sends the rest of `file` in messages of at most `chunk_bytes`, and its end. Calls `on_progress`
    /// with the number of bytes sent so far.
    pub async fn send_content(
        &self,
        file: &mut File,
        chunk_bytes: usize,
        mut on_progress: impl FnMut(u64),
    ) -> Result<(), PythonError> {
        let mut buffer = vec![0; chunk_bytes];
        let mut sent_bytes = 0;
        loop {
            let length = file.read(&mut buffer).await?;
            if length == 0 {
                return self.send(&Out::END_OF_FILE).await;
            }
            let content = BytesMut::from(&buffer[..length]);
            within_limit(self.channel.send_binary(content)).await?;
            sent_bytes += length as u64;
            on_progress(sent_bytes);
        }
    }

    /// The next message that is not a keep-alive. Cancel safe.
    pub async fn recv(&mut self) -> Result<PythonMessage<In>, PythonError> {
        if let Some(message) = self.put_back.take() {
            return Ok(message);
        }
        loop {
            match self.channel.recv().await.ok_or(PythonError::Gone)? {
                Message::Binary(bytes) if bytes == KEEP_ALIVE => {}
                Message::Binary(bytes) => return Ok(PythonMessage::Content(bytes)),
                Message::Text(text) => return Ok(PythonMessage::Text(In::decode(&text))),
            }
        }
    }

    /// Puts `message` back, so that it is the next one again.
    pub fn put_back(&mut self, message: PythonMessage<In>) {
        self.put_back = Some(message);
    }

    /// Waits until the other side has acknowledged everything, for at most `limit`.
    pub async fn flush(&self, limit: Duration) -> Result<(), ChannelError> {
        self.channel.flush(limit).await
    }

    /// Waits until the other side closes the connection, for at most `limit`. Returns whether it did.
    pub async fn closed_within(&self, limit: Duration) -> bool {
        let closed = async { while self.channel.recv().await.is_some() {} };
        timeout(limit, closed).await.is_ok()
    }
}

async fn within_limit(
    sending: impl Future<Output = Result<(), ChannelError>>,
) -> Result<(), PythonError> {
    match timeout(SEND_LIMIT, sending).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(PythonError::Gone),
        Err(_) => Err(PythonError::Stalled),
    }
}

/// Why a file from the other side cannot be received.
#[derive(Debug, thiserror::Error)]
pub enum IncomingFileError {
    /// The announced length exceeds the limit.
    #[error("{announced} bytes, but at most {limit} are accepted")]
    TooLarge {
        /// The announced length in bytes.
        announced: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The content is longer or shorter than announced.
    #[error("{announced} bytes were announced, but {received} arrived")]
    WrongSize {
        /// The announced length in bytes.
        announced: u64,
        /// How many bytes arrived.
        received: u64,
    },
    /// The file cannot be written.
    #[error("cannot write the file that arrives")]
    Io(#[from] io::Error),
}

/// A file that is arriving. Its content must be exactly as long as announced.
#[derive(Debug)]
pub struct IncomingFile {
    path: PathBuf,
    file: File,
    announced_bytes: u64,
    received_bytes: u64,
}

impl IncomingFile {
    /// Creates the file at `path`. Refuses a file of more than `limit_bytes`.
    pub async fn create(
        path: &Path,
        meta: &FileMeta,
        limit_bytes: u64,
    ) -> Result<Self, IncomingFileError> {
        if meta.size > limit_bytes {
            let (announced, limit) = (meta.size, limit_bytes);
            return Err(IncomingFileError::TooLarge { announced, limit });
        }
        let (path, file) = (path.to_owned(), File::create(path).await?);
        Ok(Self { path, file, announced_bytes: meta.size, received_bytes: 0 })
    }

    /// The announced length in bytes.
    pub fn announced_bytes(&self) -> u64 {
        self.announced_bytes
    }

    /// How many bytes have arrived.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// Appends what has arrived.
    pub async fn write(&mut self, content: &[u8]) -> Result<(), IncomingFileError> {
        self.received_bytes += content.len() as u64;
        if self.received_bytes > self.announced_bytes {
            return Err(self.wrong_size());
        }
        Ok(self.file.write_all(content).await?)
    }

    /// Completes the file, and returns its path.
    pub async fn finish(mut self) -> Result<PathBuf, IncomingFileError> {
        self.file.flush().await?;
        match self.received_bytes == self.announced_bytes {
            true => Ok(self.path),
            false => Err(self.wrong_size()),
        }
    }

    fn wrong_size(&self) -> IncomingFileError {
        let (announced, received) = (self.announced_bytes, self.received_bytes);
        IncomingFileError::WrongSize { announced, received }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(size: u64) -> FileMeta {
        FileMeta { name: "models.zip".into(), size, rest: "models".into() }
    }

    #[tokio::test]
    async fn a_file_must_be_as_long_as_announced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut file = IncomingFile::create(&path, &meta(4), 4).await.unwrap();
        file.write(b"ab").await.unwrap();
        file.write(b"cd").await.unwrap();
        assert_eq!(std::fs::read(file.finish().await.unwrap()).unwrap(), b"abcd");

        let large = IncomingFile::create(&path, &meta(5), 4).await.unwrap_err();
        assert!(matches!(large, IncomingFileError::TooLarge { announced: 5, limit: 4 }));
        let mut file = IncomingFile::create(&path, &meta(4), 4).await.unwrap();
        file.write(b"abc").await.unwrap();
        let long = file.write(b"de").await.unwrap_err();
        assert!(matches!(long, IncomingFileError::WrongSize { announced: 4, received: 5 }));
        let short = IncomingFile::create(&path, &meta(1), 4).await.unwrap().finish().await;
        assert!(matches!(short, Err(IncomingFileError::WrongSize { announced: 1, received: 0 })));
    }
}
