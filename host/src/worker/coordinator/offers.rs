//! Offers of connections: for new jobs, which need a slot, and for existing jobs, which need none.

use super::handle::Request;
use super::quotas::Quotas;
use super::replies::Replies;
use super::reservations::HandoverStep;
use super::{Coordinator, NewJobConnection};
use crate::blocking::blocking;
use crate::worker::connection;
use sleap_rtc_job::JobFolder;
use sleap_rtc_protocol::connection::Purpose;
use sleap_rtc_protocol::ids::{JobId, OfferProof, PeerId};
use sleap_rtc_protocol::job::{Refusal, RefusalCode};
use sleap_rtc_protocol::signaling::{ClientMessage, Description};
use sleap_rtc_protocol::standing::Caller;
use sleap_rtc_protocol::worker::WorkerStatus;
use sleap_rtc_trust::job_key::{self, JobOffer};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// For a caller that has its share of connections already.
const TOO_MANY: &str = "too many connections to this worker; try again in a minute";

impl Coordinator {
    pub(crate) async fn on_offer(&mut self, offer: Description) {
        let peer = offer.sender.clone();
        let caller = Caller { peer: peer.clone(), address: offer.sender_address.clone() };
        if !self.is_within_rate(&caller) {
            return;
        }
        if let Err(refusal) = self.context.check_transport(&offer) {
            return self.refuse(&offer, refusal).await;
        }
        if let Err(refusal) = self.context.trust.check_offer(&offer) {
            self.refuse(&offer, refusal).await;
            // All that a waiting Python client listens to.
            return self.quit(peer).await;
        }
        if self.is_stale(&offer) {
            return tracing::debug!(%peer, attempt = offer.attempt, "ignored an offer that came again");
        }
        match offer.purpose.clone().unwrap_or_default() {
            purpose @ (Purpose::NewJob | Purpose::QueuedJob) => {
                match self.reserve(&caller, None, purpose == Purpose::QueuedJob) {
                    Ok(()) => {
                        self.step(&peer, HandoverStep::Offered);
                        self.connect_new_job(offer);
                    }
                    Err(refusal) => {
                        self.refuse(&offer, refusal).await;
                        if !offer.speaks_native() {
                            self.quit(peer).await;
                        }
                    }
                }
            }
            Purpose::KnownJob { job, proof } => self.connect_known_job(caller, offer, job, proof),
            Purpose::Probe => self.connect_probe(caller, offer).await,
            Purpose::Unknown => {
                let text = "the worker does not know the purpose of this offer; update the worker";
                self.refuse(&offer, Refusal::new(RefusalCode::Invalid, text)).await;
            }
        }
    }

    /// Whether this peer has offered this already, or something newer: then the server repeats an offer.
    fn is_stale(&self, offer: &Description) -> bool {
        let current = self.new_jobs.get(&offer.sender).and_then(|connection| connection.attempt);
        current.zip(offer.attempt).is_some_and(|(current, named)| named <= current)
    }

    async fn quit(&self, target: PeerId) {
        let sender = self.own_id.clone();
        self.replies.send(ClientMessage::Quit { sender, target }).await;
    }

    fn connect_new_job(&mut self, offer: Description) {
        let peer = offer.sender.clone();
        let (number, attempt) = (self.next_number, offer.attempt);
        self.next_number += 1;
        let cancel = self.connections.child_token();
        info!(%peer, number, native = offer.speaks_native(), "accepted an offer; slot reserved");
        let names_its_job = offer.speaks_native();
        let connection =
            NewJobConnection { number, attempt, cancel: cancel.clone(), names_its_job, job: None };
        // A peer that sends another offer has abandoned its earlier one.
        if let Some(earlier) = self.new_jobs.insert(peer.clone(), connection) {
            earlier.cancel.cancel();
        }
        let serve = self.serve(offer, cancel);
        let coordinator = self.handle.clone();
        self.tasks.spawn(async move {
            serve.await;
            coordinator.tell(Request::ConnectionOver { peer, number }).await;
        });
    }

    /// Connects a caller that has the job's secret, beside the main loop. Programs that cannot prove that
    /// in the offer have a few connections of their own.
    fn connect_known_job(
        &self,
        caller: Caller,
        offer: Description,
        job: JobId,
        proof: Option<OfferProof>,
    ) {
        // One question for each job at a time: the proof is on disk.
        let Some(asking) = self.asking.take(&caller, Some(&job)) else {
            return tracing::debug!(peer = %caller.peer, "too many offers at once; ignored one");
        };
        let check = ProofCheck {
            replies: self.replies.clone(),
            status: self.state.status(),
            proven: self.proven.clone(),
            unproven: self.unproven.clone(),
        };
        let serve = self.serve(offer.clone(), self.connections.child_token());
        self.tasks.spawn(async move {
            let permit = check.permit(&caller, &offer, &job, proof).await;
            drop(asking);
            match permit {
                Ok(_permit) => {
                    info!(peer = %caller.peer, "accepted an offer for an existing job");
                    serve.await;
                }
                Err(refusal) => check.refuse(&offer, refusal).await,
            }
        });
    }

    /// Connects a caller that measures the way to this worker.
    async fn connect_probe(&self, caller: Caller, offer: Description) {
        let Some(permit) = self.probes.take(&caller, None) else {
            let refusal = Refusal::new(RefusalCode::Busy, TOO_MANY);
            return self.refuse(&offer, refusal).await;
        };
        info!(peer = %caller.peer, "accepted an offer to measure the connection");
        let serve = self.serve(offer, self.connections.child_token());
        self.tasks.spawn(async move {
            serve.await;
            drop(permit);
        });
    }

    fn serve(
        &self,
        offer: Description,
        cancel: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<> {
        let peer = offer.sender.clone();
        let connection = connection::Connecting {
            context: self.context.clone(),
            signaling: self.signaling.clone(),
            coordinator: self.handle.clone(),
            own_id: self.own_id.clone(),
            offer,
        };
        let context = self.context.clone();
        async move {
            match cancel.run_until_cancelled(connection.serve()).await {
                None => info!(%peer, "connection ended by this worker"),
                Some(Ok(())) => info!(%peer, "connection done"),
                Some(Err(error)) => {
                    if error.is_full_disk() {
                        context.disk_alarm.raise();
                    }
                    let error: &(dyn std::error::Error + 'static) = &error;
                    warn!(%peer, error, "connection ended");
                }
            }
        }
    }

    /// Refuses an offer.
    async fn refuse(&self, offer: &Description, refusal: Refusal) {
        let status = self.state.status();
        self.replies.refuse_offer(&offer.sender, status, offer.attempt, refusal).await;
    }
}

/// Decides who may connect about an existing job.
struct ProofCheck {
    replies: Replies,
    status: WorkerStatus,
    proven: Arc<Quotas>,
    unproven: Arc<Quotas>,
}

impl ProofCheck {
    async fn permit(
        &self,
        caller: &Caller,
        offer: &Description,
        job: &JobId,
        proof: Option<OfferProof>,
    ) -> Result<super::quotas::Permit, Refusal> {
        let quotas = match proof {
            None => &self.unproven,
            Some(proof) => {
                let (state_dir, id) = (self.replies.context.state_dir.clone(), job.clone());
                let folder = blocking(move || JobFolder::open(&state_dir, &id).ok()).await?;
                let (client, worker) = (&offer.sender, &self.replies.own_id);
                let attempt = offer.attempt.unwrap_or_default();
                let claim = JobOffer { job, client, worker, attempt };
                let is_right = |folder: &JobFolder| {
                    claim.is_proven(&job_key::verifier(job, &folder.spec().right), &proof)
                };
                // The answer does not reveal whether the job or the secret is wrong.
                if !folder.as_ref().is_some_and(is_right) {
                    let text = "no such job here, or not your secret for it";
                    return Err(Refusal::new(RefusalCode::Unauthorized, text));
                }
                &self.proven
            }
        };
        quotas.take(caller, Some(job)).ok_or_else(|| Refusal::new(RefusalCode::Busy, TOO_MANY))
    }

    async fn refuse(&self, offer: &Description, refusal: Refusal) {
        self.replies.refuse_offer(&offer.sender, self.status, offer.attempt, refusal).await;
    }
}
