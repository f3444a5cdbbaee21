//! The client in its room: discovers workers, asks whether they take the job, and connects to one.

mod requests;
mod trusting;

use super::ClientError;
use super::connect::{ConnectFailure, Connector, Offer, Talk};
use super::display::say;
use super::error::{JobRefused, NAME_CHARS, NoWorker};
use super::introduction::metadata;
use super::trust::Trust;
use crate::config::Config;
pub(crate) use requests::{Obstacle, RequestReply};
use serde_json::json;
use sleap_rtc_protocol::capabilities::{ENDPOINT, WorkerFacts};
use sleap_rtc_protocol::ids::{PeerId, RoomId};
use sleap_rtc_protocol::offer_reply::{OfferRefusal, OfferReply};
use sleap_rtc_protocol::signaling::{
    AppMessage, ClientMessage, Filters, PeerInfo, PeerMessage, Role, ServerMessage,
};
use sleap_rtc_protocol::text::Printable;
use sleap_rtc_protocol::worker::WorkerStatus;
use sleap_rtc_signaling::client::{
    Events, HttpApi, Roster, SignalingClient, SignalingError, SignalingEvent, warn_of_apart,
};
use sleap_rtc_trust::credential::Credential;
use sleap_rtc_trust::device::DeviceId;
use sleap_rtc_trust::goal::Goal;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// The time from offer to answer. A Python worker gathers candidates for up to five seconds.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// Shown once for a room whose token has no secret for peers.
const TRUSTS_SERVER: &str = "This room's token has no part that only its members know: whoever runs the \
     signaling server could read and change what is sent.";

/// An open connection to a worker.
pub(crate) struct Connected {
    pub(crate) worker: PeerId,
    /// Its device, if the worker has proven it.
    pub(crate) device: Option<DeviceId>,
    pub(crate) talk: Talk,
}

/// A worker's answer to an offer.
pub(crate) enum Offered {
    /// Connected.
    Yes(Box<Connected>),
    /// It refuses.
    Refused(JobRefused),
    /// It does not have the job, or the secret is not the job's.
    Unknown(JobRefused),
    /// It is not in the room, or does not answer.
    Absent(NoWorker),
}

/// A registered client.
pub(crate) struct Room {
    signaling: SignalingClient,
    events: Events,
    connector: Connector,
    room_id: RoomId,
    /// Which workers are trusted. `None` in a room that trusts the server.
    trust: Option<Trust>,
    /// A warning for the user, to be shown before anything is sent.
    notes: Vec<String>,
    attempts: u64,
    tracks_on_python: bool,
    /// The worker of the latest connection, if it has iroh.
    over_iroh: Option<PeerId>,
    /// The workers that may have reserved a slot for us, still unused, with the job's id.
    reserved: HashMap<PeerId, String>,
    /// The workers whose reservation was released before they had answered, with the job's id.
    released: HashMap<PeerId, String>,
}

impl Room {
    /// Signs in and registers in the room.
    pub(crate) async fn join(
        config: &Config,
        credentials: Credential,
    ) -> Result<Self, ClientError> {
        let room_at_server = credentials.for_server();
        let room = Self::enter(config, credentials, Connector::new(config).await?).await?;
        warn_of_apart(&config.signaling, &room.signaling.server(), &room_at_server);
        Ok(room)
    }

    /// Like [`Self::enter`], but only to look: without an endpoint and the server's relay.
    pub(crate) async fn visit(
        config: &Config,
        credentials: Credential,
    ) -> Result<Self, ClientError> {
        Self::enter(config, credentials, Connector::idle(config)).await
    }

    /// Signs in and registers in the room, to connect with `connector`.
    pub(crate) async fn enter(
        config: &Config,
        credentials: Credential,
        mut connector: Connector,
    ) -> Result<Self, ClientError> {
        let (server, identity) = config.signaling.sign_in(None).await?;
        let (signaling, events) = SignalingClient::connect(
            config.signaling.beginning_with(&server),
            identity,
            credentials.for_server(),
            Role::Client,
            metadata(connector.property()),
            CancellationToken::new(),
        )
        .await?;
        debug!(peer = %signaling.peer_id(), "registered");
        connector.use_relay(signaling.relay());
        let trust = Trust::new(&config.client, &credentials);
        let trusts_server = trust.is_none().then(|| TRUSTS_SERVER.to_owned());
        Ok(Self {
            signaling,
            events,
            connector,
            trust,
            notes: trusts_server.into_iter().chain(config.signaling.exposure()).collect(),
            room_id: credentials.room_id,
            // A call to a worker that still waits for an earlier process of this device is not taken for
            // its own.
            attempts: rand::random::<u32>().into(),
            tracks_on_python: config.client.python_tracking,
            reserved: HashMap::new(),
            released: HashMap::new(),
            over_iroh: None,
        })
    }

    /// Whether Python workers are asked to track.
    pub(crate) fn tracks_on_python(&self) -> bool {
        self.tracks_on_python
    }

    /// This client's peer id.
    pub(crate) fn own_id(&self) -> &PeerId {
        self.signaling.peer_id()
    }

    /// Leaves the room and deletes this client's identity.
    pub(crate) async fn leave(mut self) {
        self.release_all().await;
        let identity = self.signaling.identity();
        let api = HttpApi::new(&self.signaling.server().http);
        tokio::join!(self.signaling.close(), self.connector.close());
        if let Err(error) = api.delete_peer(&identity.id_token, &identity.peer_id).await {
            debug!(%error, "the server did not confirm the deregistration");
        }
    }

    /// All workers of the room, including busy ones, with at least `min_gpu_memory_mib` if given.
    ///
    /// Does not filter by tags: the Python server loses them when a worker changes its status.
    pub(crate) async fn workers(
        &self,
        min_gpu_memory_mib: Option<u64>,
    ) -> Result<Vec<WorkerFacts>, SignalingError> {
        let peers = self.peers(min_gpu_memory_mib).await?;
        Ok(peers.iter().map(WorkerFacts::from_peer).collect())
    }

    /// The room's workers, as the server reports them.
    pub(crate) async fn peers(
        &self,
        min_gpu_memory_mib: Option<u64>,
    ) -> Result<Vec<PeerInfo>, SignalingError> {
        self.signaling.discover(workers_with(min_gpu_memory_mib)).await
    }

    /// The worker, as it describes itself. `None` if it is not in the room, or the room cannot be listed.
    pub(crate) async fn facts(&self, worker: &PeerId) -> Option<WorkerFacts> {
        let workers = self.workers(None).await.ok()?;
        workers.into_iter().find(|facts| facts.peer_id == *worker)
    }

    /// What people call the worker: its host's name, or else its id.
    pub(crate) async fn called(&self, worker: &PeerId) -> Printable {
        let facts = self.facts(worker).await;
        Printable::name(facts.as_ref().map_or(worker.as_str(), WorkerFacts::name), NAME_CHARS)
    }

    /// The workers of the room, kept up to date.
    pub(crate) async fn roster(
        &self,
        min_gpu_memory_mib: Option<u64>,
    ) -> Result<Roster, SignalingError> {
        self.signaling.roster(workers_with(min_gpu_memory_mib)).await
    }

    /// Offers a connection for `goal` and waits for it to open.
    pub(crate) async fn offer(
        &mut self,
        worker: &PeerId,
        goal: &Goal,
    ) -> Result<Offered, ClientError> {
        self.offer_with_question(worker, goal, ANSWER_LIMIT).await
    }

    /// Like [`Self::offer_with_question`], without a question.
    pub(crate) async fn offer_within(
        &mut self,
        worker: &PeerId,
        goal: &Goal,
        limit: Duration,
    ) -> Result<Offered, ClientError> {
        let connect = |source| {
            let source = Box::new(source);
            ClientError::Connect { worker: worker.clone(), source }
        };
        let start = Instant::now();
        let (offered, was_free) = self.prepare(worker, goal).await;
        let Offer { webrtc, sdp, iroh } = offered.map_err(connect)?;
        self.attempts += 1;
        let attempt = self.attempts;
        self.notes.drain(..).for_each(|note| say(&note));
        let offer = goal.offer((self.own_id(), worker), attempt, sdp, iroh);
        self.signaling.send(ClientMessage::Offer(offer)).await?;
        let waiting = tokio::time::timeout(limit, self.answer(worker, attempt));
        let answer = match waiting.await {
            Ok(Ok(OfferReply::Answer(answer))) => answer,
            Ok(Ok(OfferReply::Refused(why))) => return Ok(Offered::Refused(refused(why))),
            Ok(Ok(OfferReply::UnknownJob(text))) => {
                return Ok(Offered::Unknown(JobRefused::ByWorker(text)));
            }
            Ok(Ok(OfferReply::Absent)) => {
                return Ok(Offered::Absent(NoWorker::NotInRoom(worker.clone())));
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                let worker = worker.clone();
                return Ok(Offered::Absent(NoWorker::NoAnswer { worker, limit }));
            }
        };
        self.over_iroh = answer.iroh.as_ref().map(|_| worker.clone());
        let talk = match self.connector.connect(webrtc, attempt, &answer).await {
            Ok(talk) => talk,
            Err(error) if error.is_no_path() && !answer.speaks_native() && !was_free => {
                return Ok(Offered::Refused(JobRefused::PythonBusy(worker.clone())));
            }
            Err(error) => return Err(connect(error)),
        };
        debug!(took_ms = start.elapsed().as_secs_f64() * 1e3, "the connection is open");
        let connected = self.verify_worker(worker, attempt, talk).await?;
        // From now on the connection holds the slot.
        self.reserved.remove(worker);
        Ok(Offered::Yes(Box::new(connected)))
    }

    /// The offer, and whether the room shows `worker` as free.
    async fn prepare(&self, worker: &PeerId, goal: &Goal) -> (Result<Offer, ConnectFailure>, bool) {
        let given = self.signaling.ice_servers().borrow().clone();
        let (known, has_iroh) = oneshot::channel();
        let offering = self.connector.offer(&given, has_iroh);
        tokio::join!(offering, self.is_free(worker, goal, known))
    }

    /// Whether the room shows `worker` as free for a new job. Reports whether it has iroh as soon
    /// as that is known.
    async fn is_free(&self, worker: &PeerId, goal: &Goal, has_iroh: oneshot::Sender<()>) -> bool {
        let report_iroh = || {
            // The receiver is gone if the offer is complete already.
            let _ = has_iroh.send(());
        };
        if let Goal::KnownJob(..) = goal {
            if self.over_iroh.as_ref() == Some(worker) {
                report_iroh();
            }
            return true;
        }
        let peers = self.peers(None).await.unwrap_or_default();
        let Some(peer) = peers.iter().find(|peer| peer.peer_id == *worker) else { return true };
        if peer.metadata.properties.contains_key(ENDPOINT) {
            report_iroh();
        }
        WorkerFacts::from_peer(peer).status == WorkerStatus::Available
    }

    async fn answer(&mut self, worker: &PeerId, attempt: u64) -> Result<OfferReply, ClientError> {
        loop {
            let message = self.next().await?;
            if let ServerMessage::Error(error) = &message {
                debug!(error = error.text(), "while waiting for an answer");
            }
            if let Some(reply) = OfferReply::of(message, worker, attempt) {
                return Ok(reply);
            }
        }
    }

    /// Discards messages while none is expected, so that the queue does not fill up. Never resolves.
    pub(crate) async fn drain(&mut self) {
        while self.next().await.is_ok() {}
        std::future::pending().await
    }

    /// Waits for `wait`, or until `worker` enters the room or this client returns to it.
    pub(crate) async fn pause(&mut self, worker: &PeerId, wait: Duration) {
        let signaling = self.signaling.clone();
        let restored = async {
            loop {
                match self.events.recv().await {
                    Some(SignalingEvent::Restored) => return,
                    Some(_) => {}
                    None => std::future::pending().await,
                }
            }
        };
        let either = async {
            tokio::select! {
                () = restored => {}
                () = arrival(signaling, worker) => {}
            }
        };
        // Timing out is the normal case.
        let _ = tokio::time::timeout(wait, either).await;
    }

    /// The next frame from the server. If the server is lost, the client registers again in the
    /// background, and the callers' deadlines still apply.
    async fn next(&mut self) -> Result<ServerMessage, ClientError> {
        loop {
            match self.events.recv().await {
                Some(SignalingEvent::Message(message)) => {
                    self.release_late(&message).await;
                    return Ok(message);
                }
                Some(SignalingEvent::Lost) => debug!("signaling lost"),
                Some(SignalingEvent::Restored) => debug!("registered again"),
                None => return Err(SignalingError::Closed.into()),
            }
        }
    }

    async fn send_app(&self, worker: &PeerId, payload: AppMessage) -> Result<(), ClientError> {
        let (from_peer_id, to_peer_id) = (self.own_id().clone(), worker.clone());
        let message = PeerMessage::new(from_peer_id, to_peer_id, payload);
        Ok(self.signaling.send(ClientMessage::PeerMessage(message)).await?)
    }
}

/// Resolves when `worker` registers, or registers again. Never resolves without a roster.
async fn arrival(signaling: SignalingClient, worker: &PeerId) {
    let since = |roster: &Roster| {
        let entry = roster.peers().find(|peer| peer.peer_id == *worker);
        entry.map(|peer| peer.connected_at.clone())
    };
    if let Ok(mut roster) = signaling.roster(workers_with(None)).await {
        let before = since(&roster);
        while roster.changed().await.is_ok() {
            let now = since(&roster);
            if now.is_some() && now != before {
                return;
            }
        }
    }
    std::future::pending().await
}

fn workers_with(min_gpu_memory_mib: Option<u64>) -> Filters {
    let properties = min_gpu_memory_mib
        .map(|mib| [("gpu_memory_mb".to_owned(), json!({ "$gte": mib }))].into_iter().collect());
    Filters { role: Some(Role::Worker), properties, ..Filters::default() }
}

/// Whether a worker with this status has reserved slots but no free one.
fn is_reserved(status: Option<&str>) -> bool {
    status == Some(WorkerStatus::Reserved.as_str())
}

fn refused(OfferRefusal { is_busy, status, text }: OfferRefusal) -> JobRefused {
    match is_busy {
        _ if is_reserved(status.as_deref()) => JobRefused::Reserved(text),
        // Waiting does not end a maintenance.
        true if status.as_deref() == Some(WorkerStatus::Busy.as_str()) => JobRefused::Busy(text),
        _ => JobRefused::ByWorker(text),
    }
}
