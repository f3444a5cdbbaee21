//! One connection: answers its offer, finds out which dialect the client speaks, and serves it.

use super::coordinator::CoordinatorHandle;
use super::error::ConnectionError;
use super::{WorkerContext, native, python};
use sleap_rtc_net::dialect::WorkerEnd;
use sleap_rtc_net::python::PythonWorkerEnd;
use sleap_rtc_net::rtc::{self, Channel, Connection};
use sleap_rtc_protocol::DIALECT;
use sleap_rtc_protocol::connection::Purpose;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::signaling::{ClientMessage, Description};
use sleap_rtc_signaling::client::SignalingClient;
use std::sync::Arc;
use std::time::Duration;

/// The time from the answer to an open channel of the right dialect.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);

/// An admitted offer, and everything that is needed to serve it.
pub(super) struct Connecting {
    pub(super) context: Arc<WorkerContext>,
    pub(super) signaling: SignalingClient,
    pub(super) coordinator: CoordinatorHandle,
    pub(super) own_id: PeerId,
    pub(super) offer: Description,
}

impl Connecting {
    /// Answers the offer, waits for the channel, and serves it until one side ends the conversation.
    pub(super) async fn serve(self) -> Result<(), ConnectionError> {
        let (connection, sdp) = rtc::answer(&self.context.rtc(), &self.offer.sdp).await?;
        let speaks_native = self.offer.speaks_native();
        let answer = Description {
            sender: self.own_id.clone(),
            target: self.offer.sender.clone(),
            sdp,
            protocols: if speaks_native { vec![DIALECT.to_owned()] } else { Vec::new() },
            purpose: None,
            attempt: self.offer.attempt,
        };
        self.signaling.send(ClientMessage::Answer(answer)).await?;
        let channel =
            tokio::time::timeout(CONNECT_LIMIT, first_channel(&connection, speaks_native)).await;
        let Ok(Some(channel)) = channel else {
            let source = connection.unopened();
            return Err(ConnectionError::NeverConnected { limit: CONNECT_LIMIT, source });
        };
        let result = self.session(channel).await;
        connection.close().await;
        result
    }

    async fn session(self, channel: Channel) -> Result<(), ConnectionError> {
        let new_job = matches!(self.offer.purpose, None | Some(Purpose::NewJob));
        if new_job {
            // If the slot is gone, the client is told when it submits its job.
            let _ = self.coordinator.await_first_frame(&self.offer.sender).await;
        }
        let client = super::Client {
            peer: self.offer.sender,
            context: self.context,
            coordinator: self.coordinator,
            new_job,
        };
        if channel.protocol() == DIALECT {
            native::serve(client, WorkerEnd::new(channel)).await
        } else {
            python::serve(client, PythonWorkerEnd::new(channel)).await
        }
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
