//! Opens a connection from an answered offer: over iroh if both sides have it, otherwise over
//! WebRTC.

use crate::config::Config;
use crate::endpoint::{self, RelayReach};
use serde_json::Value;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_base::ice::IceConfig;
use sleap_rtc_base::transport::Transport;
use sleap_rtc_net::dialect::ClientEnd;
use sleap_rtc_net::quic::{Called, Endpoint, QuicError, RelayTried, Tried};
use sleap_rtc_net::rtc::{
    self, Channel, Connection, GATHER_LIMIT_BESIDE_IROH, RtcError, RtcOptions,
};
use sleap_rtc_protocol::signaling::{Description, EndpointAddress, IceServers, Sdp};
use sleap_rtc_protocol::{DIALECT, PYTHON_CHANNEL_LABEL};
use sleap_rtc_signaling::client::Relay;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

/// How long iroh is tried: a first packet that is lost is sent again after 0.3, 0.9, 2.1 and 4.5 s, and the last one has
/// a second and a half for its answer.
const CALL_LIMIT: Duration = Duration::from_secs(6);
/// How long iroh is tried before WebRTC joins.
const HEAD_START: Duration = Duration::from_secs(1);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectFailure {
    /// Over WebRTC.
    #[error(transparent)]
    Webrtc(#[from] RtcError),
    /// Over iroh.
    #[error(transparent)]
    Iroh(#[from] QuicError),
    /// Over neither of them.
    #[error("over iroh, {iroh}; over WebRTC, {webrtc}")]
    Both {
        /// Why not over WebRTC.
        webrtc: RtcError,
        /// Why not over iroh.
        iroh: QuicError,
    },
    /// The worker has no iroh, and the user wants nothing else.
    #[error("it does not take connections over iroh; update it, or use --transport auto")]
    NoIroh,
}

impl ConnectFailure {
    /// Whether the peer speaks WebRTC, but no path to it was found.
    pub(crate) fn is_no_path(&self) -> bool {
        matches!(self, Self::Webrtc(RtcError::NoPath) | Self::Both { webrtc: RtcError::NoPath, .. })
    }

    /// Advice for the user.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Iroh(iroh) | Self::Both { iroh, .. } => match iroh {
                QuicError::NoPath(Tried { relay: RelayTried::None, .. }) => {
                    "; switch on the signaling server's relay (`[signaling] relay = true`)"
                }
                _ => "",
            },
            Self::Webrtc(RtcError::NoPath) => {
                "; if it is behind another firewall, configure a TURN server, or use --transport auto \
                 on both sides"
            }
            Self::Webrtc(_) | Self::NoIroh => "",
        }
    }
}

/// An open conversation with a worker.
pub(crate) enum Talk {
    /// `sleap-rtc/1`.
    Native(ClientEnd),
    /// The texts of a Python worker.
    Python(Connection, Channel),
}

/// Makes this client's connections.
pub(crate) struct Connector {
    ice: IceConfig,
    transport: Transport,
    endpoint: Option<Endpoint>,
    relay: Option<AbortOnDropHandle<()>>,
}

/// An offer: for WebRTC, for iroh, or for both.
pub(crate) struct Offer {
    /// This side's end over WebRTC, which waits for an answer.
    pub(crate) webrtc: Option<rtc::Offering>,
    pub(crate) sdp: Sdp,
    /// The address of this side's endpoint.
    pub(crate) iroh: Option<EndpointAddress>,
}

impl Connector {
    pub(crate) async fn new(config: &Config) -> Result<Self, QuicError> {
        let endpoint = endpoint::open(config, &config.client.state_dir).await?;
        Ok(Self { endpoint, ..Self::idle(config) })
    }

    /// A connector that tries one transport alone.
    pub(crate) async fn by(config: &Config, transport: Transport) -> Result<Self, QuicError> {
        let endpoint = match transport {
            Transport::Webrtc => None,
            _ => endpoint::open(config, &config.client.state_dir).await?,
        };
        Ok(Self { endpoint, transport, ..Self::idle(config) })
    }

    /// A connector that uses the server's relay alone.
    pub(crate) async fn by_relay(config: &Config) -> Result<Self, QuicError> {
        let endpoint = Some(endpoint::open_relayed(config, &config.client.state_dir).await?);
        Ok(Self { endpoint, transport: Transport::Iroh, ..Self::idle(config) })
    }

    /// A connector without iroh, for clients that open no connections.
    pub(crate) fn idle(config: &Config) -> Self {
        let (ice, transport) = (config.ice.clone(), config.transport);
        Self { ice, transport, endpoint: None, relay: None }
    }

    /// What the room sees of this client.
    pub(crate) fn property(&self) -> Option<(String, Value)> {
        self.endpoint.as_ref().map(endpoint::property)
    }

    /// Uses the server's relay from now on.
    pub(crate) fn use_relay(&mut self, relay: watch::Receiver<Option<Relay>>) {
        let task =
            |endpoint| tokio::spawn(endpoint::use_relay(endpoint, relay, RelayReach::AllServers));
        self.relay = self.endpoint.clone().map(task).map(AbortOnDropHandle::new);
    }

    /// Makes an offer for every transport that is possible here.
    ///
    /// Does not wait long for WebRTC candidates once `has_iroh` reports that the worker has iroh. A system
    /// that lets WebRTC open no socket still has iroh, whose sockets ask less of it.
    pub(crate) async fn offer(
        &self,
        given: &IceServers,
        has_iroh: oneshot::Receiver<()>,
    ) -> Result<Offer, ConnectFailure> {
        let options = RtcOptions::new(&self.ice, given);
        let enough = async {
            if self.endpoint.is_none() || has_iroh.await.is_err() {
                std::future::pending::<()>().await;
            }
            sleep(GATHER_LIMIT_BESIDE_IROH).await;
        };
        let iroh = self.endpoint.as_ref().map(Endpoint::address);
        match rtc::offer_until(&options, enough).await {
            Ok((offering, sdp)) => Ok(Offer { webrtc: Some(offering), sdp, iroh }),
            Err(error) if iroh.is_some() => {
                debug!(error = %WithCauses(&error), "no WebRTC here");
                Ok(Offer { webrtc: None, sdp: Sdp::none(), iroh })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Connects according to the answer to offer number `attempt`.
    pub(crate) async fn connect(
        &self,
        offering: Option<rtc::Offering>,
        attempt: u64,
        answer: &Description,
    ) -> Result<Talk, ConnectFailure> {
        let Some((endpoint, address)) = self.endpoint.as_ref().zip(answer.iroh.as_ref()) else {
            return match offering.filter(|_| self.transport.has_webrtc()) {
                Some(offering) => {
                    let opened = offering.accept(&answer.sdp).await?;
                    Ok(converse_over_webrtc(opened, answer).await?)
                }
                None => Err(ConnectFailure::NoIroh),
            };
        };
        let calling = endpoint.call(address, attempt, CALL_LIMIT);
        let uses_webrtc = self.transport.has_webrtc() && answer.has_webrtc();
        let Some(offering) = offering.filter(|_| uses_webrtc) else {
            return converse_over_iroh(calling.await?).await;
        };
        let opening = offering.accept(&answer.sdp);
        match first_of(calling, opening).await {
            Ok(Either::Left(called)) => converse_over_iroh(called).await,
            Ok(Either::Right(opened)) => Ok(converse_over_webrtc(opened, answer).await?),
            Err((iroh, webrtc)) => Err(ConnectFailure::Both { webrtc, iroh }),
        }
    }

    /// Closes the endpoint. Bounded in time.
    pub(crate) async fn close(&self) {
        if let Some(endpoint) = &self.endpoint {
            endpoint.close().await;
        }
    }
}

/// One of two.
enum Either<A, B> {
    Left(A),
    Right(B),
}

/// The first success of two attempts. The second one begins once the head start is over, or the
/// first one has failed.
async fn first_of<A, B, E, F>(
    first: impl Future<Output = Result<A, E>>,
    second: impl Future<Output = Result<B, F>>,
) -> Result<Either<A, B>, (E, F)> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let done = match timeout(HEAD_START, &mut first).await {
        Ok(done) => Either::Left(done),
        Err(_) => tokio::select! {
            done = &mut first => Either::Left(done),
            done = &mut second => Either::Right(done),
        },
    };
    match done {
        Either::Left(Ok(first)) => Ok(Either::Left(first)),
        Either::Right(Ok(second)) => Ok(Either::Right(second)),
        Either::Left(Err(error)) => {
            second.await.map(Either::Right).map_err(|second| (error, second))
        }
        Either::Right(Err(error)) => first.await.map(Either::Left).map_err(|first| (first, error)),
    }
}

async fn converse_over_iroh(called: Called) -> Result<Talk, ConnectFailure> {
    Ok(Talk::Native(ClientEnd::on_session(called.session().await?)))
}

/// The channel of the offer is for Python workers. Our own workers get a separate one.
async fn converse_over_webrtc(
    (connection, channel): (Connection, Channel),
    answer: &Description,
) -> Result<Talk, RtcError> {
    if !answer.speaks_native() {
        return Ok(Talk::Python(connection, channel));
    }
    let channel = connection.open_channel(PYTHON_CHANNEL_LABEL, DIALECT).await?;
    Ok(Talk::Native(ClientEnd::on_channel(connection, channel)))
}
