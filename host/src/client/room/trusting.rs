//! Decides which workers the client talks to: those that prove their identity, and those that the
//! user accepts.

use super::{Connected, Offered, Room};
use crate::client::ClientError;
use crate::client::connect::Talk;
use crate::client::untrusted::Untrusted;
use sleap_rtc_net::dialect::Meeting;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_trust::device::DeviceId;
use sleap_rtc_trust::goal::Goal;
use std::time::{Duration, Instant};

/// How long a worker may refuse a client whose user has just accepted it, and the pause between offers.
const REFUSAL_LIMIT: Duration = Duration::from_secs(30);
const OFFER_INTERVAL: Duration = Duration::from_secs(3);

impl Room {
    /// Trusts `worker` only if it is this device.
    pub(crate) fn pin(&mut self, worker: PeerId, device: DeviceId) {
        if let Some(trust) = &mut self.trust {
            trust.pin(worker, device);
        }
    }

    /// Like [`Self::offer`], with another time limit for the answer. Asks the user about an
    /// uncertified worker.
    pub(crate) async fn offer_with_question(
        &mut self,
        worker: &PeerId,
        goal: &Goal,
        limit: Duration,
    ) -> Result<Offered, ClientError> {
        let offered = self.offer_within(worker, goal, limit).await;
        let (Err(ClientError::Untrusted { why, .. }), Some(trust)) = (&offered, &mut self.trust)
        else {
            return offered;
        };
        // The worker does not wait while the user decides.
        match trust.ask(worker, why).await {
            Some(true) => self.offer_again(worker, goal, limit).await,
            Some(false) => Err(ClientError::untrusted(worker, Untrusted::Declined)),
            None => offered,
        }
    }

    /// Offers again after the user was asked. The slot of the first offer was not used, so the
    /// worker may make this client wait before it reserves another one.
    async fn offer_again(
        &mut self,
        worker: &PeerId,
        goal: &Goal,
        limit: Duration,
    ) -> Result<Offered, ClientError> {
        let start = Instant::now();
        loop {
            let offered = self.offer_within(worker, goal, limit).await?;
            if !matches!(offered, Offered::Refused(_)) || start.elapsed() >= REFUSAL_LIMIT {
                return Ok(offered);
            }
            tokio::time::sleep(OFFER_INTERVAL).await;
        }
    }

    /// Has the worker at the other end prove its identity. Closes the connection if it does not.
    pub(crate) async fn verify_worker(
        &mut self,
        worker: &PeerId,
        attempt: u64,
        mut talk: Talk,
    ) -> Result<Connected, ClientError> {
        let meeting = Meeting {
            room: self.room_id.clone(),
            attempt,
            client: self.own_id().clone(),
            worker: worker.clone(),
        };
        let device = match (&mut self.trust, &mut talk) {
            (None, _) => None,
            (Some(trust), Talk::Native(end)) => {
                let met = trust.meet(end, &meeting).await;
                Some(met.map_err(|why| ClientError::untrusted(worker, why))?.device)
            }
            (Some(trust), Talk::Python(..)) => {
                trust.check_python().map_err(|why| ClientError::untrusted(worker, why))?;
                None
            }
        };
        Ok(Connected { worker: worker.clone(), device, talk })
    }
}
