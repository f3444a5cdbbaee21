//! Offers of connections: for new jobs, which need a slot, and for existing jobs, which need none.

use super::handle::Request;
use super::{Coordinator, NewJobConnection};
use crate::worker::connection;
use sleap_rtc_protocol::connection::Purpose;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::job::{Refusal, RefusalCode};
use sleap_rtc_protocol::signaling::{ClientMessage, Description, ErrorFrame, WORKER_BUSY};
use sleap_rtc_protocol::worker::RESERVATION;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

impl Coordinator {
    pub(crate) async fn on_offer(&mut self, offer: Description) {
        let peer = offer.sender.clone();
        if let Err(refusal) = self.context.check_transport(&offer) {
            return self.refuse(&peer, offer.attempt, refusal).await;
        }
        match offer.purpose.clone().unwrap_or_default() {
            Purpose::NewJob => match self.reserve(peer.clone(), RESERVATION) {
                Ok(()) => self.connect_new_job(offer),
                Err(refusal) => {
                    self.refuse(&peer, offer.attempt, refusal).await;
                    if !offer.speaks_native() {
                        self.send(ClientMessage::Quit {
                            sender: self.own_id.clone(),
                            target: peer,
                        })
                        .await;
                    }
                }
            },
            Purpose::KnownJob { .. } => match self.others.clone().try_acquire_owned() {
                Ok(permit) => {
                    info!(%peer, "accepted an offer for an existing job");
                    let serve = self.serve(offer, self.connections.child_token());
                    self.tasks.spawn(async move {
                        let _permit = permit;
                        serve.await;
                    });
                }
                Err(_) => {
                    let text = "too many connections to this worker; try again in a minute";
                    let refusal = Refusal::new(RefusalCode::Busy, text);
                    self.refuse(&peer, offer.attempt, refusal).await;
                }
            },
            Purpose::Unknown => {
                let text = "the worker does not know the purpose of this offer; update the worker";
                let refusal = Refusal::new(RefusalCode::Invalid, text);
                self.refuse(&peer, offer.attempt, refusal).await;
            }
        }
    }

    fn connect_new_job(&mut self, offer: Description) {
        let peer = offer.sender.clone();
        let number = self.next_number;
        self.next_number += 1;
        let cancel = self.connections.child_token();
        info!(%peer, number, native = offer.speaks_native(), "accepted an offer; slot reserved");
        let names_its_job = offer.speaks_native();
        let connection =
            NewJobConnection { number, cancel: cancel.clone(), names_its_job, job: None };
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

    fn serve(
        &self,
        offer: Description,
        cancel: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
        let peer = offer.sender.clone();
        let connection = connection::Connecting {
            context: self.context.clone(),
            signaling: self.signaling.clone(),
            coordinator: self.handle.clone(),
            own_id: self.own_id.clone(),
            offer,
        };
        async move {
            match cancel.run_until_cancelled(connection.serve()).await {
                None => info!(%peer, "connection ended by this worker"),
                Some(Ok(())) => info!(%peer, "connection done"),
                Some(Err(error)) => {
                    let error: &(dyn std::error::Error + 'static) = &error;
                    warn!(%peer, error, "connection ended");
                }
            }
        }
    }

    /// Sends a refusal in two forms: as an `error` frame, which the Python server drops, and as a peer
    /// message, which every server forwards. Python clients ignore both; only `quit` ends them.
    pub(crate) async fn refuse(&self, peer: &PeerId, attempt: Option<u64>, refusal: Refusal) {
        info!(%peer, code = ?refusal.code, reason = %refusal.message, "refused an offer");
        let status = self.state.status().as_str().to_owned();
        let busy = matches!(refusal.code, RefusalCode::Busy | RefusalCode::Maintenance);
        let error = ErrorFrame {
            sender: Some(self.own_id.clone()),
            target: Some(peer.clone()),
            code: Some(if busy { "WORKER_BUSY" } else { "REFUSED" }.into()),
            reason: Some(if busy { WORKER_BUSY } else { "refused" }.into()),
            message: Some(refusal.message.clone()),
            current_status: Some(status),
            attempt,
        };
        self.send(ClientMessage::Error(error)).await;
        self.respond(peer, self.response(String::new(), Err(refusal), None)).await;
    }
}
