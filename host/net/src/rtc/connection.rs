//! Offer, answer, and the connection that they set up.

use super::channel::{Channel, ChannelError};
use super::{RtcOptions, addresses, descriptions, settings, sockets};
use crate::binding::{self, ChannelBinding};
use crate::route::{Route, Way};
use rtc::peer_connection::transport::{RTCDtlsTransportState, RTCSctpTransportState};
use sleap_rtc_protocol::PYTHON_CHANNEL_LABEL;
use sleap_rtc_protocol::connection::ConnectionState;
use sleap_rtc_protocol::signaling::Sdp;
use sleap_rtc_trust::handshake::certificate_hash;
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::Instant;
use webrtc::data_channel::{DataChannel, RTCDataChannelInit};
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder,
    RTCIceCandidate, RTCIceCandidateType, RTCIceGatheringState, RTCPeerConnectionState,
    RTCSessionDescription, StatsSelector,
};

/// The time from the answer to an open channel.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// How long closing may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// How often the candidates are counted, and how long to wait for other servers after the first one
/// has answered.
const GATHER_POLL: Duration = Duration::from_millis(20);
const GATHER_REST: Duration = Duration::from_millis(200);
/// The most channels from the other side that may wait to be taken.
const MAX_WAITING_CHANNELS: usize = 8;
/// The longest description that is accepted.
const MAX_DESCRIPTION_BYTES: usize = 64 * 1024;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum RtcError {
    /// The other side's session description is malformed.
    #[error("the other side's session description is malformed")]
    BadDescription(#[source] webrtc::error::Error),
    /// The other side's session description is larger than any honest one.
    #[error(
        "the other side's session description is larger than {} KiB", MAX_DESCRIPTION_BYTES / 1024
    )]
    DescriptionTooLarge,
    /// This side's sockets or description could not be created.
    #[error("a peer connection could not be set up on this machine")]
    Setup(#[source] webrtc::error::Error),
    /// Both sides agreed, but no path was found.
    #[error("no path to the other side was found within {} s", CONNECT_LIMIT.as_secs())]
    NoPath,
    /// A path was found and encrypted, but no SCTP association opened on it.
    #[error(
        "both sides reach each other, but no data channel opened within {} s; the network is not \
         the cause, the other side's program or its version may be", CONNECT_LIMIT.as_secs()
    )]
    NoChannel,
    /// A data channel could not be opened.
    #[error("a data channel could not be opened")]
    Channel(#[from] ChannelError),
}

/// State that the handler, the channels and the connection share.
pub(crate) struct Shared {
    state: watch::Sender<ConnectionState>,
    /// See [`sockets::Tuned::connecting`].
    connecting: Arc<AtomicBool>,
    /// Whether the other side is another program, a browser for instance.
    is_foreign: bool,
    /// Weak, because the peer connection owns the handler, which owns this.
    peer: OnceLock<Weak<dyn PeerConnection>>,
}

impl Shared {
    /// The connection's state. The receiver is notified of each change.
    pub(crate) fn state(&self) -> watch::Receiver<ConnectionState> {
        self.state.subscribe()
    }

    /// Resolves when the connection can carry no more data.
    pub(crate) async fn over(&self) {
        let mut state = self.state.subscribe();
        // The sender lives in `self`, so the wait ends only when the state changes.
        let _ = state.wait_for(|state| state.is_over()).await;
    }

    fn set(&self, next: ConnectionState) {
        if next.is_over() {
            self.hurry(false);
        }
        self.state.send_if_modified(|state| {
            let changed = state.can_become(next);
            if changed {
                *state = next;
            }
            changed
        });
    }

    /// Called when a channel has ended, which may mean that the other side closed the connection.
    /// The crate learns that, but reports `connected` until the path has been silent for a while.
    pub(crate) async fn channel_ended(&self) {
        let Some(peer) = self.peer.get().and_then(Weak::upgrade) else {
            return;
        };
        let Some(sctp) = peer.sctp().await else {
            return;
        };
        // A Python peer closes SCTP first and DTLS later; our own programs close both at once.
        if matches!(sctp.state().await, Ok(RTCSctpTransportState::Closed))
            || matches!(sctp.transport().state().await, Ok(RTCDtlsTransportState::Closed))
        {
            self.set(ConnectionState::Closed);
        }
    }

    /// The connection's route: through a TURN server of either side, or directly.
    pub(crate) async fn route(&self) -> Option<Route> {
        let peer = self.peer.get().and_then(Weak::upgrade)?;
        let transport = peer.sctp().await?.transport().ice_transport();
        let path = transport.get_selected_candidate_pair().await.ok()??;
        tracing::debug!(%path, "WebRTC has chosen a path");
        let is_relay = |end: &RTCIceCandidate| end.typ == RTCIceCandidateType::Relay;
        let way = match is_relay(path.local()) || is_relay(path.remote()) {
            true => Way::Relayed { by: "a TURN server".to_owned(), why: None },
            false => Way::Direct,
        };
        let report = peer.get_stats(std::time::Instant::now(), StatsSelector::None).await;
        // Only the chosen pair has a round-trip time.
        let round_trip_s = report.candidate_pairs().map(|pair| pair.current_round_trip_time);
        let round_trip = Duration::try_from_secs_f64(round_trip_s.fold(0.0, f64::max)).ok()?;
        Some(Route { way, round_trip })
    }

    /// See [`descriptions::is_foreign`].
    pub(crate) fn is_foreign(&self) -> bool {
        self.is_foreign
    }

    /// The certificates of both ends. The other side's is the one that the handshake received and
    /// verified, not the one in its description.
    pub(crate) async fn binding(&self) -> Option<ChannelBinding> {
        let peer = self.peer.get().and_then(Weak::upgrade)?;
        let local = certificate_hash(&peer.local_description().await?.sdp)?;
        let transport = peer.sctp().await?.transport();
        let certificates = transport.get_remote_certificates().await.ok()?;
        Some(ChannelBinding::Webrtc { local, remote: binding::hash(certificates.first()?) })
    }

    fn hurry(&self, connecting: bool) {
        self.connecting.store(connecting, Ordering::Relaxed);
    }
}

struct Handler {
    shared: Arc<Shared>,
    gathered: watch::Sender<bool>,
    channels: mpsc::Sender<Arc<dyn DataChannel>>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.gathered.send_replace(true);
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        let next = match state {
            RTCPeerConnectionState::Connecting => ConnectionState::Connecting,
            RTCPeerConnectionState::Connected => ConnectionState::Connected,
            RTCPeerConnectionState::Disconnected => ConnectionState::Disconnected,
            RTCPeerConnectionState::Failed => ConnectionState::Failed,
            RTCPeerConnectionState::Closed => ConnectionState::Closed,
            _ => return,
        };
        tracing::debug!(state = ?next, "peer connection");
        self.shared.set(next);
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        self.shared.hurry(false);
        // The driver waits for this handler, so it must not block.
        if self.channels.try_send(channel).is_err() {
            tracing::warn!("the other side opened too many data channels; one is ignored");
        }
    }
}

/// The channels that the other side opened.
struct Arrivals {
    queue: mpsc::Receiver<Arc<dyn DataChannel>>,
    /// A channel that a cancelled call of `next_channel` has taken from the queue.
    taken: Option<Arc<dyn DataChannel>>,
}

/// A peer connection. Dropping it closes it in the background.
pub struct Connection {
    inner: Arc<dyn PeerConnection>,
    shared: Arc<Shared>,
    arrivals: Mutex<Arrivals>,
    gathered: watch::Receiver<bool>,
    /// The runtime for closing in the background, because any thread may drop the last handle.
    runtime: Handle,
}

impl Connection {
    async fn new(options: &RtcOptions, is_foreign: bool) -> Result<Self, RtcError> {
        let connecting = Arc::new(AtomicBool::new(false));
        let shared = Arc::new(Shared {
            state: watch::Sender::new(ConnectionState::New),
            connecting: connecting.clone(),
            is_foreign,
            peer: OnceLock::new(),
        });
        let (gathered, gathering) = watch::channel(false);
        let (channels, queue) = mpsc::channel(MAX_WAITING_CHANNELS);
        let handler = Handler { shared: shared.clone(), gathered, channels };
        let addresses = addresses::chosen(&options.bind);
        let resolve_until = Instant::now() + options.gather_limit;
        let builder = PeerConnectionBuilder::new()
            .with_configuration(
                RTCConfigurationBuilder::default()
                    .with_ice_servers(settings::servers(options))
                    .build(),
            )
            .with_setting_engine(settings::engine(&addresses))
            .with_runtime(Arc::new(sockets::Tuned { connecting, resolve_until, is_foreign }))
            .with_handler(Arc::new(handler))
            .with_udp_addrs(addresses)
            .with_data_channel_send_buffer_limit(sockets::window_bytes());
        let inner: Arc<dyn PeerConnection> =
            Arc::new(builder.build().await.map_err(RtcError::Setup)?);
        // Set only once, here.
        let _ = shared.peer.set(Arc::downgrade(&inner));
        Ok(Self {
            inner,
            shared,
            arrivals: Mutex::new(Arrivals { queue, taken: None }),
            gathered: gathering,
            runtime: Handle::current(),
        })
    }

    /// The connection's state. The receiver is notified of each change.
    pub fn state(&self) -> watch::Receiver<ConnectionState> {
        self.shared.state()
    }

    /// The next channel that the other side opens, or `None` once the connection has ended. Cancel
    /// safe.
    pub async fn next_channel(&self) -> Option<Channel> {
        let mut arrivals = self.arrivals.lock().await;
        loop {
            if arrivals.taken.is_none() {
                arrivals.taken = tokio::select! {
                    channel = arrivals.queue.recv() => Some(channel?),
                    () = self.shared.over() => return None,
                };
            }
            let opening = arrivals.taken.clone()?;
            let opened = Channel::opened(opening, self.shared.clone()).await;
            arrivals.taken = None;
            match opened {
                Ok(channel) => return Some(channel),
                Err(error) => tracing::debug!(%error, "a channel closed before it was open"),
            }
        }
    }

    /// Opens an ordered, reliable channel and waits until it is open.
    ///
    /// Do not call it right after closing another channel of this connection: the crate reuses that
    /// channel's number at once, and the new channel then ends with the old one.
    pub async fn open_channel(&self, label: &str, protocol: &str) -> Result<Channel, RtcError> {
        let inner = self.create_channel(label, protocol).await?;
        self.wait_open(inner).await
    }

    async fn create_channel(
        &self,
        label: &str,
        protocol: &str,
    ) -> Result<Arc<dyn DataChannel>, RtcError> {
        let init = RTCDataChannelInit { protocol: protocol.to_owned(), ..Default::default() };
        self.inner.create_data_channel(label, Some(init)).await.map_err(RtcError::Setup)
    }

    async fn wait_open(&self, inner: Arc<dyn DataChannel>) -> Result<Channel, RtcError> {
        let opening = Channel::opened(inner, self.shared.clone());
        match tokio::time::timeout(CONNECT_LIMIT, opening).await {
            Ok(Ok(channel)) => {
                self.shared.hurry(false);
                Ok(channel)
            }
            Ok(Err(ChannelError::Closed)) | Err(_) => Err(self.unopened()),
            Ok(Err(error)) => Err(error.into()),
        }
    }

    /// Why no channel has opened.
    pub fn unopened(&self) -> RtcError {
        match *self.shared.state.borrow() {
            ConnectionState::Connected => RtcError::NoChannel,
            _ => RtcError::NoPath,
        }
    }

    /// Closes the connection. Bounded in time.
    pub async fn close(self) {
        self.shared.hurry(false);
        if tokio::time::timeout(CLOSE_LIMIT, self.inner.close()).await.is_err() {
            tracing::debug!("closing a peer connection took too long");
        }
        self.shared.set(ConnectionState::Closed);
    }

    /// Sets the local description and returns it with its candidates: all of them, or those found
    /// in time.
    async fn gather(
        &self,
        description: RTCSessionDescription,
        options: &RtcOptions,
        enough: impl Future<Output = ()>,
    ) -> Result<Sdp, RtcError> {
        self.inner.set_local_description(description).await.map_err(RtcError::Setup)?;
        let mut gathered = self.gathered.clone();
        tokio::select! {
            _ = gathered.wait_for(|done| *done) => {}
            () = self.servers_have_answered(options) => {}
            () = enough => tracing::debug!("the candidates found so far are enough"),
            () = tokio::time::sleep(options.gather_limit) => {
                tracing::debug!("candidates are not complete; using those found so far");
            }
        }
        match self.inner.local_description().await {
            Some(description) => Ok(Sdp(description.sdp)),
            None => Err(RtcError::Setup(webrtc::error::Error::ErrConnectionClosed)),
        }
    }
}

impl Connection {
    /// Resolves a little after the first answer of a STUN or TURN server. Requests from most
    /// addresses of a machine with containers are never answered; the answers to the others arrive
    /// at about the same time.
    async fn servers_have_answered(&self, options: &RtcOptions) {
        let mut urls = options.servers.iter().flat_map(|server| &server.urls);
        let answer = match urls.any(|url| url.starts_with("turn")) {
            true => " typ relay",
            false => " typ srflx",
        };
        loop {
            tokio::time::sleep(GATHER_POLL).await;
            let so_far = self.inner.local_description().await;
            if so_far.is_some_and(|description| description.sdp.contains(answer)) {
                return tokio::time::sleep(GATHER_REST).await;
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.set(ConnectionState::Closed);
        let inner = self.inner.clone();
        self.runtime.spawn(async move {
            let _ = tokio::time::timeout(CLOSE_LIMIT, inner.close()).await;
        });
    }
}

/// An offer that awaits its answer.
pub struct Offering {
    pub(crate) connection: Connection,
    channel: Arc<dyn DataChannel>,
}

impl Offering {
    /// Applies the answer and waits for the offered channel to open.
    pub async fn accept(self, answer: &Sdp) -> Result<(Connection, Channel), RtcError> {
        self.agree(answer).await?;
        let Self { connection, channel } = self;
        let channel = connection.wait_open(channel).await?;
        Ok((connection, channel))
    }

    /// Applies the answer, after which both sides look for a path.
    pub(crate) async fn agree(&self, answer: &Sdp) -> Result<(), RtcError> {
        let answer = RTCSessionDescription::answer(descriptions::answer(bounded(answer)?));
        let answer = answer.map_err(RtcError::BadDescription)?;
        self.connection.shared.hurry(true);
        let accepting = self.connection.inner.set_remote_description(answer);
        accepting.await.map_err(RtcError::BadDescription)
    }
}

/// Makes an offer with a Python channel, which every kind of worker expects.
pub async fn offer(options: &RtcOptions) -> Result<(Offering, Sdp), RtcError> {
    offer_until(options, pending()).await
}

/// Like [`offer`], with the candidates that are found before `enough` resolves.
pub async fn offer_until(
    options: &RtcOptions,
    enough: impl Future<Output = ()>,
) -> Result<(Offering, Sdp), RtcError> {
    let connection = Connection::new(options, false).await?;
    let channel = connection.create_channel(PYTHON_CHANNEL_LABEL, "").await?;
    let description = connection.inner.create_offer(None).await.map_err(RtcError::Setup)?;
    let sdp = connection.gather(description, options, enough).await?;
    Ok((Offering { connection, channel }, descriptions::offered(sdp)))
}

/// Answers an offer. [`Connection::next_channel`] returns the channels that the other side opens.
pub async fn answer(options: &RtcOptions, offer: &Sdp) -> Result<(Connection, Sdp), RtcError> {
    let offer = bounded(offer)?;
    let connection = Connection::new(options, descriptions::is_foreign(offer)).await?;
    let offer = RTCSessionDescription::offer(descriptions::offer(offer));
    let offer = offer.map_err(RtcError::BadDescription)?;
    let accepting = connection.inner.set_remote_description(offer);
    accepting.await.map_err(RtcError::BadDescription)?;
    let description = connection.inner.create_answer(None).await.map_err(RtcError::Setup)?;
    let sdp = connection.gather(description, options, pending()).await?;
    connection.shared.hurry(true);
    Ok((connection, sdp))
}

/// Parses a description, unless it is larger than an honest peer's.
fn bounded(Sdp(sdp): &Sdp) -> Result<&str, RtcError> {
    if sdp.len() > MAX_DESCRIPTION_BYTES {
        return Err(RtcError::DescriptionTooLarge);
    }
    Ok(sdp)
}
