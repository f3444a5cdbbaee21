//! The signaling server: HTTP API and WebSocket on every port that it is given.
//!
//! Presence lives in memory and ends with its socket; what must outlive the process is in the
//! [`Store`]. Nobody is believed: a frame speaks as the peer that its socket registered, and reaches
//! that peer's room only.

mod board;
mod frame;
mod http;
mod link;
mod pace;
mod session;
mod socket;

use crate::config::IceOffer;
use crate::signaling::identity::Signer;
use crate::signaling::rooms::{ConnectionId, Rooms};
use crate::signaling::store::{Store, StoreError};
use crate::signaling::unix_time_s;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use link::Link;
pub(in crate::signaling) use socket::CLOSE_REPLACED;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Sockets that are open at once; more wait in the system's queue.
const MAX_SOCKETS: usize = 32 * 1024;
/// How long a request's head may take to arrive.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// The longest head of a request: a few headers and a token.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// How long the sockets have to say goodbye when the server stops.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// How often rooms with a worker are prolonged and expired rooms are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(60 * 60);

/// Why the server ended.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// There is nothing to listen on.
    #[error("no socket to listen on was given")]
    NoListener,
    /// The state cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How a server serves.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// The STUN and TURN servers that its peers are given.
    pub ice: IceOffer,
}

/// What all connections share.
struct Server {
    rooms: Mutex<Rooms<Link>>,
    store: Store,
    signer: Signer,
    ice: IceOffer,
    next_connection: AtomicU64,
    started: Instant,
    counters: Counters,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

/// What happened since the start, for `/metrics`.
#[derive(Default)]
struct Counters {
    forwarded: AtomicU64,
    refused: AtomicU64,
    impersonations: AtomicU64,
}

impl Server {
    fn new(store: Store, options: ServerOptions, shutdown: CancellationToken) -> Self {
        Self {
            rooms: Mutex::default(),
            signer: Signer::new(store.signing_key()),
            store,
            ice: options.ice,
            next_connection: AtomicU64::new(1),
            started: Instant::now(),
            counters: Counters::default(),
            shutdown,
            tasks: TaskTracker::new(),
        }
    }

    /// The registry. It is locked for moments only, and never across an `await`.
    fn rooms(&self) -> MutexGuard<'_, Rooms<Link>> {
        // Each change of the registry is complete before the next can panic.
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_connection(&self) -> ConnectionId {
        self.next_connection.fetch_add(1, Ordering::Relaxed)
    }
}

/// Serves on all `listeners` until `shutdown`, then closes every socket with code 1012, which tells
/// peers to come back.
///
/// # Errors
/// When there is no listener, or the state cannot be read at the start.
pub async fn run(
    listeners: Vec<TcpListener>,
    store: Store,
    options: ServerOptions,
    shutdown: CancellationToken,
) -> Result<(), ServerError> {
    if listeners.is_empty() {
        return Err(ServerError::NoListener);
    }
    store.purge(unix_time_s()).await?;
    let server = Arc::new(Server::new(store, options, shutdown.clone()));
    let sockets = Arc::new(Semaphore::new(MAX_SOCKETS));
    let mut tasks = JoinSet::new();
    for listener in listeners {
        tasks.spawn(accept(listener, Arc::clone(&server), Arc::clone(&sockets)));
    }
    tasks.spawn(sweep(Arc::clone(&server)));
    shutdown.cancelled().await;
    tasks.shutdown().await;
    server.tasks.close();
    if tokio::time::timeout(STOP_DEADLINE, server.tasks.wait()).await.is_err() {
        tracing::warn!("some sockets did not close in time");
    }
    tracing::info!("signaling server stopped");
    Ok(())
}

async fn accept(listener: TcpListener, server: Arc<Server>, sockets: Arc<Semaphore>) {
    loop {
        // Never closed, so this ends only with the task.
        let Ok(permit) = Arc::clone(&sockets).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                server.tasks.spawn(serve(stream, Arc::clone(&server), Arc::new(permit)));
            }
            Err(error) => {
                // Out of file descriptors, most likely: give sockets time to end.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One connection: HTTP, and perhaps a WebSocket after it.
async fn serve(stream: TcpStream, server: Arc<Server>, permit: Arc<OwnedSemaphorePermit>) {
    // Frames are small and wait for an answer each.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let (server, permit) = (Arc::clone(&server), Arc::clone(&permit));
        async move { Ok::<_, std::convert::Infallible>(http::answer(request, server, permit).await) }
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
        let now_s = unix_time_s();
        let occupied = server.rooms().with_workers();
        let swept = match server.store.keep(occupied, now_s).await {
            Ok(()) => server.store.purge(now_s).await,
            Err(error) => Err(error),
        };
        match swept {
            Ok(expired) => tracing::info!(expired, "rooms swept"),
            Err(error) => tracing::error!(%error, "cannot sweep the rooms"),
        }
    }
}
