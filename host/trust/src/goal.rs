//! What a client wants of a worker, and the offer for it.

use crate::job_key::{JobKey, JobOffer};
use sleap_rtc_protocol::DIALECT;
use sleap_rtc_protocol::connection::Purpose;
use sleap_rtc_protocol::ids::{JobId, JobSecret, PeerId};
use sleap_rtc_protocol::signaling::{Description, EndpointAddress, Sdp};

/// The purpose of a connection.
#[derive(Debug, Clone)]
pub enum Goal {
    /// To submit a job that is new to the worker.
    NewJob {
        /// Whether the job may wait for a slot there.
        may_wait: bool,
    },
    /// To continue with a job that the worker has.
    KnownJob(JobId, JobSecret),
    /// To measure the way to it.
    Probe,
}

impl Goal {
    /// Offer number `attempt` from `client` to `worker`, for WebRTC and, with an address, for iroh.
    pub fn offer(
        &self,
        (client, worker): (&PeerId, &PeerId),
        attempt: u64,
        sdp: Sdp,
        iroh: Option<EndpointAddress>,
    ) -> Description {
        Description {
            sender: client.clone(),
            target: worker.clone(),
            sdp,
            protocols: vec![DIALECT.to_owned()],
            purpose: Some(self.purpose((client, worker), attempt)),
            attempt: Some(attempt),
            iroh,
            sender_address: None,
        }
    }

    fn purpose(&self, (client, worker): (&PeerId, &PeerId), attempt: u64) -> Purpose {
        match self {
            Self::NewJob { may_wait: false } => Purpose::NewJob,
            Self::NewJob { may_wait: true } => Purpose::QueuedJob,
            Self::KnownJob(job, secret) => {
                let offer = JobOffer { job, client, worker, attempt };
                let proof = Some(offer.prove(&JobKey::new(job, secret)));
                Purpose::KnownJob { job: job.clone(), proof }
            }
            Self::Probe => Purpose::Probe,
        }
    }
}
