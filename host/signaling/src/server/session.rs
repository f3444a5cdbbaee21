//! The rules of one socket's conversation, without the socket: the effect of each frame, and its
//! answer.

use crate::filter::Query;
use crate::ice::hand_out;
use crate::rooms::{ConnectionId, Page, PageRequest, Registrant};
use crate::server::Server;
use crate::server::frame::{Code, FrameRefusal, Head, Kind, check_depth, parse};
use crate::server::link::{CloseReason, PeerLink, SocketLink};
use crate::server::relay::{self, Whose};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use sleap_rtc_base::clock::{now_ms, now_s};
use sleap_rtc_protocol::ids::{AddressTag, PeerId, RoomCredentials, RoomId};
use sleap_rtc_protocol::signaling::{
    Filters, MAX_FRAME_BYTES, Metadata, MetadataPatch, Register, RelayOffer, Role, ServerMessage,
};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tracing::Span;

/// The socket is closed after this many refused registrations, because each may be a guess at a
/// token.
const MAX_REFUSED_REGISTRATIONS: u32 = 8;

/// Programs that do not read the answer show this to their user. A close frame holds 123 bytes.
const NO_ACCOUNTS: &str = "this server has no accounts; sleap-rtc 0.0.7 and newer need their own";

/// The most bytes of a `peer_list` frame besides the list itself: at most two ids.
const LIST_HEAD_BYTES: usize = 8 * 1024;

/// The conversation with one socket.
pub(crate) struct Session {
    server: Arc<Server>,
    connection: ConnectionId,
    link: SocketLink,
    address: IpAddr,
    /// The pseudonym of its address for the workers of the room.
    address_tag: Option<AddressTag>,
    peer: Option<PeerId>,
    abuse: u32,
    refused_registrations: u32,
    /// It uses accounts, which this server does not have.
    wants_accounts: bool,
    /// The peer has closed the socket, so it has left on purpose.
    leaves: bool,
}

#[derive(Deserialize)]
struct Discover {
    #[serde(default)]
    filters: Filters,
    #[serde(default)]
    limit: Option<usize>,
    #[serde(default)]
    after: Option<PeerId>,
}

#[derive(Deserialize)]
struct Watch {
    #[serde(default)]
    filters: Filters,
}

#[derive(Deserialize)]
struct Update {
    metadata: MetadataPatch,
}

impl Session {
    pub(crate) fn new(server: Arc<Server>, link: SocketLink, address: IpAddr) -> Self {
        let connection = server.next_connection();
        Self {
            server,
            connection,
            link,
            address,
            address_tag: None,
            peer: None,
            abuse: 0,
            refused_registrations: 0,
            wants_accounts: false,
            leaves: false,
        }
    }

    /// The peer closes the socket: it leaves on purpose, and is not just lost.
    pub(crate) fn leave(&mut self) {
        self.leaves = true;
    }

    /// Whether the socket has registered.
    pub(crate) fn is_registered(&self) -> bool {
        self.peer.is_some()
    }

    /// Why the socket must be closed: after too many bad frames, or if its peer can never register.
    pub(crate) fn is_over(&self) -> Option<&'static str> {
        let often = self.abuse >= self.server.options.limits.malformed_frames
            || self.refused_registrations >= MAX_REFUSED_REGISTRATIONS;
        match self.wants_accounts {
            true => Some(NO_ACCOUNTS),
            false => often.then_some("too many refused frames"),
        }
    }

    /// Handles a frame. Returns the answer to its sender, if there is one.
    pub(crate) async fn receive(&mut self, text: Utf8Bytes) -> Option<String> {
        match self.handle(text).await {
            Ok(answer) => {
                self.abuse = 0;
                answer
            }
            Err(error) => {
                self.count(error.code);
                self.slow_down(error.code).await;
                Some(error.frame())
            }
        }
    }

    /// The answer to a binary frame.
    pub(crate) fn refuse_binary(&mut self) -> String {
        self.count(Code::InvalidMessage);
        FrameRefusal::invalid("frames are JSON in text messages; this one was binary").frame()
    }

    fn count(&mut self, code: Code) {
        self.server.counters.refused.count();
        if code == Code::SenderMismatch {
            self.server.counters.impersonations.count();
        }
        self.abuse += u32::from(code.is_abuse());
        tracing::debug!(code = code.as_str(), "frame refused");
    }

    /// Delays the answer to a wrong token, longer for each guess from the same address. A correct
    /// token is never delayed.
    async fn slow_down(&mut self, code: Code) {
        if !matches!(code, Code::RoomNotFound | Code::IdentityRefused) {
            return;
        }
        self.server.counters.failures.count();
        match self.server.addresses.failed(self.address, Instant::now()) {
            Some(wait) => tokio::time::sleep(wait).await,
            None => self.refused_registrations = MAX_REFUSED_REGISTRATIONS,
        }
    }

    async fn handle(&mut self, text: Utf8Bytes) -> Result<Option<String>, FrameRefusal> {
        check_depth(&text, self.server.options.limits.nesting)?;
        let head: Head = parse(&text)?;
        if head.kind == Kind::Register {
            // Boxed, because a socket registers once and its task lives for days.
            let registered = Box::pin(self.register(&text)).await;
            return registered.map(Some).inspect_err(|_| self.refused_registrations += 1);
        }
        let peer = self.peer.as_ref().ok_or(crate::rooms::RoomError::NotInRoom)?;
        if !head.speaks_as(peer) {
            return Err(FrameRefusal::new(
                Code::SenderMismatch,
                format!("this socket speaks as {peer} only"),
            ));
        }
        match head.kind {
            Kind::DiscoverPeers => self.discover(peer, &text).map(Some),
            Kind::WatchPeers => self.watch(peer, &text).map(Some),
            Kind::UnwatchPeers => self.unwatch(peer).map(Some),
            Kind::GetIceServers => self.ice_servers(peer).map(Some),
            Kind::UpdateMetadata => self.update(peer, &text).map(Some),
            Kind::Offer
            | Kind::Answer
            | Kind::Candidate
            | Kind::PeerMessage
            | Kind::Error
            | Kind::Quit => {
                let forwarded = self.forward(peer, &head, text);
                forwarded
                    .map(|()| None)
                    .map_err(|error| FrameRefusal { attempt: head.attempt(), ..error })
            }
            Kind::Register | Kind::Unknown => Err(FrameRefusal::new(
                Code::UnknownMessageType,
                "this type of frame is not known here",
            )),
        }
    }

    async fn register(&mut self, text: &str) -> Result<String, FrameRefusal> {
        let registration = parse(text).map_err(|error| self.explained(text, error))?;
        let Register { peer_id, room_id, token, id_token, role, metadata } = registration;
        let now_s = now_s();
        if self.server.signer.verify(&id_token, now_s)? != peer_id {
            return Err(FrameRefusal::new(
                Code::IdentityRefused,
                "the identity token belongs to another peer; register with the one from sign-in",
            ));
        }
        if self.peer.as_ref().is_some_and(|present| *present != peer_id) {
            return Err(FrameRefusal::new(
                Code::SenderMismatch,
                "this socket already belongs to another peer; open a second one",
            ));
        }
        let credentials = RoomCredentials { room_id: room_id.clone(), token: token.clone() };
        if !self.server.state.opens(credentials, now_s).await? {
            return Err(FrameRefusal::new(
                Code::RoomNotFound,
                "no such room, or the token does not open it",
            ));
        }
        if role == Role::Worker {
            self.extend_room(room_id.clone()).await?;
        }
        let replaced = self.join(peer_id.clone(), room_id.clone(), role, metadata)?;
        if let Some(old) = &replaced {
            relay::review(&self.server, &old.room, Whose::Peer(&peer_id));
        }
        if let Some(replaced) = replaced.filter(|old| old.connection != self.connection) {
            replaced.link.request_close(CloseReason::Replaced);
        }
        self.server.counters.registrations.count();
        Span::current().record("peer", peer_id.as_str()).record("room", room_id.as_str());
        tracing::info!(role = role.as_str(), "registered");
        self.peer = Some(peer_id.clone());
        self.address_tag = self.server.addresses.tag(self.address, &room_id);
        let ice = hand_out(&self.server.options.ice, &peer_id, now_s);
        let relay = self.relay_offer(&peer_id, &room_id)?;
        let page = self.server.has_page();
        encode(&ServerMessage::RegisteredAuth { room_id, token, peer_id, ice, relay, page })
    }

    /// Puts the peer into its room. Returns the presence that it replaces.
    fn join(
        &self,
        peer: PeerId,
        room: RoomId,
        role: Role,
        metadata: Metadata,
    ) -> Result<Option<Registrant<PeerLink>>, FrameRefusal> {
        let (connection, link) = (self.connection, PeerLink::Here(self.link.clone()));
        let mut rooms = self.server.rooms();
        let before_ms = rooms.present(&peer).map_or(0, |before| before.since_ms);
        let since_ms = now_ms().max(before_ms.saturating_add(1));
        let member = Registrant { connection, room, role, metadata, since_ms, revision: 0, link };
        let announced = self.server.cluster.as_ref().map(|_| member.clone());
        let replaced = rooms.join(peer.clone(), member)?;
        drop(rooms);
        if let Some((cluster, member)) = self.server.cluster.as_ref().zip(announced) {
            cluster.here(&peer, &member);
        }
        Ok(replaced)
    }

    fn relay_offer(
        &self,
        peer: &PeerId,
        room: &RoomId,
    ) -> Result<Option<RelayOffer>, FrameRefusal> {
        if self.server.relay.is_none() {
            return Ok(None);
        }
        let token = self.server.signer.sign_relay(peer, room)?;
        let address_discovery = self.server.address_discovery.is_some();
        Ok(Some(RelayOffer { token, address_discovery }))
    }

    /// The error of a registration. Later versions of the Python program authenticate by other
    /// means than an identity token.
    fn explained(&mut self, text: &str, error: FrameRefusal) -> FrameRefusal {
        let keys: HashMap<String, IgnoredAny> = parse(text).unwrap_or_default();
        let is_new = self.peer.is_none() && keys.contains_key("peer_id");
        if is_new && !keys.contains_key("id_token") {
            self.wants_accounts = true;
            if self.server.addresses.should_log_accounts(self.address, Instant::now()) {
                tracing::info!(
                    address = %self.address,
                    "a peer that wants accounts (Python sleap-rtc 0.0.7 or newer) was refused"
                );
            }
            return FrameRefusal::wants_accounts();
        }
        error
    }

    fn discover(&self, peer: &PeerId, text: &str) -> Result<String, FrameRefusal> {
        let Discover { filters, limit, after } = parse(text)?;
        if limit == Some(0) {
            return Err(FrameRefusal::invalid("a discovery's limit is 1 at least"));
        }
        let query = self.query(peer, filters)?;
        let part = PageRequest {
            after,
            peers: limit.unwrap_or(usize::MAX),
            bytes: MAX_FRAME_BYTES - LIST_HEAD_BYTES,
        };
        let page = self.server.rooms().discover(peer, self.connection, query, part)?;
        Ok(peer_list(peer, &page))
    }

    /// The query of a discovery or a watch, always limited to the requester's own room.
    fn query(&self, peer: &PeerId, filters: Filters) -> Result<Query, FrameRefusal> {
        if let Some(wanted) = &filters.room_id {
            let rooms = self.server.rooms();
            if rooms.member(peer, self.connection).map(|member| &member.room) != Some(wanted) {
                return Err(FrameRefusal::new(
                    Code::NotInRoom,
                    "discovery reaches your own room only",
                ));
            }
        }
        Ok(Query::new(filters)?)
    }

    fn watch(&self, peer: &PeerId, text: &str) -> Result<String, FrameRefusal> {
        let Watch { filters } = parse(text)?;
        let query = self.query(peer, filters)?;
        self.server.rooms().watch(peer, self.connection, Some(query))?;
        encode(&ServerMessage::Watching { active: true })
    }

    fn unwatch(&self, peer: &PeerId) -> Result<String, FrameRefusal> {
        self.server.rooms().watch(peer, self.connection, None)?;
        self.link.drop_pending_changes();
        encode(&ServerMessage::Watching { active: false })
    }

    fn ice_servers(&self, peer: &PeerId) -> Result<String, FrameRefusal> {
        let handed_out = hand_out(&self.server.options.ice, peer, now_s());
        encode(&ServerMessage::IceServers(handed_out))
    }

    fn update(&self, peer: &PeerId, text: &str) -> Result<String, FrameRefusal> {
        let Update { metadata } = parse(text)?;
        let (metadata, changed) = {
            let mut rooms = self.server.rooms();
            let metadata = rooms.update(peer, self.connection, metadata)?;
            (metadata, rooms.member(peer, self.connection).cloned())
        };
        if let Some(changed) = changed {
            relay::review(&self.server, &changed.room, Whose::Peer(peer));
            if let Some(cluster) = &self.server.cluster {
                cluster.here(peer, &changed);
            }
        }
        let status = metadata.properties.get("status").and_then(|status| status.as_str());
        tracing::debug!(status, "metadata updated");
        encode(&ServerMessage::MetadataUpdated { peer_id: peer.clone(), metadata })
    }

    fn forward(&self, peer: &PeerId, head: &Head, text: Utf8Bytes) -> Result<(), FrameRefusal> {
        let target = head.target()?;
        let (link, is_worker) = {
            let rooms = self.server.rooms();
            let target_role = rooms.present(target).map(|member| member.role);
            (rooms.route(peer, self.connection, target)?, target_role == Some(Role::Worker))
        };
        let tag = self.address_tag.as_ref().filter(|_| is_worker && head.asks_a_worker());
        let frame = head.signed(text, peer, tag)?;
        let link = link.ok_or_else(|| {
            FrameRefusal::new(Code::PeerNotFound, format!("{target} is not in your room"))
        })?;
        if head.kind == Kind::Quit && !self.server.rooms().may_send_away(peer, target) {
            return Err(FrameRefusal::invalid("only a worker sends a client away"));
        }
        if !link.deliver(peer, frame, &self.server.options.limits) {
            return Err(match &link {
                PeerLink::Here(_) => FrameRefusal::not_read(target),
                PeerLink::Elsewhere(_) => {
                    let why = format!("the server of {target} cannot be reached now");
                    FrameRefusal::new(Code::DeliveryFailed, why)
                }
            });
        }
        self.server.counters.forwarded.count();
        tracing::debug!(%target, kind = ?head.kind, "forwarded");
        Ok(())
    }

    /// Ends the conversation: the peer leaves its room, unless another socket has taken over its
    /// identity.
    pub(crate) async fn end(self) {
        let Some(peer) = &self.peer else { return };
        let left = self.server.rooms().leave(peer, self.connection);
        let Some(member) = left else { return };
        tracing::info!("left");
        if let Some(cluster) = &self.server.cluster {
            cluster.left(peer, member.since_ms, self.leaves);
        }
        if self.leaves {
            relay::review(&self.server, &member.room, Whose::Peer(peer));
        } else {
            relay::review_later(&self.server, member.room.clone(), peer.clone());
        }
        if member.role == Role::Worker && self.extend_room(member.room).await.is_err() {
            tracing::warn!("the expiry of the worker's room could not be moved");
        }
    }

    async fn extend_room(&self, room: RoomId) -> Result<(), FrameRefusal> {
        Ok(self.server.state.extend(BTreeSet::from([room]), now_s()).await?)
    }
}

fn encode(message: &ServerMessage) -> Result<String, FrameRefusal> {
    serde_json::to_string(message)
        .map_err(|error| FrameRefusal::new(Code::Internal, error.to_string()))
}

/// The frame `peer_list`, assembled from serialized peers.
fn peer_list(asker: &PeerId, page: &Page) -> String {
    let (asker, count) = (json!(asker.as_str()), page.count);
    let next = page.next.as_ref().map(|next| format!(r#","next":{}"#, json!(next.as_str())));
    let next = next.unwrap_or_default();
    let head =
        format!(r#"{{"type":"peer_list","to_peer_id":{asker},"count":{count}{next},"peers":["#);
    // A single allocation, because the list may be long.
    let mut frame = String::with_capacity(head.len() + page.peers.len() + 2);
    frame.extend([head.as_str(), &page.peers, "]}"]);
    frame
}
