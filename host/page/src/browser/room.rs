//! A room, as this page sees it: its workers, and messages from and to them.

use super::clock::{now_ms, sleep, sleep_until, within};
use super::http::{self, Identity};
use super::socket::{Socket, SocketSender};
use super::store::KnownRoom;
use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures_util::future::{Either, select};
use serde_json::json;
use sleap_rtc_protocol::capabilities::{CLIENT_TAGS, WorkerFacts};
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::signaling::{
    AppMessage, ClientMessage, Filters, IceServers, Metadata, PeerInfo, PeerMessage, Register,
    Role, ServerMessage,
};
use sleap_rtc_trust::credential::Credential;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::pin;
use std::rc::Rc;
use wasm_bindgen::JsValue;
use web_time::{Duration, Instant};

/// How often a server that pushes changes is asked all the same, and one that does not.
const ASK_SELDOM: Duration = Duration::from_secs(60);
const ASK_EVERY: Duration = Duration::from_secs(3);
/// How long the server may be silent after a question. A laptop that wakes up in another network has a socket that
/// nobody answers.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long to wait before the server is tried again.
const RETRY_LEAST: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(20);

/// What happens in the room.
pub enum RoomNews {
    /// These are its workers now.
    Workers(Vec<WorkerFacts>),
    /// The server is away. It is tried again.
    Lost,
    /// The server does not let this page in, and says why.
    Refused(String),
}

/// A room that this page is in. Clones are the same.
#[derive(Clone)]
pub struct Room(Rc<RoomInner>);

struct RoomInner {
    known: KnownRoom,
    identity: RefCell<Option<Identity>>,
    sender: RefCell<Option<SocketSender>>,
    ice: RefCell<IceServers>,
    listeners: RefCell<Vec<UnboundedSender<ServerMessage>>>,
    workers: RefCell<BTreeMap<PeerId, PeerInfo>>,
    attempts: Cell<u64>,
    is_left: Cell<bool>,
}

/// Why one connection to the server ended.
enum End {
    Lost,
    Refused(String),
}

/// Waits until the server has registered this page. Returns the servers that connections may use.
async fn registered(socket: &mut Socket) -> Result<IceServers, End> {
    loop {
        match socket.next().await {
            Some(ServerMessage::RegisteredAuth { ice, .. }) => return Ok(ice),
            Some(ServerMessage::Error(error)) => return Err(End::Refused(error.text().to_owned())),
            Some(_) => {}
            None => return Err(End::Lost),
        }
    }
}

impl Room {
    /// A room. [`Self::run`] enters it.
    pub fn new(known: KnownRoom) -> Self {
        Self(Rc::new(RoomInner {
            known,
            identity: RefCell::default(),
            sender: RefCell::default(),
            ice: RefCell::default(),
            listeners: RefCell::default(),
            workers: RefCell::default(),
            // After a reload they are still newer than those before.
            attempts: Cell::new(now_ms()),
            is_left: Cell::new(false),
        }))
    }

    /// What this browser remembers of it.
    pub fn known(&self) -> &KnownRoom {
        &self.0.known
    }

    /// What opens it.
    pub fn credential(&self) -> &Credential {
        &self.0.known.credential
    }

    /// Who this page is in the room. `None` before it has entered.
    pub fn own_id(&self) -> Option<PeerId> {
        self.0.identity.borrow().as_ref().map(|identity| identity.peer.clone())
    }

    /// The STUN and TURN servers that the server gives.
    pub fn ice_servers(&self) -> IceServers {
        self.0.ice.borrow().clone()
    }

    /// The number of the next offer.
    pub fn next_attempt(&self) -> u64 {
        self.0.attempts.set(self.0.attempts.get() + 1);
        self.0.attempts.get()
    }

    /// The workers at the moment.
    pub fn workers(&self) -> Vec<WorkerFacts> {
        self.0.workers.borrow().values().map(WorkerFacts::from_peer).collect()
    }

    /// Leaves the room.
    pub fn leave(&self) {
        self.0.is_left.set(true);
        self.0.listeners.borrow_mut().clear();
        // `run` waits for this socket.
        if let Some(sender) = self.0.sender.take() {
            sender.close();
        }
    }

    /// Everything that arrives from now on.
    pub fn listen(&self) -> UnboundedReceiver<ServerMessage> {
        let (sender, messages) = unbounded();
        self.0.listeners.borrow_mut().push(sender);
        messages
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// The server is away.
    pub fn send(&self, message: &ClientMessage) -> Result<(), JsValue> {
        match &*self.0.sender.borrow() {
            Some(sender) => sender.send(message),
            None => Err("the signaling server is away".into()),
        }
    }

    /// Sends a message to a worker.
    ///
    /// # Errors
    /// The server is away.
    pub fn send_app(&self, worker: &PeerId, payload: AppMessage) -> Result<(), JsValue> {
        let own = self.own_id().ok_or("not in the room")?;
        self.send(&ClientMessage::PeerMessage(PeerMessage::new(own, worker.clone(), payload)))
    }

    /// Enters the room and stays in it until it is left, or the server refuses.
    pub async fn run(self, tell: impl Fn(RoomNews)) {
        let mut wait = RETRY_LEAST;
        while !self.0.is_left.get() {
            let started = Instant::now();
            let end = self.once(&tell).await;
            self.0.sender.replace(None);
            match end {
                _ if self.0.is_left.get() => return,
                End::Refused(why) => return tell(RoomNews::Refused(why)),
                End::Lost => tell(RoomNews::Lost),
            }
            wait =
                if started.elapsed() > RETRY_MOST { RETRY_LEAST } else { RETRY_MOST.min(wait * 2) };
            sleep(wait).await;
        }
    }

    async fn once(&self, tell: &impl Fn(RoomNews)) -> End {
        let before = self.0.identity.borrow().clone();
        let Ok(identity) = http::sign_in(before.as_ref()).await else { return End::Lost };
        let Ok(url) = http::websocket_url() else { return End::Lost };
        let Some(mut socket) = Socket::open(&url).await else { return End::Lost };
        self.0.identity.replace(Some(identity.clone()));
        self.0.sender.replace(Some(socket.sender()));
        if self.send(&self.registration(identity)).is_err() {
            return End::Lost;
        }
        match within(ANSWER_LIMIT, registered(&mut socket)).await {
            Some(Ok(ice)) => _ = self.0.ice.replace(ice),
            Some(Err(end)) => return end,
            None => return End::Lost,
        }
        self.stay(&mut socket, tell).await;
        End::Lost
    }

    fn registration(&self, identity: Identity) -> ClientMessage {
        let server = self.credential().for_server();
        let properties = json!({
            "sleap_version": "unknown", "platform": "browser", "user_id": "unknown",
        });
        let properties = properties.as_object().cloned().unwrap_or_default();
        let metadata = Metadata { tags: CLIENT_TAGS.map(str::to_owned).to_vec(), properties };
        ClientMessage::Register(Register {
            peer_id: identity.peer,
            room_id: server.room_id,
            token: server.token,
            id_token: identity.token,
            role: Role::Client,
            metadata,
        })
    }

    /// Follows the room until the socket is closed.
    async fn stay(&self, socket: &mut Socket, tell: &impl Fn(RoomNews)) {
        let Some(from_peer_id) = self.own_id() else { return };
        let filters = Filters { role: Some(Role::Worker), ..Filters::default() };
        let watch = ClientMessage::WatchPeers {
            from_peer_id: from_peer_id.clone(),
            filters: filters.clone(),
        };
        let discover = |after: Option<PeerId>| ClientMessage::DiscoverPeers {
            from_peer_id: from_peer_id.clone(),
            filters: filters.clone(),
            limit: None,
            after,
        };
        if self.send(&watch).and_then(|()| self.send(&discover(None))).is_err() {
            return;
        }
        let (mut ask_every, mut ask_at) = (ASK_EVERY, Instant::now() + ANSWER_LIMIT);
        // Whether nothing has come since the last question.
        let mut is_asked = true;
        let mut listed = BTreeMap::new();
        while !self.0.is_left.get() {
            let message = match select(pin!(socket.next()), pin!(sleep_until(ask_at))).await {
                Either::Left((Some(message), _)) => message,
                Either::Left((None, _)) => return,
                // Nothing has come in time.
                Either::Right(_) if is_asked => return,
                Either::Right(_) => {
                    (is_asked, ask_at) = (true, Instant::now() + ANSWER_LIMIT);
                    let _ = self.send(&discover(None));
                    continue;
                }
            };
            if std::mem::take(&mut is_asked) {
                ask_at = Instant::now() + ask_every;
            }
            match message {
                ServerMessage::Watching { active: true } => {
                    (ask_every, ask_at) = (ASK_SELDOM, Instant::now() + ASK_SELDOM);
                }
                ServerMessage::PeerList { peers, next, .. } => {
                    listed.extend(peers.into_iter().map(|peer| (peer.peer_id.clone(), peer)));
                    if next.is_some() {
                        let _ = self.send(&discover(next));
                        continue;
                    }
                    self.0.workers.replace(std::mem::take(&mut listed));
                    tell(RoomNews::Workers(self.workers()));
                }
                ServerMessage::PeersChanged(changed) => {
                    if changed.list_again {
                        ask_at = Instant::now();
                    }
                    if changed.apply(&mut self.0.workers.borrow_mut()) {
                        tell(RoomNews::Workers(self.workers()));
                    }
                }
                other => self.pass_on(&other),
            }
        }
    }

    fn pass_on(&self, message: &ServerMessage) {
        // Those who no longer listen are forgotten.
        let is_heard = |listener: &mut UnboundedSender<ServerMessage>| {
            listener.unbounded_send(message.clone()).is_ok()
        };
        self.0.listeners.borrow_mut().retain_mut(is_heard);
    }
}
