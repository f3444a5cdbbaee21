//! One connection: answers its offer, finds out which dialect is spoken, hands it to the session.

use super::coordinator::CoordinatorHandle;
use super::{Site, legacy, ours};
use sleap_rtc_net::dialect::{DialectError, WorkerEnd};
use sleap_rtc_net::rtc::{self, Channel, Connection, RtcError};
use sleap_rtc_protocol::DIALECT;
use sleap_rtc_protocol::connection::Purpose;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::signaling::{ClientMessage, Description};
use sleap_rtc_signaling::client::{SignalingClient, SignalingError};
use std::sync::Arc;
use std::time::Duration;

/// From our answer to an open channel of the right dialect.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);

/// Why a connection ended before its job was done.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error("no data channel within {} s", CONNECT_LIMIT.as_secs())]
    NeverConnected(#[source] RtcError),
    #[error("the peer connection could not be made")]
    Rtc(#[from] RtcError),
    #[error("the answer could not be sent")]
    Signaling(#[from] SignalingError),
    #[error(transparent)]
    Dialect(#[from] DialectError),
    #[error("the client is gone")]
    Gone,
    #[error(transparent)]
    Transfer(#[from] sleap_rtc_transfer::TransferError),
    #[error("{0}")]
    Refused(#[from] sleap_rtc_protocol::job::Refusal),
    #[error("the client goes on over another connection")]
    Replaced,
    #[error("the client broke the protocol: {0}")]
    Protocol(&'static str),
    #[error("the job's folder cannot be used")]
    Folder(#[from] sleap_rtc_job::JobError),
    /// Work on a thread of its own panicked.
    #[error("a thread of the worker ended early; this is a bug")]
    Thread,
    #[error("a file could not be read or written")]
    Io(#[from] std::io::Error),
}

/// An offer that was admitted, and all that is needed to serve it.
pub(super) struct Connecting {
    pub(super) site: Arc<Site>,
    pub(super) signaling: SignalingClient,
    pub(super) coordinator: CoordinatorHandle,
    pub(super) own_id: PeerId,
    pub(super) offer: Description,
}

impl Connecting {
    /// Answers, waits for the channel, and serves it until one side is done.
    pub(super) async fn serve(self) -> Result<(), ConnectionError> {
        let (connection, sdp) = rtc::answer(&self.site.rtc(), &self.offer.sdp).await?;
        let ours = self.offer.speaks_native();
        let answer = Description {
            sender: self.own_id.clone(),
            target: self.offer.sender.clone(),
            sdp,
            protocols: if ours { vec![DIALECT.to_owned()] } else { Vec::new() },
            purpose: None,
            attempt: self.offer.attempt,
        };
        self.signaling.send(ClientMessage::Answer(answer)).await?;
        let channel = tokio::time::timeout(CONNECT_LIMIT, first_channel(&connection, ours)).await;
        let Ok(Some(channel)) = channel else {
            return Err(ConnectionError::NeverConnected(connection.unopened()));
        };
        let result = self.session(channel).await;
        connection.close().await;
        result
    }

    async fn session(self, channel: Channel) -> Result<(), ConnectionError> {
        let new_job = matches!(self.offer.purpose, None | Some(Purpose::NewJob));
        if new_job {
            // Whether the slot is still there the client hears when it asks for it.
            let _ = self.coordinator.await_first_frame(&self.offer.sender).await;
        }
        let client = super::Client {
            peer: self.offer.sender,
            site: self.site,
            coordinator: self.coordinator,
            new_job,
        };
        if channel.protocol() == DIALECT {
            ours::serve(client, WorkerEnd::new(channel)).await
        } else {
            legacy::serve(client, channel).await
        }
    }
}

/// The channel to talk on: the first one, or for our own client the first that speaks our dialect
/// (it opens the legacy one too, and says nothing there).
async fn first_channel(connection: &Connection, ours: bool) -> Option<Channel> {
    loop {
        let channel = connection.next_channel().await?;
        if !ours || channel.protocol() == DIALECT {
            return Some(channel);
        }
    }
}
