//! Calls and the offers that announce them.
//!
//! A client that gets no answer in time offers again. A worker that stood still answers all of these
//! offers, in any order, and the client calls for the newest one. Each call therefore names its offer, so
//! that it reaches the conversation that waits for it and no other. The ALPN tells whether a peer's program
//! is new enough for that.

use super::error::QuicError;
use iroh::EndpointId;
use iroh::endpoint::{Connection, RecvStream, SendStream};
use parking_lot::Mutex;
use sleap_rtc_protocol::DIALECT;
use tokio::sync::oneshot;

/// The ALPN of calls that name their offer. Other calls have the dialect's own.
const NAMED: &[u8] = b"sleap-rtc/1+offer";
/// The first byte of a conversation, from the side that called. Without it, the other side would
/// learn of the stream only with the first message.
const UNNAMED_GREETING: u8 = 1;
/// The same if the number of the offer follows.
const NAMED_GREETING: u8 = 2;

/// The ALPNs that this program accepts, the preferred one first.
pub(crate) fn accepted() -> Vec<Vec<u8>> {
    vec![NAMED.to_vec(), DIALECT.as_bytes().to_vec()]
}

/// The ALPN to call with, and the one for peers that do not know it.
pub(crate) fn offered() -> (&'static [u8], Vec<u8>) {
    (NAMED, DIALECT.as_bytes().to_vec())
}

/// A connection that the caller has made, and the stream of its conversation.
pub(crate) struct BegunCall {
    pub(crate) connection: Connection,
    pub(crate) send: SendStream,
    pub(crate) receive: RecvStream,
}

impl BegunCall {
    /// Begins the conversation of an offer.
    pub(crate) async fn begin(connection: Connection, offer: u64) -> Result<Self, QuicError> {
        let (mut send, receive) = connection.open_bi().await?;
        if connection.alpn() == NAMED {
            send.write_all(&[&[NAMED_GREETING], &offer.to_be_bytes()[..]].concat()).await?;
        } else {
            send.write_all(&[UNNAMED_GREETING]).await?;
        }
        Ok(Self { connection, send, receive })
    }

    /// Waits for the caller to begin. Returns the offer that it names.
    pub(crate) async fn await_begin(
        connection: Connection,
    ) -> Result<(Self, Option<u64>), QuicError> {
        let (send, mut receive) = connection.accept_bi().await?;
        let mut greeting = [0];
        receive.read_exact(&mut greeting).await.map_err(|_| QuicError::Greeting)?;
        let offer = match greeting {
            [UNNAMED_GREETING] => None,
            [NAMED_GREETING] => {
                let mut number = [0; size_of::<u64>()];
                receive.read_exact(&mut number).await.map_err(|_| QuicError::Greeting)?;
                Some(u64::from_be_bytes(number))
            }
            _ => return Err(QuicError::Greeting),
        };
        Ok((Self { connection, send, receive }, offer))
    }
}

/// The calls that are expected, in the order of their announcements. Each belongs to a task that waits for it.
#[derive(Default)]
pub(crate) struct Awaited(Mutex<Vec<AwaitedCall>>);

struct AwaitedCall {
    caller: EndpointId,
    offer: Option<u64>,
    called: oneshot::Sender<BegunCall>,
}

impl Awaited {
    /// Expects a call for as long as the returned receiver lives. Without an `offer`, any call of this peer
    /// is meant.
    pub(crate) fn insert(
        &self,
        caller: EndpointId,
        offer: Option<u64>,
    ) -> oneshot::Receiver<BegunCall> {
        let (called, receiver) = oneshot::channel();
        let mut waiting = self.0.lock();
        // The tasks for these have ended.
        waiting.retain(|one| !one.called.is_closed());
        waiting.push(AwaitedCall { caller, offer, called });
        receiver
    }

    /// Whether any call of this peer is expected.
    pub(crate) fn expects(&self, caller: EndpointId) -> bool {
        self.0.lock().iter().any(|one| one.caller == caller && !one.called.is_closed())
    }

    /// Hands the call to the task that waits for it, or returns it. A call that names no offer is for the
    /// newest.
    pub(crate) fn deliver(&self, call: BegunCall, offer: Option<u64>) -> Result<(), BegunCall> {
        let caller = call.connection.remote_id();
        let is_meant = |one: &AwaitedCall| {
            one.caller == caller
                && one.offer.zip(offer).is_none_or(|(awaited, named)| awaited == named)
        };
        let mut waiting = self.0.lock();
        waiting.retain(|one| !one.called.is_closed());
        match waiting.iter().rposition(is_meant) {
            Some(place) => waiting.remove(place).called.send(call),
            None => Err(call),
        }
    }
}
