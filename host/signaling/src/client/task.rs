//! The task that owns the WebSocket: serves it, and reconnects when it is lost.

use super::attempt::{Attempt, attempt};
use super::connection::{HandedOut, RegisteredConnection, Registration, encode};
use super::events::EventSender;
use super::ignored::Ignored;
use super::relay::Relay;
use super::roster::RosterChange;
use super::websocket::Connection;
use super::{Endpoints, PeerIdentity, Servers, SignalingError, SignalingEvent};
use crate::{PING_EVERY, SILENCE_LIMIT, WRITE_DEADLINE};
use futures_util::{SinkExt, StreamExt};
use sleap_rtc_base::backoff::Backoff;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::signaling::{
    CLOSE_REPLACED, ClientMessage, Filters, IceServers, MetadataPatch, PeerInfo, PeersChanged,
    ServerMessage,
};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_util::sync::CancellationToken;

/// The first wait before a reconnect.
const BACKOFF_FIRST: Duration = Duration::from_millis(250);
/// The longest wait. All peers return within ten seconds after a server has restarted.
const BACKOFF_LONGEST: Duration = Duration::from_secs(8);
/// A registration that was held for this long is taken back at once from another program.
const SETTLED: Duration = Duration::from_secs(5);
/// How often a server is pinged where there is another one.
const PING_OFTEN: Duration = Duration::from_millis(1500);
/// How long a server may be silent where there is another one: two pings were not answered.
const SHORT_SILENCE: Duration = Duration::from_millis(3500);
/// The shortest time between two requests for ICE servers, even if their accounts are short-lived.
const ICE_AGAIN_LEAST: Duration = Duration::from_secs(1);
/// How long the closing handshake may take.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

type Answer<T> = oneshot::Sender<Result<T, SignalingError>>;

/// A request from a handle to the task.
#[derive(Debug)]
pub(crate) enum Command {
    Send(Box<ClientMessage>, Answer<()>),
    Update(MetadataPatch),
    Discover(Filters, Option<PeerId>, Answer<ListPage>),
    Watch(Filters, mpsc::Sender<RosterChange>),
    Close,
}

/// One frame of a list.
#[derive(Debug)]
pub(crate) struct ListPage {
    pub(crate) peers: Vec<PeerInfo>,
    /// Where the next page begins.
    pub(crate) next: Option<PeerId>,
}

/// The channels on which the task publishes news.
pub(crate) struct Updates {
    pub(crate) events: EventSender,
    pub(crate) identity: watch::Sender<PeerIdentity>,
    pub(crate) ice: watch::Sender<IceServers>,
    pub(crate) relay: watch::Sender<Option<Relay>>,
    pub(crate) server: watch::Sender<Endpoints>,
}

/// How closely a connection is watched.
#[derive(Debug, Clone, Copy)]
struct Watchfulness {
    ping_every: Duration,
    silence_limit: Duration,
}

impl Watchfulness {
    /// Where there is another server to go to, a silent one is left within seconds.
    fn at(servers: &Servers) -> Self {
        match servers.are_several() {
            false => Self { ping_every: PING_EVERY, silence_limit: SILENCE_LIMIT },
            true => Self { ping_every: PING_OFTEN, silence_limit: SHORT_SILENCE },
        }
    }
}

/// A watched list.
struct WatchedPeers {
    filters: Filters,
    changes: mpsc::Sender<RosterChange>,
}

/// Why the connection is no longer served.
enum Ended {
    /// The owner has closed the client.
    Closed,
    /// The connection failed. Wait at least this long before reconnecting.
    Lost(Duration),
}

pub(crate) struct Task {
    servers: Servers,
    registration: Registration,
    commands: mpsc::Receiver<Command>,
    updates: Updates,
    discovery: Option<Answer<ListPage>>,
    watched: Option<WatchedPeers>,
    /// When to ask for the ICE servers again.
    ice_again: Option<Instant>,
    malformed: Ignored,
    /// Messages for which the owner's queue has no room.
    dropped: Ignored,
}

impl Task {
    pub(crate) fn new(
        servers: Servers,
        registration: Registration,
        commands: mpsc::Receiver<Command>,
        updates: Updates,
    ) -> Self {
        let (discovery, watched, ice_again) = (None, None, None);
        let ignored = || Ignored::new(Instant::now());
        let (malformed, dropped) = (ignored(), ignored());
        Self {
            servers,
            registration,
            commands,
            updates,
            discovery,
            watched,
            ice_again,
            malformed,
            dropped,
        }
    }

    /// Serves until closed or cancelled, then closes the WebSocket.
    pub(crate) async fn run(
        mut self,
        connection: Connection,
        handed_out: HandedOut,
        cancel: CancellationToken,
    ) {
        self.take(handed_out);
        let mut connection = Some(connection);
        cancel.run_until_cancelled(self.serve_forever(&mut connection)).await;
        if let Some(connection) = &mut connection {
            let _ = timeout(CLOSE_DEADLINE, close(connection)).await;
        }
    }

    async fn serve_forever(&mut self, slot: &mut Option<Connection>) {
        while let Some(connection) = slot {
            let Ended::Lost(wait) = self.serve(connection).await else { return };
            *slot = None;
            self.fail_discovery();
            self.publish(SignalingEvent::Lost, 0);
            *slot = self.reconnect(wait).await;
            if let Some(connection) = slot {
                self.watch_again(connection).await;
                self.publish(SignalingEvent::Restored, 0);
            }
        }
    }

    async fn serve(&mut self, connection: &mut Connection) -> Ended {
        let Watchfulness { ping_every, silence_limit } = Watchfulness::at(&self.servers);
        let begun = Instant::now();
        let mut heard = begun;
        let mut ping = interval(ping_every);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let ice_again = self.ice_again;
            let outgoing = tokio::select! {
                command = self.commands.recv() => match command {
                    None | Some(Command::Close) => return Ended::Closed,
                    Some(command) => command,
                },
                incoming = connection.next() => {
                    heard = Instant::now();
                    match incoming {
                        Some(Ok(Message::Text(text))) => {
                            if let Some(answer) = self.receive(&text)
                                && !send(connection, &answer).await
                            {
                                return lost();
                            }
                        }
                        Some(Ok(Message::Close(frame))) => {
                            return closed(frame.as_ref(), begun.elapsed());
                        }
                        Some(Ok(_)) => {}
                        Some(Err(error)) => {
                            tracing::debug!(%error, "the signaling connection failed");
                            return lost();
                        }
                        None => return lost(),
                    }
                    continue;
                }
                _ = ping.tick() => {
                    if !write(connection, Message::Ping(Bytes::new())).await {
                        return lost();
                    }
                    continue;
                }
                () = sleep_until((heard + silence_limit).into()) => return lost(),
                () = sleap_rtc_base::deadline::reached(ice_again) => {
                    self.ice_again = None;
                    if !send(connection, &self.get_ice_servers()).await {
                        return lost();
                    }
                    continue;
                }
            };
            if !self.execute(connection, outgoing).await {
                return lost();
            }
        }
    }

    /// Carries out a handle's command. Returns whether the connection is still up.
    async fn execute(&mut self, connection: &mut Connection, command: Command) -> bool {
        let message = match &command {
            Command::Send(message, _) => encode(message),
            Command::Update(patch) => {
                self.registration.metadata.merge(patch.clone());
                encode(&self.whole_metadata())
            }
            Command::Discover(filters, after, _) => encode(&ClientMessage::DiscoverPeers {
                from_peer_id: self.own_id(),
                filters: filters.clone(),
                limit: None,
                after: after.clone(),
            }),
            Command::Watch(filters, changes) => {
                self.watched =
                    Some(WatchedPeers { filters: filters.clone(), changes: changes.clone() });
                encode(&self.watch_peers(filters))
            }
            Command::Close => return true,
        };
        let result = match message {
            Ok(message) => {
                write(connection, message).await.then_some(()).ok_or(SignalingError::Lost)
            }
            Err(error) => Err(error),
        };
        let stands = !matches!(result, Err(SignalingError::Lost));
        // The caller may have stopped waiting.
        match (command, result) {
            (Command::Send(_, answer), result) => drop(answer.send(result)),
            (Command::Discover(.., answer), Ok(())) => self.discovery = Some(answer),
            (Command::Discover(.., answer), Err(error)) => drop(answer.send(Err(error))),
            (Command::Update(_) | Command::Watch(..) | Command::Close, _) => {}
        }
        stands
    }

    /// Sends the whole metadata, because the Python server drops the tags if it gets only
    /// properties.
    fn whole_metadata(&self) -> ClientMessage {
        let metadata = self.registration.metadata.clone();
        ClientMessage::UpdateMetadata {
            peer_id: self.registration.identity.peer_id.clone(),
            metadata: MetadataPatch {
                tags: Some(metadata.tags),
                properties: Some(metadata.properties),
            },
        }
    }

    /// Handles a frame. Returns the answer to send, if there is one.
    fn receive(&mut self, text: &str) -> Option<ClientMessage> {
        match ServerMessage::decode(text) {
            Ok(ServerMessage::PeerList { peers, next, .. }) if self.discovery.is_some() => {
                if let Some(answer) = self.discovery.take() {
                    drop(answer.send(Ok(ListPage { peers, next })));
                }
            }
            Ok(ServerMessage::Watching { active }) => {
                return active.then(|| self.notify_watcher(RosterChange::Pushed)).flatten();
            }
            Ok(ServerMessage::PeersChanged(changed)) => {
                return self.notify_watcher(RosterChange::Peers(changed));
            }
            Ok(ServerMessage::IceServers(handed_out)) => self.take_ice(handed_out),
            // Of a later version, for a later version.
            Ok(ServerMessage::Unknown) => {}
            Ok(message) => self.publish(SignalingEvent::Message(message), text.len()),
            Err(error) => {
                if let Some(count) = self.malformed.count(Instant::now()) {
                    tracing::warn!(%error, count, "ignored malformed frames from the signaling server");
                }
            }
        }
        None
    }

    fn own_id(&self) -> PeerId {
        self.registration.identity.peer_id.clone()
    }

    fn watch_peers(&self, filters: &Filters) -> ClientMessage {
        ClientMessage::WatchPeers { from_peer_id: self.own_id(), filters: filters.clone() }
    }

    fn get_ice_servers(&self) -> ClientMessage {
        ClientMessage::GetIceServers { from_peer_id: self.own_id() }
    }

    /// Passes a change to the watcher of the list. A watcher that is gone, or does not read, is dropped,
    /// and the returned frame unsubscribes from the server.
    fn notify_watcher(&mut self, change: RosterChange) -> Option<ClientMessage> {
        let sent = self.watched.as_ref().is_some_and(|it| it.changes.try_send(change).is_ok());
        if sent {
            return None;
        }
        self.watched = None;
        Some(ClientMessage::UnwatchPeers { from_peer_id: self.own_id() })
    }

    /// Subscribes again on a new connection. A failed write shows at the next read.
    async fn watch_again(&mut self, connection: &mut Connection) {
        let Some(watched) = &self.watched else { return };
        let again = self.watch_peers(&watched.filters);
        send(connection, &again).await;
        let list_again = PeersChanged { list_again: true, ..PeersChanged::default() };
        // A watcher that is gone is dropped at the next change.
        let _ = self.notify_watcher(RosterChange::Peers(list_again));
    }

    /// Publishes the content of the answer to a registration.
    fn take(&mut self, HandedOut { ice, relay, .. }: HandedOut) {
        self.take_ice(ice);
        let relay = relay.map(|relay| relay.among(&self.servers));
        self.updates.relay.send_if_modified(|newest| {
            let changed = *newest != relay;
            *newest = relay;
            changed
        });
    }

    /// Publishes new ICE servers, and plans the next request at half of their lifetime.
    fn take_ice(&mut self, handed_out: IceServers) {
        let again = handed_out.ice_lifetime_s.map(|s| Duration::from_secs(s) / 2);
        self.ice_again =
            again.and_then(|wait| Instant::now().checked_add(wait.max(ICE_AGAIN_LEAST)));
        self.updates.ice.send_replace(handed_out);
    }

    /// Reconnects, without a time limit, to any server; the one that was lost is tried last. `None` if the
    /// owner closes the client.
    async fn reconnect(&mut self, least: Duration) -> Option<Connection> {
        let mut backoff = Backoff::new(BACKOFF_FIRST, BACKOFF_LONGEST);
        let mut servers = self.servers.after(&self.updates.server.borrow());
        self.while_lost(sleep(least)).await?;
        loop {
            self.while_lost(sleep(backoff.next_wait())).await?;
            let metadata = self.registration.metadata.clone();
            let (order, registration) = (servers.clone(), self.registration.clone());
            let attempt = async move { attempt(&order, registration).await };
            let Attempt { identity, server, opened } = self.while_lost(attempt).await?;
            self.registration.identity = identity.clone();
            self.updates.identity.send_replace(identity);
            match opened {
                Ok(RegisteredConnection { server, mut connection, handed_out }) => {
                    self.take(handed_out);
                    tracing::info!(server = %server.websocket, "registered with the signaling server again");
                    self.updates.server.send_replace(server);
                    if self.registration.metadata != metadata {
                        // The metadata changed during the attempt. A failed write shows at the next
                        // read.
                        if let Ok(frame) = encode(&self.whole_metadata()) {
                            write(&mut connection, frame).await;
                        }
                    }
                    return Some(connection);
                }
                Err(error) => {
                    tracing::warn!(error = %WithCauses(&error), "cannot register again yet; will retry");
                    // One that answers and refuses is tried last, too.
                    servers = server.map_or(servers.clone(), |server| servers.after(&server));
                }
            }
        }
    }

    /// Waits for `work` while answering handles. `None` if the owner closes the client.
    async fn while_lost<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = work.as_mut() => return Some(done),
                command = self.commands.recv() => match command? {
                    Command::Send(_, answer) => drop(answer.send(Err(SignalingError::Lost))),
                    Command::Discover(.., answer) => drop(answer.send(Err(SignalingError::Lost))),
                    Command::Watch(filters, changes) => {
                        self.watched = Some(WatchedPeers { filters, changes });
                    }
                    Command::Update(patch) => self.registration.metadata.merge(patch),
                    Command::Close => return None,
                },
            }
        }
    }

    fn fail_discovery(&mut self) {
        if let Some(answer) = self.discovery.take() {
            drop(answer.send(Err(SignalingError::Lost)));
        }
    }

    /// Passes an event to the owner, or drops it if its sender's share of the queue is full.
    fn publish(&mut self, event: SignalingEvent, size_bytes: usize) {
        if !self.updates.events.send(event, size_bytes)
            && let Some(count) = self.dropped.count(Instant::now())
        {
            tracing::warn!(count, "dropped messages of peers that send more than can be read");
        }
    }
}

/// Whether the message could be sent.
async fn send(connection: &mut Connection, message: &ClientMessage) -> bool {
    match encode(message) {
        Ok(frame) => write(connection, frame).await,
        Err(_) => true,
    }
}

async fn write(connection: &mut Connection, message: Message) -> bool {
    matches!(timeout(WRITE_DEADLINE, connection.send(message)).await, Ok(Ok(())))
}

fn lost() -> Ended {
    tracing::warn!("the connection to the signaling server is lost");
    Ended::Lost(Duration::ZERO)
}

/// The server has closed a connection that was registered for `held`.
fn closed(frame: Option<&CloseFrame>, held: Duration) -> Ended {
    let code = frame.map(|frame| u16::from(frame.code));
    if code != Some(CLOSE_REPLACED) {
        tracing::warn!(?code, "the connection to the signaling server is lost");
        return Ended::Lost(Duration::ZERO);
    }
    tracing::warn!(
        "another program has registered as this peer and takes its place: where a worker's state \
         folder was copied, start one of both with a folder of its own (--state-dir) or as a new \
         worker (--new-room)"
    );
    Ended::Lost(before_return(held))
}

/// How long to wait before the place is taken back from another program. If both took it back at once,
/// they would never stop; so it is the one that has had it for longer, and a thief waits.
fn before_return(held: Duration) -> Duration {
    if held < SETTLED { BACKOFF_LONGEST } else { Duration::ZERO }
}

/// Sends the close frame and waits for the server's: by then the room knows that the peer left.
async fn close(connection: &mut Connection) {
    let frame = CloseFrame { code: CloseCode::Normal, reason: "the peer leaves".into() };
    if connection.close(Some(frame)).await.is_ok() {
        while let Some(Ok(_)) = connection.next().await {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_programs_with_one_identity_the_earlier_one_keeps_its_place() {
        let moment = Duration::from_millis(300);
        assert_eq!(before_return(Duration::from_secs(3600)), Duration::ZERO);
        assert_eq!(before_return(moment), BACKOFF_LONGEST);
        // Each time that the later one returns, the earlier one has had the place for that long.
        assert_eq!(before_return(BACKOFF_LONGEST - moment), Duration::ZERO);
    }
}
