//! What one socket may say, and what is answered: the rules, without the socket.

use crate::filter::Query;
use crate::ice::hand_out;
use crate::rooms::{ConnectionId, Member, Page, Part};
use crate::server::Server;
use crate::server::frame::{Code, Fault, Head, Kind, check_depth, parse};
use crate::server::link::{Dismissal, Link};
use crate::unix_time_s;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use sleap_rtc_protocol::ids::{PeerId, RoomCredentials, RoomId};
use sleap_rtc_protocol::signaling::{
    Filters, MAX_FRAME_BYTES, MetadataPatch, Register, Role, ServerMessage,
};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// Refused registrations after which the socket is closed: each may be a guess at a token.
const MAX_REFUSED_REGISTRATIONS: u32 = 8;

/// Shown to the user by programs that do not read the answer. A close frame holds 123 bytes.
const NO_ACCOUNTS: &str = "this server has no accounts; sleap-rtc 0.0.7 and newer need their own";

/// Bytes of a list's frame beside the peers in it: two ids at most.
const LIST_HEAD_BYTES: usize = 8 * 1024;

/// One socket's side of the conversation.
pub(super) struct Session {
    server: Arc<Server>,
    connection: ConnectionId,
    link: Link,
    address: IpAddr,
    peer: Option<PeerId>,
    abuse: u32,
    refused_registrations: u32,
    /// It speaks of accounts, which are not to be had here.
    wants_accounts: bool,
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
    pub(super) fn new(server: Arc<Server>, link: Link, address: IpAddr) -> Self {
        let connection = server.next_connection();
        Self {
            server,
            connection,
            link,
            address,
            peer: None,
            abuse: 0,
            refused_registrations: 0,
            wants_accounts: false,
        }
    }

    /// Whether the socket has registered.
    pub(super) fn is_registered(&self) -> bool {
        self.peer.is_some()
    }

    /// Why the socket is closed, when it was wrong too often or can never be right.
    pub(super) fn is_over(&self) -> Option<&'static str> {
        let often = self.abuse >= self.server.options.limits.malformed_frames
            || self.refused_registrations >= MAX_REFUSED_REGISTRATIONS;
        match self.wants_accounts {
            true => Some(NO_ACCOUNTS),
            false => often.then_some("too many refused frames"),
        }
    }

    /// Does what a frame asks; returns the answer to its sender, if there is one.
    pub(super) async fn receive(&mut self, text: Utf8Bytes) -> Option<String> {
        match self.obey(text).await {
            Ok(answer) => {
                self.abuse = 0;
                answer
            }
            Err(fault) => {
                self.count(fault.code);
                self.slow_down(fault.code).await;
                Some(fault.frame())
            }
        }
    }

    /// The answer to a binary frame.
    pub(super) fn refuse_binary(&mut self) -> String {
        self.count(Code::InvalidMessage);
        Fault::invalid("frames are JSON in text messages; this one was binary").frame()
    }

    fn count(&mut self, code: Code) {
        self.server.counters.refused.count();
        if code == Code::SenderMismatch {
            self.server.counters.impersonations.count();
        }
        self.abuse += u32::from(code.is_abuse());
        tracing::debug!(peer = ?self.peer, code = code.as_str(), "frame refused");
    }

    /// A guess is answered the later the more of them came from its address. What is right has been
    /// answered already, whoever else guesses.
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

    async fn obey(&mut self, text: Utf8Bytes) -> Result<Option<String>, Fault> {
        check_depth(&text, self.server.options.limits.nesting)?;
        let head: Head = parse(&text)?;
        if head.kind == Kind::Register {
            return self.register(&text).await.map(Some).inspect_err(|_| {
                self.refused_registrations += 1;
            });
        }
        let peer = self.peer.as_ref().ok_or(crate::rooms::RoomError::NotInRoom)?;
        if !head.speaks_as(peer) {
            return Err(Fault::new(
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
                forwarded.map(|()| None).map_err(|fault| Fault { attempt: head.attempt(), ..fault })
            }
            Kind::Register | Kind::Unknown => {
                Err(Fault::new(Code::UnknownMessageType, "this type of frame is not known here"))
            }
        }
    }

    async fn register(&mut self, text: &str) -> Result<String, Fault> {
        let registration = parse(text).map_err(|fault| self.explained(text, fault))?;
        let Register { peer_id, room_id, token, id_token, role, metadata } = registration;
        let now_s = unix_time_s();
        if self.server.signer.verify(&id_token, now_s)? != peer_id {
            return Err(Fault::new(
                Code::IdentityRefused,
                "the identity token is another peer's; register with the one from sign-in",
            ));
        }
        if self.peer.as_ref().is_some_and(|present| *present != peer_id) {
            return Err(Fault::new(
                Code::SenderMismatch,
                "this socket is another peer's already; open a second one",
            ));
        }
        let credentials = RoomCredentials { room_id: room_id.clone(), token: token.clone() };
        if !self.server.store.opens(credentials, now_s).await? {
            return Err(Fault::new(
                Code::RoomNotFound,
                "no such room, or the token does not open it",
            ));
        }
        if role == Role::Worker {
            self.keep(room_id.clone()).await?;
        }
        let member = Member {
            connection: self.connection,
            room: room_id.clone(),
            role,
            metadata,
            connected_at_s: now_s,
            link: self.link.clone(),
        };
        let replaced = self.server.rooms().join(peer_id.clone(), member)?;
        if let Some(replaced) = replaced.filter(|old| old.connection != self.connection) {
            replaced.link.dismiss(Dismissal::Replaced);
        }
        self.server.counters.registrations.count();
        tracing::info!(peer = %peer_id, room = %room_id, role = role.as_str(), "registered");
        self.peer = Some(peer_id.clone());
        let ice = hand_out(&self.server.options.ice, &peer_id, now_s);
        encode(&ServerMessage::RegisteredAuth { room_id, token, peer_id, ice })
    }

    /// The fault of a registration. The Python program's later versions prove who they are by other
    /// means than an identity token.
    fn explained(&mut self, text: &str, fault: Fault) -> Fault {
        let keys: HashMap<String, IgnoredAny> = parse(text).unwrap_or_default();
        if keys.contains_key("peer_id") && !keys.contains_key("id_token") {
            self.wants_accounts = true;
            if self.server.addresses.is_told_of_accounts(self.address, Instant::now()) {
                tracing::info!(
                    address = %self.address,
                    "a peer that wants accounts (Python sleap-rtc 0.0.7 or newer) was refused"
                );
            }
            return Fault::wants_accounts();
        }
        fault
    }

    fn discover(&self, peer: &PeerId, text: &str) -> Result<String, Fault> {
        let Discover { filters, limit, after } = parse(text)?;
        if limit == Some(0) {
            return Err(Fault::invalid("a discovery's limit is 1 at least"));
        }
        let query = self.query(peer, filters)?;
        let part = Part {
            after,
            peers: limit.unwrap_or(usize::MAX),
            bytes: MAX_FRAME_BYTES - LIST_HEAD_BYTES,
        };
        let page = self.server.rooms().discover(peer, self.connection, query, part)?;
        Ok(peer_list(peer, &page))
    }

    /// What a discovery or a watch is about: peers of the asker's own room, always.
    fn query(&self, peer: &PeerId, filters: Filters) -> Result<Query, Fault> {
        if let Some(wanted) = &filters.room_id {
            let rooms = self.server.rooms();
            if rooms.member(peer, self.connection).map(|member| &member.room) != Some(wanted) {
                return Err(Fault::new(Code::NotInRoom, "discovery reaches your own room only"));
            }
        }
        Ok(Query::new(filters)?)
    }

    fn watch(&self, peer: &PeerId, text: &str) -> Result<String, Fault> {
        let Watch { filters } = parse(text)?;
        let query = self.query(peer, filters)?;
        self.server.rooms().watch(peer, self.connection, Some(query))?;
        encode(&ServerMessage::Watching { active: true })
    }

    fn unwatch(&self, peer: &PeerId) -> Result<String, Fault> {
        self.server.rooms().watch(peer, self.connection, None)?;
        self.link.forget_news();
        encode(&ServerMessage::Watching { active: false })
    }

    fn ice_servers(&self, peer: &PeerId) -> Result<String, Fault> {
        let handed_out = hand_out(&self.server.options.ice, peer, unix_time_s());
        encode(&ServerMessage::IceServers(handed_out))
    }

    fn update(&self, peer: &PeerId, text: &str) -> Result<String, Fault> {
        let Update { metadata } = parse(text)?;
        let metadata = self.server.rooms().update(peer, self.connection, metadata)?;
        let status = metadata.properties.get("status").and_then(|status| status.as_str());
        tracing::debug!(%peer, status, "metadata updated");
        encode(&ServerMessage::MetadataUpdated { peer_id: peer.clone(), metadata })
    }

    fn forward(&self, peer: &PeerId, head: &Head, text: Utf8Bytes) -> Result<(), Fault> {
        let target = head.target()?;
        let frame = head.signed(text, peer)?;
        let link = self.server.rooms().route(peer, self.connection, target)?;
        let link = link.ok_or_else(|| {
            Fault::new(Code::PeerNotFound, format!("{target} is not in your room"))
        })?;
        if head.kind == Kind::Quit && !self.server.rooms().may_send_away(peer, target) {
            return Err(Fault::invalid("only a worker sends a client away"));
        }
        if !link.deliver(frame, &self.server.options.limits) {
            return Err(Fault::new(
                Code::DeliveryFailed,
                format!("{target} does not read what it is sent"),
            ));
        }
        self.server.counters.forwarded.count();
        tracing::debug!(%peer, %target, kind = ?head.kind, "forwarded");
        Ok(())
    }

    /// The end of the socket: the peer leaves its room, unless another socket has taken it over.
    pub(super) async fn end(self) {
        let Some(peer) = &self.peer else { return };
        let left = self.server.rooms().leave(peer, self.connection);
        let Some(member) = left else { return };
        tracing::info!(%peer, room = %member.room, "left");
        if member.role == Role::Worker && self.keep(member.room).await.is_err() {
            tracing::warn!(%peer, "the life of its room was not prolonged");
        }
    }

    async fn keep(&self, room: RoomId) -> Result<(), Fault> {
        Ok(self.server.store.keep(BTreeSet::from([room]), unix_time_s()).await?)
    }
}

fn encode(message: &ServerMessage) -> Result<String, Fault> {
    serde_json::to_string(message).map_err(|error| Fault::new(Code::Internal, error.to_string()))
}

/// The frame `peer_list`, put together from what is written already.
fn peer_list(asker: &PeerId, page: &Page) -> String {
    let (asker, count) = (json!(asker.as_str()), page.count);
    let next = page.next.as_ref().map(|next| format!(r#","next":{}"#, json!(next.as_str())));
    let next = next.unwrap_or_default();
    let head =
        format!(r#"{{"type":"peer_list","to_peer_id":{asker},"count":{count}{next},"peers":["#);
    // Copied once: a list may be long.
    let mut frame = String::with_capacity(head.len() + page.peers.len() + 2);
    frame.extend([head.as_str(), &page.peers, "]}"]);
    frame
}
