//! The endpoint of a process: calls peers, and accepts calls from peers that were announced.

use super::calls::{self, Awaited, BegunCall};
use super::error::{QuicError, RelayTried, Tried};
use super::key::EndpointKey;
use super::relay::RelayServer;
use super::session::{LocalEnd, NOT_EXPECTED, SUPERSEDED, Session};
use super::settings;
use super::udp::{self, Udp};
use futures_util::StreamExt;
use iroh::endpoint::{
    BindOpts, ConnectError, ConnectOptions, Connection, Incoming, NetReportConfig,
    PortmapperConfig, WeakConnectionHandle, presets,
};
use iroh::tls::CaTlsConfig;
use iroh::{
    EndpointAddr, EndpointId, RelayConfig, RelayMap, RelayMode, RelayUrl, TransportAddr, Watcher,
};
use iroh_relay::RelayQuicConfig;
use parking_lot::Mutex;
use rustls::client::danger::ServerCertVerifier;
use sleap_rtc_protocol::signaling::EndpointAddress;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

/// How long a caller may take for the handshake, which shows its key.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// The most callers that may be in the handshake at once.
const MAX_HANDSHAKES: usize = 64;
/// How long the endpoint may take to say goodbye to peers and relay.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// How long a call may be unanswered beside an earlier connection to the same peer. A first packet that is lost is
/// sent again after 0.3 and 0.9 s.
pub(crate) const BESIDE_EARLIER: Duration = Duration::from_millis(700);
/// The most addresses of one peer that are tried.
const MAX_ADDRESSES: usize = 64;

/// The settings of an endpoint.
pub struct EndpointOptions {
    /// The key of the device.
    pub key: EndpointKey,
    /// The addresses to bind. Empty means all addresses of this machine.
    pub bind: Vec<IpAddr>,
    /// Whether packets travel through the relay alone.
    pub relay_only: bool,
    /// The proxy on the way to the relay.
    pub proxy: Option<Url>,
    /// Verifies the relay's certificate. Without it, Mozilla's list of authorities applies.
    pub verifier: Option<Arc<dyn ServerCertVerifier>>,
}

impl EndpointOptions {
    /// Without a relay.
    pub fn new(key: EndpointKey, bind: Vec<IpAddr>) -> Self {
        Self { key, bind, relay_only: false, proxy: None, verifier: None }
    }
}

/// An iroh endpoint, one for each process. Clones share it.
#[derive(Clone)]
pub struct Endpoint {
    inner: iroh::Endpoint,
    awaited: Arc<Awaited>,
    /// The newest connection to each peer that was called.
    called: Arc<Mutex<HashMap<EndpointId, WeakConnectionHandle>>>,
    relay: Arc<tokio::sync::Mutex<Option<RelayServer>>>,
    /// Whether UDP packets leave this machine's network.
    udp: watch::Receiver<Udp>,
    _tasks: Arc<[AbortOnDropHandle<()>; 2]>,
    /// Held for as long as it is in use.
    _key: Arc<EndpointKey>,
}

impl Endpoint {
    /// Opens the sockets. Sends nothing.
    ///
    /// # Errors
    /// The sockets cannot be opened.
    pub async fn bind(options: EndpointOptions) -> Result<Self, QuicError> {
        let EndpointOptions { key, bind, relay_only, proxy, verifier } = options;
        let mut builder = iroh::Endpoint::builder(presets::Minimal)
            .secret_key(key.secret.clone())
            .alpns(calls::accepted())
            .transport_config(settings::transport())
            .relay_mode(RelayMode::Custom(RelayMap::empty()))
            .ca_tls_config(trust(verifier))
            .portmapper_config(PortmapperConfig::Disabled)
            .net_report_config(net_report());
        if let Some(proxy) = proxy {
            builder = builder.proxy_url(proxy);
        }
        if relay_only || !bind.is_empty() {
            builder = builder.clear_ip_transports();
        }
        let setup = |error: &dyn std::fmt::Display| QuicError::Setup(error.to_string());
        for address in bind.into_iter().filter(|_| !relay_only) {
            let address = SocketAddr::new(address, 0);
            builder = builder
                .bind_addr_with_opts(address, BindOpts::default())
                .map_err(|error| setup(&error))?;
        }
        let inner = builder.bind().await.map_err(|error| setup(&error))?;
        let awaited = Arc::<Awaited>::default();
        let accepting = tokio::spawn(accept(inner.clone(), awaited.clone()));
        let (found, udp) = watch::channel(Udp::Unknown);
        let relay = Arc::default();
        let looking = tokio::spawn(udp::watch(inner.clone(), Arc::clone(&relay), found));
        let tasks = Arc::new([accepting, looking].map(AbortOnDropHandle::new));
        let called = Arc::default();
        Ok(Self { inner, awaited, called, relay, udp, _tasks: tasks, _key: Arc::new(key) })
    }

    /// The addresses at which peers can call this endpoint.
    pub fn address(&self) -> EndpointAddress {
        let addrs = self.inner.addr().ip_addrs().copied().collect();
        EndpointAddress { id: self.inner.id().to_string(), addrs }
    }

    /// Uses only this relay, and the further ones that it names, from now on.
    pub async fn use_relay(&self, relay: Option<RelayServer>) {
        let mut current = self.relay.lock().await;
        if *current == relay {
            return;
        }
        if let Some(before) = current.take() {
            for (url, _) in before.all() {
                self.inner.remove_relay(&url.clone().into()).await;
            }
        }
        for (url, quic_port) in relay.iter().flat_map(RelayServer::all) {
            tracing::debug!(%url, quic_port, "the server has a relay");
            let url = RelayUrl::from(url.clone());
            let config = RelayConfig::new(url.clone(), quic_port.map(RelayQuicConfig::new));
            let token = relay.as_ref().map(|relay| relay.token.clone()).unwrap_or_default();
            self.inner.insert_relay(url, Arc::new(config.with_auth_token(token))).await;
        }
        *current = relay;
    }

    /// Resolves when the relay refuses this endpoint, with its reason.
    pub async fn relay_refuses(&self) -> String {
        let mut status = self.inner.home_relay_status().stream();
        while let Some(relays) = status.next().await {
            if let Some(reason) = relays.iter().find_map(|relay| relay.auth_denied_reason()) {
                return reason.to_owned();
            }
        }
        std::future::pending().await
    }

    /// Calls a peer about offer number `offer`. The peer must expect the call.
    ///
    /// # Errors
    /// The peer was not reached within `limit`, or it refused the call.
    pub async fn call(
        &self,
        address: &EndpointAddress,
        offer: u64,
        limit: Duration,
    ) -> Result<Called, QuicError> {
        let id = id(address)?;
        let addresses = address.addrs.iter().take(MAX_ADDRESSES).copied().map(TransportAddr::Ip);
        let count = addresses.len();
        let relay = self.relay.lock().await.clone();
        let relays: Vec<RelayUrl> =
            relay.iter().flat_map(|relay| relay.all().map(|(url, _)| url.clone().into())).collect();
        let through = relays.into_iter().map(TransportAddr::Relay);
        let address = EndpointAddr::from_parts(id, addresses.chain(through));
        let calling = async {
            let (preferred, other) = calls::offered();
            let options = ConnectOptions::new().with_additional_alpns(vec![other]);
            let calling = self.inner.connect_with_opts(address, preferred, options).await?;
            let connection = calling.await?;
            self.called.lock().insert(id, connection.weak_handle());
            Ok::<_, ConnectError>(Called { connection, offer, local: self.local_end() })
        };
        let called = timeout(limit, self.beside_earlier(id, calling)).await.map_err(|_| {
            let relay = relay.map_or(RelayTried::None, |relay| self.tried(&relay.url));
            Tried { addresses: count, relay, limit }
        })?;
        called.map_err(|error| QuicError::Call(error.to_string()))
    }

    /// Completes a call to `peer`. If it is not answered soon, closes the earlier connection to that peer, which the
    /// caller holds for lost: iroh sends a call along the path of the connection that it has, and a call does not
    /// arrive by a path that is dead. Without a connection it tries all addresses.
    async fn beside_earlier<T>(&self, peer: EndpointId, calling: impl Future<Output = T>) -> T {
        let mut calling = pin!(calling);
        if let Ok(called) = timeout(BESIDE_EARLIER, &mut calling).await {
            return called;
        }
        let earlier = self.called.lock().remove(&peer);
        if let Some(earlier) = earlier.and_then(|earlier| earlier.upgrade()) {
            tracing::debug!(peer = %peer.fmt_short(), "no call arrives by the path of the earlier connection");
            earlier.close(SUPERSEDED, b"another connection takes its place");
        }
        calling.await
    }

    /// The state of the connection to the relay.
    fn tried(&self, url: &Url) -> RelayTried {
        let host = url.host_str().unwrap_or_default().to_owned();
        let relays = self.inner.home_relay_status().get();
        if let Some(connected) = relays.iter().find(|relay| relay.is_connected()) {
            let url = Url::from(connected.url().clone());
            return RelayTried::Connected(url.host_str().unwrap_or(&host).to_owned());
        }
        let Some(relay) = relays.iter().find(|relay| Url::from(relay.url().clone()) == *url) else {
            return RelayTried::Unreached { host, error: None };
        };
        match relay.auth_denied_reason() {
            Some(reason) => RelayTried::Refused { host, reason: reason.to_owned() },
            None => {
                let error = relay.last_error().map(|error| format!("{error:#}"));
                RelayTried::Unreached { host, error }
            }
        }
    }

    /// Accepts this peer's call about offer number `offer` for as long as the returned value lives. Without a
    /// number, accepts any call of this peer.
    ///
    /// # Errors
    /// The peer's id is malformed.
    pub fn expect(
        &self,
        address: &EndpointAddress,
        offer: Option<u64>,
    ) -> Result<Expected, QuicError> {
        let called = self.awaited.insert(id(address)?, offer);
        Ok(Expected { called, local: self.local_end() })
    }

    fn local_end(&self) -> LocalEnd {
        LocalEnd { id: self.inner.id(), udp: self.udp.clone() }
    }

    /// Closes all connections and the endpoint. Bounded in time.
    pub async fn close(&self) {
        if timeout(CLOSE_LIMIT, self.inner.close()).await.is_err() {
            tracing::debug!("closing the endpoint took too long");
        }
    }
}

/// Disables iroh's check for login pages, which would connect to port 80 of the server.
fn net_report() -> NetReportConfig {
    let mut config = NetReportConfig::default();
    config.captive_portal_check = false;
    config
}

fn trust(verifier: Option<Arc<dyn ServerCertVerifier>>) -> CaTlsConfig {
    match verifier {
        Some(verifier) => {
            CaTlsConfig::custom_server_cert_verifier(Arc::new(move |_| Ok(verifier.clone())))
        }
        None => CaTlsConfig::embedded(),
    }
}

fn id(address: &EndpointAddress) -> Result<EndpointId, QuicError> {
    address.id.parse().map_err(|_| QuicError::BadId)
}

/// An answered call. The other side learns of the conversation when it begins.
pub struct Called {
    connection: Connection,
    offer: u64,
    local: LocalEnd,
}

impl Called {
    /// Begins the conversation.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn session(self) -> Result<Session, QuicError> {
        Ok(Session::new(BegunCall::begin(self.connection, self.offer).await?, self.local))
    }
}

/// A peer that may call.
pub struct Expected {
    called: oneshot::Receiver<BegunCall>,
    local: LocalEnd,
}

impl Expected {
    /// Waits until the peer has called and begun the conversation. Use a deadline: the peer may never
    /// call.
    ///
    /// # Errors
    /// The endpoint was closed.
    pub async fn session(self) -> Result<Session, QuicError> {
        let call = self.called.await.map_err(|_| QuicError::NotCalled)?;
        Ok(Session::new(call, self.local))
    }
}

/// Accepts calls until the endpoint is closed.
async fn accept(endpoint: iroh::Endpoint, awaited: Arc<Awaited>) {
    let mut handshakes = JoinSet::new();
    while let Some(incoming) = endpoint.accept().await {
        while handshakes.try_join_next().is_some() {}
        if handshakes.len() >= MAX_HANDSHAKES {
            tracing::debug!("refused a call: too many at once");
            incoming.refuse();
            continue;
        }
        let awaited = awaited.clone();
        handshakes.spawn(async move {
            match timeout(HANDSHAKE_LIMIT, admit(incoming, &awaited)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a call failed"),
                Err(_) => tracing::debug!("a caller did not complete the handshake in time"),
            }
        });
    }
}

/// Takes the call of a peer that is expected, once it has begun the conversation.
async fn admit(incoming: Incoming, awaited: &Awaited) -> Result<(), QuicError> {
    let accepting = incoming.accept()?;
    let connection = accepting.await.map_err(|error| QuicError::Ended(error.to_string()))?;
    let caller = connection.remote_id();
    let refused = if awaited.expects(caller) {
        let (call, offer) = BegunCall::await_begin(connection).await?;
        awaited.deliver(call, offer).err().map(|call| call.connection)
    } else {
        Some(connection)
    };
    if let Some(connection) = refused {
        tracing::info!(peer = %caller.fmt_short(), "refused a call that was not announced");
        connection.close(NOT_EXPECTED, b"calls are announced through the signaling server");
    }
    Ok(())
}
