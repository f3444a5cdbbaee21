//! A client of NATS: as much of its protocol as servers of a cluster need. It publishes, subscribes, requests, and uses
//! key-value buckets. The connection restores itself, with its subscriptions.
//!
//! | module | what it is |
//! |---|---|
//! | `protocol` | the bytes of the protocol: pure |
//! | `connection` | the task that owns the socket |
//! | `bucket` | key-value buckets of JetStream |

mod bucket;
mod connection;
mod protocol;

pub(crate) use bucket::{Bucket, BucketEntry, BucketError};
pub use connection::ConnectFailure;

use super::options::ClusterOptions;
use bytes::Bytes;
use connection::NatsCommand;
use parking_lot::Mutex;
use protocol::Publication;
use sleap_rtc_base::random;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// The most commands that wait for the connection.
const COMMANDS: usize = 256;
/// How long an answer to a request may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// A message that was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) subject: String,
    pub(crate) payload: Bytes,
}

/// What the broker says of itself while it is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Connected {
    pub(crate) max_message_bytes: usize,
}

/// A request without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the broker of the cluster does not answer")]
pub(crate) struct NoAnswer;

type OpenRequests = Arc<Mutex<HashMap<u64, oneshot::Sender<Bytes>>>>;

/// A connection to a broker. Clones share it; it ends with the last of them.
#[derive(Clone)]
pub(crate) struct Nats {
    commands: mpsc::Sender<NatsCommand>,
    state: watch::Receiver<Option<Connected>>,
    inbox: String,
    requests: OpenRequests,
    next_request: Arc<AtomicU64>,
    _task: Arc<AbortOnDropHandle<()>>,
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nats({:?})", *self.state.borrow())
    }
}

impl Nats {
    /// Connects. From then on the connection restores itself.
    pub(crate) async fn connect(
        options: &ClusterOptions,
        token: Option<String>,
    ) -> Result<Self, ConnectFailure> {
        let inbox = format!("_INBOX.{}", random::hex::<12>());
        let (commands, queue) = mpsc::channel(COMMANDS);
        let (newest, state) = watch::channel(None);
        let requests = OpenRequests::default();
        let answers =
            connection::AnswerInbox { prefix: inbox.clone(), requests: Arc::clone(&requests) };
        let task = connection::NatsTask::start(options, token, queue, newest, answers).await?;
        let task = Arc::new(AbortOnDropHandle::new(tokio::spawn(task.run())));
        let next_request = Arc::default();
        Ok(Self { commands, state, inbox, requests, next_request, _task: task })
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.state.borrow().is_some()
    }

    /// The longest message that the broker accepts; 0 while it is lost.
    pub(crate) fn max_message_bytes(&self) -> usize {
        self.state.borrow().map_or(0, |connected| connected.max_message_bytes)
    }

    /// Publishes a message. It is dropped while the broker is lost.
    pub(crate) async fn publish(&self, subject: String, payload: Bytes) {
        let publication = Publication { subject, reply: None, headers: String::new(), payload };
        self.command(NatsCommand::Publish(publication)).await;
    }

    /// Messages to subjects of this form; at most `capacity` of them wait, and further ones are dropped.
    pub(crate) async fn subscribe(
        &self,
        subject: String,
        capacity: usize,
    ) -> mpsc::Receiver<Message> {
        let (sink, messages) = mpsc::channel(capacity);
        self.command(NatsCommand::Subscribe(subject, sink)).await;
        messages
    }

    /// Asks, and waits for the answer.
    async fn request(
        &self,
        subject: String,
        headers: String,
        payload: Bytes,
    ) -> Result<Bytes, NoAnswer> {
        if !self.is_connected() {
            return Err(NoAnswer);
        }
        let number = self.next_request.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.requests.lock().insert(number, answer);
        let reply = Some(format!("{}.{number}", self.inbox));
        let publication = Publication { subject, reply, headers, payload };
        let asking = async {
            self.command(NatsCommand::Publish(publication)).await;
            answered.await
        };
        let answer = timeout(ANSWER_LIMIT, asking).await;
        self.requests.lock().remove(&number);
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            _ => Err(NoAnswer),
        }
    }

    /// Waits until everything that was published so far is at the broker.
    pub(crate) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        self.command(NatsCommand::Flush(done)).await;
        let _ = written.await;
    }

    async fn command(&self, command: NatsCommand) {
        // The task ends only with this handle.
        let _ = self.commands.send(command).await;
    }
}
