//! The task that owns the socket to the broker, and opens another one when it is lost.

use super::protocol::{self, ConnectOptions, NotNats, Publication, Said};
use super::{Connected, Message, OpenRequests};
use crate::client::{ByteStream, ConnectError, dial, secure};
use crate::server::cluster::options::ClusterOptions;
use bytes::BytesMut;
use sleap_rtc_base::backoff::Backoff;
use sleap_rtc_base::error::WithCauses;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use url::Url;

const PORT: u16 = 4222;
/// How long a step of connecting, and a write, may take.
const STEP_LIMIT: Duration = Duration::from_secs(3);
/// How often the broker is pinged.
const PING_EVERY: Duration = Duration::from_secs(1);
/// A broker that was silent for this long is lost.
const SILENCE_LIMIT: Duration = Duration::from_millis(3500);
/// The waits before another attempt.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// The number of the subscription to answers.
const ANSWERS: u64 = 1;
/// Written at once, if as much waits.
const WRITE_BYTES: usize = 256 * 1024;
/// The least room for what is read.
const READ_BYTES: usize = 16 * 1024;
/// The most subscriptions.
const MAX_SUBSCRIPTIONS: usize = 16;

/// Why a broker cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectFailure {
    /// It cannot be reached.
    #[error("cannot reach it")]
    Unreachable(#[from] ConnectError),
    /// The socket failed.
    #[error("the connection broke")]
    Io(#[from] std::io::Error),
    /// Another program.
    #[error(transparent)]
    Protocol(#[from] NotNats),
    /// It does not answer.
    #[error("it does not answer")]
    Late,
    /// It refuses the credentials, or something else.
    #[error("it refuses: {0}")]
    Refused(String),
}

/// What a handle wants.
#[derive(Debug)]
pub(crate) enum NatsCommand {
    Publish(Publication),
    Subscribe(String, mpsc::Sender<Message>),
    /// To be told when everything before has been written.
    Flush(oneshot::Sender<()>),
}

/// Where answers to requests go.
pub(crate) struct AnswerInbox {
    pub(crate) prefix: String,
    pub(crate) requests: OpenRequests,
}

/// How to connect.
struct Access {
    brokers: Vec<Url>,
    token: Option<String>,
    user: Option<(String, String)>,
}

/// An open connection.
struct Wire {
    stream: Box<dyn ByteStream>,
    buffer: BytesMut,
    max_message_bytes: usize,
}

impl Access {
    fn new(options: &ClusterOptions, token: Option<String>) -> Self {
        let brokers = options.brokers.clone();
        let first = brokers.first();
        let user = first.and_then(|url| Some((decoded(url.username()), decoded(url.password()?))));
        let in_url = first.map(|url| decoded(url.username())).filter(|name| !name.is_empty());
        let token = token.or_else(|| in_url.filter(|_| user.is_none()));
        Self { brokers, user: user.filter(|_| token.is_none()), token }
    }

    /// Connects to one broker, and waits until it has accepted the credentials.
    async fn open(&self, broker: &Url) -> Result<Wire, ConnectFailure> {
        let host = broker.host_str().unwrap_or_default();
        let stream = dial(host, broker.port().unwrap_or(PORT)).await?;
        let (stream, buffer) = (Box::new(stream) as Box<dyn ByteStream>, BytesMut::new());
        let mut wire = Wire { stream, buffer, max_message_bytes: 0 };
        let Said::Info(info) = wire.hear().await? else { return Err(NotNats.into()) };
        let tls_required = info.tls_required || broker.scheme() == "tls";
        if tls_required {
            wire.stream = secure(host, wire.stream).await?;
        }
        wire.max_message_bytes = info.max_payload;
        let user = self.user.as_ref();
        let connect = ConnectOptions {
            verbose: false,
            pedantic: false,
            echo: false,
            headers: true,
            no_responders: false,
            tls_required,
            name: "sleap-rtc",
            lang: "rust",
            version: env!("CARGO_PKG_VERSION"),
            protocol: 1,
            auth_token: self.token.as_deref(),
            user: user.map(|(user, _)| user.as_str()),
            pass: user.map(|(_, password)| password.as_str()),
        };
        let connect = serde_json::to_string(&connect).map_err(std::io::Error::from)?;
        wire.write(format!("CONNECT {connect}\r\nPING\r\n").as_bytes()).await?;
        loop {
            match wire.hear().await? {
                Said::Pong => return Ok(wire),
                Said::Error(text) => return Err(ConnectFailure::Refused(text)),
                _ => {}
            }
        }
    }
}

/// A user name or password as it was before it was written into an address.
fn decoded(text: &str) -> String {
    let pair = format!("={}", text.replace('+', "%2B"));
    let mut pairs = url::form_urlencoded::parse(pair.as_bytes());
    pairs.next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}

impl Wire {
    /// The next thing that the broker says.
    async fn hear(&mut self) -> Result<Said, ConnectFailure> {
        loop {
            if let Some(said) = protocol::read(&mut self.buffer)? {
                return Ok(said);
            }
            self.fill().await?;
        }
    }

    /// Waits for more bytes. Cancel-safe.
    async fn fill(&mut self) -> Result<(), ConnectFailure> {
        self.buffer.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
            _ => Ok(()),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), ConnectFailure> {
        let writing = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        timeout(STEP_LIMIT, writing).await.map_err(|_| ConnectFailure::Late)??;
        Ok(())
    }
}

pub(crate) struct NatsTask {
    access: Arc<Access>,
    /// The broker that is tried next.
    next: usize,
    wire: Option<Wire>,
    queue: mpsc::Receiver<NatsCommand>,
    state: watch::Sender<Option<Connected>>,
    inbox: AnswerInbox,
    subscriptions: Vec<(String, mpsc::Sender<Message>)>,
    /// Who waits until everything is written.
    flushed: Vec<oneshot::Sender<()>>,
}

impl NatsTask {
    /// Connects for the first time, to any of the brokers.
    pub(crate) async fn start(
        options: &ClusterOptions,
        token: Option<String>,
        queue: mpsc::Receiver<NatsCommand>,
        state: watch::Sender<Option<Connected>>,
        inbox: AnswerInbox,
    ) -> Result<Self, ConnectFailure> {
        let access = Arc::new(Access::new(options, token));
        let (subscriptions, flushed) = (Vec::new(), Vec::new());
        let (next, wire) = (0, None);
        let mut task = Self { access, next, wire, queue, state, inbox, subscriptions, flushed };
        let mut first_failure = None;
        for _ in 0..task.access.brokers.len() {
            match task.attempt(Duration::ZERO).await {
                Ok(wire) => {
                    let max_message_bytes = wire.max_message_bytes;
                    task.state.send_replace(Some(Connected { max_message_bytes }));
                    task.wire = Some(wire);
                    return Ok(task);
                }
                Err(failure) => drop(first_failure.get_or_insert(failure)),
            }
        }
        Err(first_failure.unwrap_or(ConnectFailure::Late))
    }

    /// An attempt at the next broker.
    fn attempt(
        &mut self,
        wait: Duration,
    ) -> impl Future<Output = Result<Wire, ConnectFailure>> + Send + use<> {
        let access = Arc::clone(&self.access);
        let nth = self.next;
        self.next = self.next.wrapping_add(1);
        async move {
            sleep(wait).await;
            let broker = access.brokers.get(nth % access.brokers.len().max(1));
            let broker = broker.ok_or(ConnectFailure::Late)?;
            timeout(STEP_LIMIT, access.open(broker)).await.unwrap_or(Err(ConnectFailure::Late))
        }
    }

    /// Serves until the last handle is gone.
    pub(crate) async fn run(mut self) {
        while let Some(mut wire) = self.wire.take() {
            let Err(failure) = self.converse(&mut wire).await else { return };
            self.state.send_replace(None);
            tracing::warn!(
                error = %WithCauses(&failure),
                "the broker of the cluster is lost: peers of this server go on, and meet those of the others again \
                 when it is back"
            );
            drop(wire);
            self.wire = self.reopen().await;
        }
    }

    /// Connects again. `None` if the last handle is gone.
    async fn reopen(&mut self) -> Option<Wire> {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            let attempt = self.attempt(backoff.next_wait());
            tokio::pin!(attempt);
            let opened = loop {
                tokio::select! {
                    opened = attempt.as_mut() => break opened,
                    command = self.queue.recv() => match command? {
                        // It would be outdated when it is sent.
                        NatsCommand::Publish(_) => {}
                        NatsCommand::Subscribe(subject, sink) => self.subscriptions.push((subject, sink)),
                        NatsCommand::Flush(done) => self.flushed.push(done),
                    },
                }
            };
            match opened {
                Ok(wire) => {
                    tracing::info!("connected to the broker of the cluster again");
                    return Some(wire);
                }
                Err(error) => {
                    tracing::debug!(error = %WithCauses(&error), "no broker answers; will retry");
                }
            }
        }
    }

    /// Passes messages on in both directions. `Ok` if the last handle is gone.
    async fn converse(&mut self, wire: &mut Wire) -> Result<(), ConnectFailure> {
        let mut out = BytesMut::new();
        subscribe(&mut out, &format!("{}.*", self.inbox.prefix), ANSWERS);
        for (nth, (subject, _)) in self.subscriptions.iter().enumerate() {
            subscribe(&mut out, subject, number(nth));
        }
        wire.write(&out.split()).await?;
        let max_message_bytes = wire.max_message_bytes;
        self.state.send_replace(Some(Connected { max_message_bytes }));
        let mut ping = interval(PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                command = self.queue.recv() => {
                    let Some(command) = command else { return Ok(()) };
                    self.execute(command, &mut out);
                    while out.len() < WRITE_BYTES
                        && let Ok(command) = self.queue.try_recv()
                    {
                        self.execute(command, &mut out);
                    }
                }
                filled = wire.fill() => {
                    filled?;
                    heard = Instant::now();
                    while let Some(said) = protocol::read(&mut wire.buffer)? {
                        self.hear(said, &mut out);
                    }
                }
                _ = ping.tick() => out.extend_from_slice(b"PING\r\n"),
                () = sleep_until(heard + SILENCE_LIMIT) => return Err(ConnectFailure::Late),
            }
            if !out.is_empty() {
                wire.write(&out.split()).await?;
            }
            for done in self.flushed.drain(..) {
                // Who has asked may have given up.
                let _ = done.send(());
            }
        }
    }

    fn execute(&mut self, command: NatsCommand, out: &mut BytesMut) {
        match command {
            NatsCommand::Publish(publication) => publication.write(out),
            NatsCommand::Subscribe(subject, sink)
                if self.subscriptions.len() < MAX_SUBSCRIPTIONS =>
            {
                subscribe(out, &subject, number(self.subscriptions.len()));
                self.subscriptions.push((subject, sink));
            }
            NatsCommand::Subscribe(..) => {}
            NatsCommand::Flush(done) => self.flushed.push(done),
        }
    }

    fn hear(&self, said: Said, out: &mut BytesMut) {
        match said {
            Said::Message(message) if message.subscription == ANSWERS => {
                let number = message.subject.rsplit('.').next().and_then(|n| n.parse().ok());
                let asked =
                    number.and_then(|number: u64| self.inbox.requests.lock().remove(&number));
                // Who has asked may have given up.
                asked.map(|asked| asked.send(message.payload));
            }
            Said::Message(message) => {
                let nth = message.subscription.checked_sub(number(0)).unwrap_or(u64::MAX);
                let sink = usize::try_from(nth).ok().and_then(|nth| self.subscriptions.get(nth));
                let (subject, payload) = (message.subject, message.payload);
                // Lists repair what is lost where too much waits.
                if let Some((_, sink)) = sink {
                    // Lists repair what is lost where too much waits.
                    let _ = sink.try_send(Message { subject, payload });
                }
            }
            Said::Ping => out.extend_from_slice(b"PONG\r\n"),
            Said::Error(text) => tracing::warn!(text, "the broker of the cluster complains"),
            Said::Info(_) | Said::Pong | Said::Other => {}
        }
    }
}

/// The number of the subscription in this place.
fn number(nth: usize) -> u64 {
    ANSWERS + 1 + nth as u64
}

fn subscribe(out: &mut BytesMut, subject: &str, number: u64) {
    out.extend_from_slice(format!("SUB {subject} {number}\r\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(brokers: &[&str], token: Option<&str>) -> Access {
        let brokers = brokers.iter().map(|text| ClusterOptions::address(text).unwrap()).collect();
        let options = ClusterOptions { brokers, token_file: None };
        Access::new(&options, token.map(str::to_owned))
    }

    #[test]
    fn credentials_come_from_the_file_or_from_the_address() {
        let named = access(&["nats://me:a%40b+c@h"], None);
        assert_eq!(named.user, Some(("me".to_owned(), "a@b+c".to_owned())));
        assert_eq!(named.token, None);
        assert_eq!(access(&["nats://s%25cret@h"], None).token.as_deref(), Some("s%cret"));
        let of_file = access(&["nats://me:pw@h"], Some("token"));
        assert_eq!((of_file.token.as_deref(), of_file.user), (Some("token"), None));
        let none = access(&["nats://h"], None);
        assert_eq!((none.token, none.user), (None, None));
    }
}
