//! One connection: answers its offer, accepts iroh or WebRTC, and finds out which dialect the
//! client speaks.

use super::coordinator::{CoordinatorHandle, HandoverStep};
use super::error::ConnectionError;
use super::{Client, Serves, WorkerContext, native, python};
use sleap_rtc_net::dialect::WorkerEnd;
use sleap_rtc_net::python::PythonWorkerEnd;
use sleap_rtc_net::quic::{Endpoint, Expected, QuicError, Session};
use sleap_rtc_net::rtc::{self, Channel, Connection, RtcError, RtcOptions};
use sleap_rtc_protocol::DIALECT;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::signaling::{ClientMessage, Description, Sdp};
use sleap_rtc_protocol::standing::Caller;
use sleap_rtc_signaling::client::SignalingClient;
use sleap_rtc_trust::device::DeviceId;
use std::sync::Arc;
use std::time::Duration;

/// The time from our answer to an open conversation.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// How long a refused client may take to hear that.
const SEE_OFF: Duration = Duration::from_secs(2);

/// An admitted offer, with everything needed to serve it.
pub(crate) struct Connecting {
    pub(crate) context: Arc<WorkerContext>,
    pub(crate) signaling: SignalingClient,
    pub(crate) coordinator: CoordinatorHandle,
    pub(crate) own_id: PeerId,
    pub(crate) offer: Description,
}

/// The connection that a client has opened.
enum ClientConnection {
    Native(WorkerEnd),
    Python(Connection, Channel),
}

impl Connecting {
    /// Answers, waits for the client to connect, and serves it until one side is done.
    pub(crate) async fn serve(self) -> Result<(), ConnectionError> {
        let expected = self.expect();
        let peer = match (&expected, self.context.transport.has_webrtc()) {
            (Some(_), false) => None,
            (Some(_), true) if !self.offer.has_webrtc() => None,
            (Some(_), true) => Some(self.answer(&self.context.rtc().beside_iroh()).await?),
            (None, _) => Some(self.answer(&self.context.rtc()).await?),
        };
        let (peer, sdp) = peer.map_or((None, Sdp::none()), |(peer, sdp)| (Some(peer), sdp));
        let speaks_native = self.offer.speaks_native();
        let endpoint = self.context.endpoint.as_ref().filter(|_| expected.is_some());
        let answer = Description {
            sender: self.own_id.clone(),
            target: self.offer.sender.clone(),
            sdp,
            protocols: if speaks_native { vec![DIALECT.to_owned()] } else { Vec::new() },
            purpose: None,
            attempt: self.offer.attempt,
            sender_address: None,
            iroh: endpoint.map(Endpoint::address),
        };
        self.signaling.send(ClientMessage::Answer(answer)).await?;
        match opened(expected, peer, speaks_native).await? {
            ClientConnection::Native(mut link) => {
                let context = self.context.clone();
                let device = match context.trust.meet(&mut link, &self.offer).await {
                    Ok(device) => device,
                    Err(error) => {
                        see_off(link).await;
                        return Err(error);
                    }
                };
                let client = self.client(device).await;
                tokio::select! {
                    served = native::serve(client, link) => served,
                    // When it comes back, it hears why.
                    () = context.trust.until_removed(device) => Err(ConnectionError::Removed),
                }
            }
            ClientConnection::Python(connection, channel) => {
                let result =
                    python::serve(self.client(None).await, PythonWorkerEnd::new(channel)).await;
                connection.close().await;
                result
            }
        }
    }

    async fn answer(&self, options: &RtcOptions) -> Result<(Connection, Sdp), RtcError> {
        rtc::answer(options, &self.offer.sdp).await
    }

    /// Expects the client's call about this offer over iroh, if both sides have it.
    fn expect(&self) -> Option<Expected> {
        let (endpoint, caller) = (self.context.endpoint.as_ref()?, self.offer.iroh.as_ref()?);
        let expected = endpoint.expect(caller, self.offer.attempt);
        expected.inspect_err(|error| tracing::debug!(%error, "no connection over iroh")).ok()
    }

    async fn client(self, device: Option<DeviceId>) -> Client {
        let serves = Serves::of(self.offer.purpose.as_ref());
        if serves != Serves::ExistingJob {
            // If the slot is gone, the client is told when it submits its job.
            self.coordinator.step(&self.offer.sender, HandoverStep::Connected).await;
        }
        Client {
            caller: Caller { peer: self.offer.sender, address: self.offer.sender_address },
            device,
            context: self.context,
            coordinator: self.coordinator,
            serves,
        }
    }
}

/// Ends the connection to a client that was refused before its first frame, once it has heard that.
async fn see_off(mut link: WorkerEnd) {
    link.flush(native::FLUSH).await;
    let until_gone = async { while link.recv().await.is_ok() {} };
    // Timing out is fine: the client has had its time.
    let _ = tokio::time::timeout(SEE_OFF, until_gone).await;
    link.close().await;
}

/// What the client opens first. A client begins only one conversation for an offer.
enum FirstOpened {
    Iroh(Box<Session>),
    Webrtc(Box<Channel>),
    Neither,
}

/// Waits for the connection that the client opens first.
async fn opened(
    expected: Option<Expected>,
    peer: Option<Connection>,
    speaks_native: bool,
) -> Result<ClientConnection, ConnectionError> {
    let opening = first_opened(expected, peer.as_ref(), speaks_native);
    let first = tokio::time::timeout(CONNECT_LIMIT, opening).await;
    match (first.unwrap_or(FirstOpened::Neither), peer) {
        (FirstOpened::Iroh(session), _) => {
            Ok(ClientConnection::Native(WorkerEnd::on_session(*session)))
        }
        (FirstOpened::Webrtc(channel), Some(peer)) if channel.protocol() == DIALECT => {
            Ok(ClientConnection::Native(WorkerEnd::on_channel(peer, *channel)))
        }
        (FirstOpened::Webrtc(channel), Some(peer)) => Ok(ClientConnection::Python(peer, *channel)),
        (_, peer) => {
            let source = peer.map(|peer| peer.unopened());
            Err(ConnectionError::NeverConnected { limit: CONNECT_LIMIT, source })
        }
    }
}

async fn first_opened(
    expected: Option<Expected>,
    peer: Option<&Connection>,
    speaks_native: bool,
) -> FirstOpened {
    let session = async {
        match expected {
            Some(expected) => expected.session().await,
            None => Err(QuicError::NotCalled),
        }
    };
    let channel = async {
        let Some(peer) = peer else { return std::future::pending().await };
        let channel = first_channel(peer, speaks_native).await;
        channel.map_or(FirstOpened::Neither, |channel| FirstOpened::Webrtc(Box::new(channel)))
    };
    tokio::pin!(channel);
    tokio::select! {
        session = session => match session {
            Ok(session) => FirstOpened::Iroh(Box::new(session)),
            Err(error) => {
                tracing::debug!(%error, "no connection over iroh");
                channel.await
            }
        },
        first = &mut channel => first,
    }
}

/// The channel to serve: a Python client's first, or the first that speaks `sleap-rtc/1`. A native client
/// also opens a Python channel, and sends nothing on it.
async fn first_channel(connection: &Connection, speaks_native: bool) -> Option<Channel> {
    loop {
        let channel = connection.next_channel().await?;
        if !speaks_native || channel.protocol() == DIALECT {
            return Some(channel);
        }
    }
}
