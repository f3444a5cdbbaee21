//! A peer's side of signaling: the HTTP calls ([`HttpApi`]), one registered WebSocket that
//! reconnects by itself ([`SignalingClient`]), and a mailbox to pair with another device ([`Mailbox`]).

mod apart;
mod attempt;
mod connection;
mod dial;
mod endpoints;
mod error;
mod events;
mod exchange;
mod http;
mod ignored;
mod mailbox;
mod proxy;
mod reach;
mod relay;
mod roster;
mod servers;
mod stream;
mod task;
mod tls;
mod websocket;

pub use apart::{Apart, are_apart, warn_of_apart};
pub use endpoints::{Address, Endpoints};
pub use error::{
    CertificateProblem, ConnectError, ProxyError, ProxyName, SignalingError, TlsFailure,
};
pub use events::Events;
pub use exchange::{AnswerLimits, HttpAnswer, HttpRequest};
pub use http::HttpApi;
pub use mailbox::{Mailbox, MailboxError, MailboxNews};
pub use relay::Relay;
pub use roster::Roster;
pub use servers::Servers;
pub use tls::certificate_verifier;

pub(crate) use tls::{certificate_problem, config as tls_config};

use connection::{RegisteredConnection, Registration};
use roster::RosterChange;
use sleap_rtc_protocol::ids::{IdToken, PeerId, RoomCredentials};
use sleap_rtc_protocol::signaling::{
    ClientMessage, Filters, IceServers, Metadata, MetadataPatch, PeerInfo, Role, ServerMessage,
};
use std::sync::Arc;
use std::time::Duration;
use task::{Command, Task, Updates};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long each step of connecting and each answer may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// How long leaving may take.
const CLOSE_DEADLINE: Duration = Duration::from_secs(3);
const COMMAND_QUEUE: usize = 64;
/// The most changes of a watched list that wait for its owner. A list that is not read is no longer
/// watched.
const CHANGE_QUEUE: usize = 64;
/// The most frames of one list: 128 MiB, more than any room has.
const MAX_PAGES: usize = 128;

/// A peer id and its token. Keep both: the token recovers the id, even after it has expired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The peer id.
    pub peer_id: PeerId,
    /// The token that proves the peer id.
    pub id_token: IdToken,
}

/// What happens on the connection.
#[expect(
    clippy::large_enum_variant,
    reason = "almost every event is a message, and few wait at a time"
)]
#[derive(Debug, Clone, PartialEq)]
pub enum SignalingEvent {
    /// A frame from the server or from a peer. Answers to this client's own requests do not appear
    /// here.
    Message(ServerMessage),
    /// The connection is down. The client reconnects until it is closed.
    Lost,
    /// It is up, and the peer is registered again.
    Restored,
}

/// A registered peer. Clones share one connection; the peer leaves when the last one is dropped.
#[derive(Debug, Clone)]
pub struct SignalingClient {
    peer_id: PeerId,
    commands: mpsc::Sender<Command>,
    identity: watch::Receiver<PeerIdentity>,
    ice: watch::Receiver<IceServers>,
    relay: watch::Receiver<Option<Relay>>,
    server: watch::Receiver<Endpoints>,
    has_page: bool,
    discovering: Arc<Mutex<()>>,
    task: TaskTracker,
}

impl SignalingClient {
    /// Connects to the first of `servers` that answers, and registers there; an expired identity is renewed
    /// first. From then on the client reconnects whenever the connection is lost, as the same peer, with
    /// the latest metadata, and moves to another server if it must.
    ///
    /// # Errors
    /// When no server can be reached, or the one that answers refuses. This first attempt is not repeated.
    pub async fn connect(
        servers: impl Into<Servers>,
        identity: PeerIdentity,
        credentials: RoomCredentials,
        role: Role,
        metadata: Metadata,
        cancel: CancellationToken,
    ) -> Result<(Self, Events), SignalingError> {
        let (servers, peer_id) = (servers.into(), identity.peer_id.clone());
        let mut registration = Registration { identity, credentials, role, metadata };
        let first = first_connection(&servers, &mut registration);
        let opened = cancel.run_until_cancelled(first).await.ok_or(SignalingError::Closed)??;
        let RegisteredConnection { server, connection, handed_out } = opened;
        let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE);
        let (event_sender, events) = events::events();
        let (newest, identity) = watch::channel(registration.identity.clone());
        let (newest_ice, ice) = watch::channel(IceServers::default());
        let has_page = handed_out.page;
        // Callers can read it as soon as they are connected.
        let (newest_relay, relay) =
            watch::channel(handed_out.relay.clone().map(|relay| relay.among(&servers)));
        let (newest_server, server) = watch::channel(server);
        let updates = Updates {
            events: event_sender,
            identity: newest,
            ice: newest_ice,
            relay: newest_relay,
            server: newest_server,
        };
        let task = Task::new(servers, registration, command_queue, updates);
        let tracker = TaskTracker::new();
        tracker.spawn(task.run(connection, handed_out, cancel));
        tracker.close();
        let discovering = Arc::new(Mutex::new(()));
        let task = tracker;
        let client =
            Self { peer_id, commands, identity, ice, relay, server, has_page, discovering, task };
        Ok((client, events))
    }

    /// The peer id.
    pub fn peer_id(&self) -> &PeerId {
        &self.peer_id
    }

    /// The identity with its latest token, to be kept for the next start.
    pub fn identity(&self) -> PeerIdentity {
        self.identity.borrow().clone()
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// When the connection is down, or the client is closed.
    pub async fn send(&self, message: ClientMessage) -> Result<(), SignalingError> {
        let (sent, result) = oneshot::channel();
        self.command(Command::Send(Box::new(message), sent)).await?;
        result.await.map_err(|_| SignalingError::Closed)?
    }

    /// Changes this peer's metadata. While the connection is down, the change is kept for the next
    /// registration.
    pub async fn update(&self, patch: MetadataPatch) {
        // A closed client has no metadata to change.
        let _ = self.command(Command::Update(patch)).await;
    }

    /// The STUN and TURN servers that the server gives to this peer. Their accounts are renewed before
    /// they expire.
    pub fn ice_servers(&self) -> watch::Receiver<IceServers> {
        self.ice.clone()
    }

    /// The server at which the peer is, or was last, registered.
    pub fn server(&self) -> Endpoints {
        self.server.borrow().clone()
    }

    /// Whether the server serves the client for browsers.
    pub fn has_page(&self) -> bool {
        self.has_page
    }

    /// The server's relay, if it has one. Its token may change with each registration.
    pub fn relay(&self) -> watch::Receiver<Option<Relay>> {
        self.relay.clone()
    }

    /// Lists all peers of this room.
    ///
    /// # Errors
    /// When the connection is down, or no answer comes within ten seconds.
    pub async fn discover(&self, filters: Filters) -> Result<Vec<PeerInfo>, SignalingError> {
        // Lists carry no request id, so only one discovery can be under way.
        let _one = self.discovering.lock().await;
        let mut peers = Vec::new();
        let mut after = None;
        for _ in 0..MAX_PAGES {
            let (list, result) = oneshot::channel();
            self.command(Command::Discover(filters.clone(), after, list)).await?;
            let page = match timeout(ANSWER_DEADLINE, result).await {
                Ok(result) => result.map_err(|_| SignalingError::Closed)??,
                Err(_) => return Err(SignalingError::NoAnswer { what: "a discovery" }),
            };
            peers.extend(page.peers);
            after = page.next;
            if after.is_none() {
                return Ok(peers);
            }
        }
        Err(SignalingError::Refused { message: "the list of peers does not end".into() })
    }

    /// The same list, kept up to date. A client watches one list; a second one replaces the first.
    ///
    /// # Errors
    /// As [`Self::discover`].
    pub async fn roster(&self, filters: Filters) -> Result<Roster, SignalingError> {
        Roster::new(self.clone(), filters).await
    }

    /// Watches a list until the receiver is dropped or not read.
    async fn watch(
        &self,
        filters: Filters,
    ) -> Result<mpsc::Receiver<RosterChange>, SignalingError> {
        let (sender, changes) = mpsc::channel(CHANGE_QUEUE);
        self.command(Command::Watch(filters, sender)).await?;
        Ok(changes)
    }

    /// Leaves the room, for all clones of this handle.
    pub async fn close(self) {
        let _ = self.command(Command::Close).await;
        let _ = timeout(CLOSE_DEADLINE, self.task.wait()).await;
    }

    async fn command(&self, command: Command) -> Result<(), SignalingError> {
        self.commands.send(command).await.map_err(|_| SignalingError::Closed)
    }
}

/// Connects for the first time, to the next server if one breaks off. A refused identity is renewed once.
async fn first_connection(
    servers: &Servers,
    registration: &mut Registration,
) -> Result<RegisteredConnection, SignalingError> {
    let mut servers = servers.clone();
    let mut untried = servers.iter().len();
    loop {
        let (server, connection) = connection::reach_first(&servers).await?;
        let mut opened = connection::register_on(&server, connection, registration).await;
        if let Err(SignalingError::IdentityRefused { .. }) = opened {
            let http = HttpApi::new(&server.http);
            let renewed = http.sign_in(Some(&registration.identity.id_token)).await?;
            if renewed.peer_id == registration.identity.peer_id {
                registration.identity = renewed;
                opened = connection::open(&server, registration).await;
            }
        }
        untried = untried.saturating_sub(1);
        match opened {
            Err(SignalingError::Unreachable { .. } | SignalingError::NoAnswer { .. })
                if untried > 0 =>
            {
                servers = servers.after(&server);
            }
            opened => return opened,
        }
    }
}
