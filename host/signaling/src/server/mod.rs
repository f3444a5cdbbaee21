//! The signaling server: HTTP API and WebSocket on every port that it is given.
//!
//! Presence is kept in memory and ends with the socket. The state that must survive a restart is in
//! the [`Store`], or in that of a [cluster](Brokers). Peers are not trusted: a frame speaks only as the
//! peer that its socket registered, and reaches only that peer's room.

mod addresses;
mod cluster;
mod descriptors;
mod frame;
mod http;
mod limits;
mod link;
mod listen;
mod metrics;
mod page;
mod pairing;
mod pending_changes;
mod rate_limit;
mod relay;
mod session;
mod socket;
mod state;
mod state_file;
mod strangers;
#[cfg(test)]
mod tests;
mod tls;
mod upgrade;

use crate::ice::IceOffer;
use crate::identity::Signer;
use crate::rooms::{ConnectionId, Registrant, Rooms};
use crate::store::{Store, StoreError};
use addresses::{Addresses, OpenSocket};
use cluster::Cluster;
pub use cluster::{Brokers, ClusterError, ClusterOptions, TokenFileError};
pub use descriptors::raise_descriptor_limit;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
pub use limits::Limits;
use link::{CloseReason, PeerLink};
pub use listen::{ListenError, listen};
use metrics::Counters;
use pairing::Mailboxes;
use parking_lot::{Mutex, MutexGuard};
use relay::{AddressDiscovery, Relays};
use sleap_rtc_base::clock::now_s;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_protocol::ids::PeerId;
use state::ServerState;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use strangers::{Stranger, Strangers};
pub use tls::{Tls, TlsError, TlsFiles};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a TLS handshake may take, and a request's head after it.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// The longest head of a request: a few headers and a token.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// How long the closing handshakes may take when the server stops.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// How long an evicted stranger may take to close.
const EVICTION_DEADLINE: Duration = Duration::from_secs(1);
/// How often the expiry of rooms with a worker is extended, and expired rooms are deleted.
const SWEEP_EVERY: Duration = Duration::from_secs(60 * 60);

/// Why the server ended.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// There is nothing to listen on.
    #[error("there is no address to listen on")]
    NoListener,
    /// The state cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot take part in its cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// The options of a server.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// The most open sockets: see [`raise_descriptor_limit`]. One address gets at most half of
    /// them.
    pub sockets: usize,
    /// The STUN and TURN servers that its peers are given.
    pub ice: IceOffer,
    /// TLS on every port; `None` for plain.
    pub tls: Option<Tls>,
    /// Whether `X-Forwarded-For` is trusted for the client's address.
    pub trust_proxy: bool,
    /// Whether it relays between peers that have no direct path.
    pub relay: bool,
    /// Whether it serves the client for browsers, if this program has it.
    pub page: bool,
    /// The limits on what peers may use.
    pub limits: Limits,
    /// The servers with which it shares its rooms; `None` if it is alone.
    pub cluster: Option<Brokers>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            sockets: descriptors::MAX_SOCKETS,
            ice: IceOffer::default(),
            tls: None,
            trust_proxy: false,
            relay: true,
            page: true,
            limits: Limits::default(),
            cluster: None,
        }
    }
}

/// The state that all connections share.
struct Server {
    rooms: Mutex<Rooms<PeerLink>>,
    mailboxes: Mutex<Mailboxes>,
    state: ServerState,
    cluster: Option<Arc<Cluster>>,
    signer: Signer,
    options: ServerOptions,
    addresses: Arc<Addresses>,
    sockets: Arc<Semaphore>,
    strangers: Arc<Strangers>,
    state_is_lost: AtomicBool,
    next_connection: AtomicU64,
    started: Instant,
    counters: Counters,
    relay: Option<Relays>,
    address_discovery: Option<AddressDiscovery>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    fn new(
        (state, cluster): (ServerState, Option<Arc<Cluster>>),
        mut options: ServerOptions,
        address_discovery: Option<AddressDiscovery>,
        shutdown: CancellationToken,
    ) -> Self {
        let relay = options.relay.then(|| Relays::new(options.limits.relay_connections));
        let limits = &mut options.limits;
        limits.sockets_per_address = limits.sockets_per_address.min(options.sockets.div_ceil(2));
        let signer = Signer::new(state.signing_key());
        // Workers compare the names of addresses, so these are the same at all servers.
        let tag_key =
            cluster.as_ref().map_or_else(rand::random, |_| signer.derived_key("addresses"));
        Self {
            rooms: Mutex::new(Rooms::new(options.limits.room_peers)),
            mailboxes: Mutex::default(),
            signer,
            state,
            cluster,
            addresses: Arc::new(Addresses::new(&options.limits, tag_key)),
            sockets: Arc::new(Semaphore::new(options.sockets)),
            strangers: Arc::default(),
            state_is_lost: AtomicBool::new(false),
            options,
            next_connection: AtomicU64::new(1),
            started: Instant::now(),
            counters: Counters::default(),
            relay,
            address_discovery,
            shutdown,
            tasks: TaskTracker::new(),
        }
    }

    /// The registry. Locked only briefly, and never across an `await`.
    fn rooms(&self) -> MutexGuard<'_, Rooms<PeerLink>> {
        self.rooms.lock()
    }

    /// The mailboxes. Locked only briefly, and never across an `await`.
    fn mailboxes(&self) -> MutexGuard<'_, Mailboxes> {
        self.mailboxes.lock()
    }

    /// Whether it serves the client for browsers.
    fn has_page(&self) -> bool {
        self.options.page && page::is_built_in()
    }

    fn open_sockets(&self) -> usize {
        self.options.sockets - self.sockets.available_permits()
    }

    /// Closes the socket of a peer that was deleted, and is no longer in the registry.
    fn close_deleted(&self, peer: &PeerId, member: &Registrant<PeerLink>) {
        member.link.request_close(CloseReason::Deleted);
        if let Some(cluster) = self.cluster.as_ref().filter(|_| member.link.is_here()) {
            cluster.left(peer, member.since_ms, true);
        }
    }

    fn next_connection(&self) -> ConnectionId {
        self.next_connection.fetch_add(1, Ordering::Relaxed)
    }
}

/// Serves on all `listeners` until `shutdown`, then closes every socket with code 1012, which asks
/// peers to reconnect.
///
/// # Errors
/// When there is no listener, the state cannot be read at the start, or its cluster cannot be joined.
pub async fn run(
    listeners: Vec<TcpListener>,
    store: Store,
    options: ServerOptions,
    shutdown: CancellationToken,
) -> Result<(), ServerError> {
    if listeners.is_empty() {
        return Err(ServerError::NoListener);
    }
    store.purge(now_s()).await?;
    let (state, cluster) = match &options.cluster {
        None => ((ServerState::Own(store), None), None),
        Some(brokers) => {
            let (cluster, queue, shared) = Cluster::join(brokers, &store).await?;
            ((ServerState::Shared(shared), Some(Arc::clone(&cluster))), Some((cluster, queue)))
        }
    };
    let discovery = match &options.tls {
        Some(tls) if options.relay => AddressDiscovery::start(&addresses(&listeners), tls).await,
        _ => None,
    };
    // A server that cannot take part in its cluster stops, too.
    let stop = shutdown.child_token();
    let server = Arc::new(Server::new(state, options, discovery, stop.clone()));
    let mut tasks = JoinSet::new();
    let taking_part =
        cluster.map(|(cluster, queue)| cluster::run(Arc::clone(&server), cluster, queue));
    for listener in listeners {
        tasks.spawn(accept(listener, Arc::clone(&server)));
    }
    tasks.spawn(sweep(Arc::clone(&server)));
    tasks.spawn(state_file::watch(Arc::clone(&server)));
    let ended = match taking_part {
        Some(taking_part) => taking_part.await,
        None => {
            stop.cancelled().await;
            Ok(())
        }
    };
    stop.cancel();
    tasks.shutdown().await;
    server.tasks.close();
    if tokio::time::timeout(STOP_DEADLINE, closed(&server)).await.is_err() {
        tracing::warn!("some sockets did not close in time");
    }
    tracing::info!("signaling server stopped");
    Ok(ended?)
}

fn addresses(listeners: &[TcpListener]) -> Vec<SocketAddr> {
    listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
}

/// Waits until all sockets are closed.
async fn closed(server: &Server) {
    if let Some(relay) = &server.relay {
        relay.stop().await;
    }
    server.tasks.wait().await;
}

async fn accept(listener: TcpListener, server: Arc<Server>) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                let address = from.ip().to_canonical();
                if let Some(share) = share(&server, &stream, address).await {
                    server.tasks.spawn(serve(stream, Arc::clone(&server), address, share));
                }
            }
            Err(error) => {
                // Most likely out of file descriptors, which something else in the process uses.
                tracing::warn!(%error, "cannot accept a connection");
                server.strangers.evict_oldest();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// A connection's share of the server's sockets; a WebSocket takes it along.
struct Share {
    _permit: OwnedSemaphorePermit,
    /// Behind a trusted proxy, the address is known only from the request.
    _place: Option<OpenSocket>,
    stranger: Stranger,
}

/// The share of a new connection. A connection that cannot get one is dropped, after an error
/// response if that needs no waiting.
async fn share(server: &Server, stream: &TcpStream, address: IpAddr) -> Option<Arc<Share>> {
    let plain = server.options.tls.is_none();
    let refuse = |answer: &str| plain.then(|| stream.try_write(answer.as_bytes()));
    let trusted = server.options.trust_proxy;
    let place = if trusted { None } else { server.addresses.open(address, Instant::now()) };
    if place.is_none() && !trusted {
        server.counters.rate_limited.count();
        tracing::debug!(%address, "refused a connection: too many sockets of one address");
        refuse(http::TOO_MANY_SOCKETS);
        return None;
    }
    let Some(permit) = permit(server).await else {
        tracing::warn!(%address, "refused a connection: registered peers use all sockets");
        refuse(http::NO_SOCKET);
        return None;
    };
    Some(Arc::new(Share { _permit: permit, _place: place, stranger: server.strangers.enter() }))
}

/// A free socket, or that of the oldest stranger. `None` if all belong to registered peers.
async fn permit(server: &Server) -> Option<OwnedSemaphorePermit> {
    if let Ok(permit) = Arc::clone(&server.sockets).try_acquire_owned() {
        return Some(permit);
    }
    if server.strangers.evict_oldest() {
        server.counters.evicted.count();
    }
    let freed = Arc::clone(&server.sockets).acquire_owned();
    tokio::time::timeout(EVICTION_DEADLINE, freed).await.ok()?.ok()
}

/// One connection, until it ends or must make room for another.
async fn serve(stream: TcpStream, server: Arc<Server>, address: IpAddr, share: Arc<Share>) {
    // Frames are small, and each awaits an answer.
    let _ = stream.set_nodelay(true);
    tokio::select! {
        () = share.stranger.evicted() => tracing::debug!(%address, "evicted to make room for another connection"),
        () = converse(stream, server, address, Arc::clone(&share)) => {}
    }
}

/// Perhaps TLS, then HTTP, and perhaps a WebSocket after it.
async fn converse(stream: TcpStream, server: Arc<Server>, address: IpAddr, share: Arc<Share>) {
    let Some(tls) = &server.options.tls else { return talk(stream, server, address, share).await };
    let handshake = tokio::time::timeout(HEAD_DEADLINE, tls.acceptor().accept(stream));
    let shaken = tokio::select! {
        shaken = handshake => shaken,
        () = server.shutdown.cancelled() => return,
    };
    match shaken {
        Ok(Ok(stream)) => talk(stream, server, address, share).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

async fn talk<S>(stream: S, server: Arc<Server>, address: IpAddr, share: Arc<Share>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| {
        let (server, share) = (Arc::clone(&server), Arc::clone(&share));
        let answer = http::answer(request, server, address, share);
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = server.shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

async fn sweep(server: Arc<Server>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let now_s = now_s();
        let occupied = server.rooms().with_workers();
        let swept = match server.state.extend(occupied, now_s).await {
            Ok(()) => server.state.purge(now_s).await,
            Err(error) => Err(error),
        };
        match swept {
            Ok(expired) => tracing::info!(expired, "expired rooms deleted"),
            Err(error) => {
                tracing::error!(error = %WithCauses(&error), "cannot update the expiry of rooms");
            }
        }
    }
}
