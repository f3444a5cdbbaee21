//! The tasks of a server on its connection to the broker.

use super::nats::{ConnectFailure, Nats};
use super::options::Brokers;
use super::others::{BEAT_EVERY, EXPIRY};
use super::wire::{self, Beat, News, PIECE_BYTES, Presence, ServerId};
use super::{Cluster, SharedStore, ToPublish, apply};
use crate::server::{Server, relay};
use crate::store::{Store, StoreError};
use async_nats::{Message, SubscribeError, Subscriber};
use futures_util::StreamExt;
use sleap_rtc_base::clock::now_s;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_protocol::ids::PeerId;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// The beginning of all subjects. The number changes with what the messages mean.
const SUBJECTS: &str = "sleap-rtc.1";
/// How long the broker may take to be there when the server starts.
const START_LIMIT: Duration = Duration::from_secs(30);
/// The wait before another attempt at the start.
const START_WAIT: Duration = Duration::from_secs(1);
/// Peers of a list that are read at a time, under one lock.
const PEERS_AT_ONCE: usize = 256;
/// The shortest time between two lists.
const LIST_PAUSE: Duration = Duration::from_millis(500);
/// How long the goodbye to the other servers may take.
const GOODBYE_LIMIT: Duration = Duration::from_secs(1);
/// The time between two warnings about a store that does not open.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// How long a store that does not open is tried.
const OPEN_LIMIT: Duration = Duration::from_secs(5);

/// Why a server cannot take part in its cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No broker answers.
    #[error(
        "no broker of the cluster answers at {brokers}; check `cluster` under [signaling], and that nats-server runs"
    )]
    Connect {
        /// Where.
        brokers: String,
        /// Why not.
        #[source]
        source: ConnectFailure,
    },
    /// A broker refuses this server.
    #[error(
        "a broker of the cluster at {brokers} refuses this server: {why}; check `cluster_token_file`, or the user in `cluster`, under [signaling]"
    )]
    Refused {
        /// Where.
        brokers: String,
        /// The broker's words.
        why: String,
    },
    /// The connection takes no subscription.
    #[error(
        "this server cannot subscribe to the messages of the others; check the broker, and start it again"
    )]
    Subscribe(#[from] SubscribeError),
    /// The shared state.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Connects, and waits for a broker that starts at the same time.
async fn connect(brokers: &Brokers) -> Result<Nats, ClusterError> {
    let start = Instant::now();
    loop {
        match Nats::connect(brokers).await {
            Ok(nats) => {
                tracing::info!(%brokers, "connected to the broker of the cluster");
                return Ok(nats);
            }
            // Time does not help.
            Err(ConnectFailure::Refused(why)) => {
                return Err(ClusterError::Refused { brokers: brokers.to_string(), why });
            }
            Err(source) if start.elapsed() > START_LIMIT => {
                return Err(ClusterError::Connect { brokers: brokers.to_string(), source });
            }
            Err(error) => {
                tracing::warn!(%brokers, error = %WithCauses(&error), "no broker answers yet; will retry");
                sleep(START_WAIT).await;
            }
        }
    }
}

/// Opens the shared store. A broker that has just started does not answer at first, and it refuses while
/// another server makes the same buckets.
async fn open(nats: &Nats, store: &Store) -> Result<SharedStore, StoreError> {
    let start = Instant::now();
    loop {
        match SharedStore::open(nats, store).await {
            Err(error) if error.may_pass() && start.elapsed() < OPEN_LIMIT => {
                tracing::warn!(error = %WithCauses(&error), "the shared store does not open yet; will retry");
                sleep(START_WAIT).await;
            }
            opened => return opened,
        }
    }
}

/// Publishes what comes out of the queue. Drops what waits when the broker is lost or returns: it is
/// outdated, and lists repair what was lost.
async fn publish(cluster: &Cluster, mut queue: mpsc::Receiver<ToPublish>) {
    let mut changes = cluster.nats.changes();
    loop {
        tokio::select! {
            biased;
            changed = changes.changed() => match changed {
                Ok(()) => while queue.try_recv().is_ok() {},
                Err(_) => return,
            },
            () = pass_on(cluster, &mut queue) => return,
        }
    }
}

async fn pass_on(cluster: &Cluster, queue: &mut mpsc::Receiver<ToPublish>) {
    let own = news_of(&cluster.id.to_string());
    while let Some(ToPublish { to, bytes }) = queue.recv().await {
        let subject = to.map_or_else(|| own.clone(), orders_to);
        if cluster.is_connected() {
            cluster.nats.publish(subject, bytes).await;
        }
    }
}

/// Gives a broker that returns what it has lost. Runs until the connection is dropped.
async fn restore(server: &Server, cluster: &Cluster) {
    let mut changes = cluster.nats.changes();
    let mut warned: Option<Instant> = None;
    while changes.changed().await.is_ok() {
        while cluster.is_connected() {
            match server.state.restore(now_s()).await {
                Ok(()) => break,
                Err(error) if error.may_pass() => {
                    if warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
                        warned = Some(Instant::now());
                        tracing::warn!(error = %WithCauses(&error), "the shared store does not open yet; will retry");
                    }
                    sleep(START_WAIT).await;
                }
                Err(error) => {
                    tracing::error!(error = %WithCauses(&error), "cannot restore what the broker has lost");
                    break;
                }
            }
        }
    }
}

fn news_of(server: &str) -> String {
    format!("{SUBJECTS}.news.{server}")
}

fn orders_to(server: ServerId) -> String {
    format!("{SUBJECTS}.orders.{server}")
}

/// The subscriptions of a server.
struct Subscriptions {
    news: Subscriber,
    orders: Subscriber,
}

/// Takes part in the cluster until the server stops, then says goodbye.
pub(crate) async fn run(
    server: Arc<Server>,
    cluster: Arc<Cluster>,
    queue: mpsc::Receiver<ToPublish>,
) -> Result<(), ClusterError> {
    let (nats, own) = (&cluster.nats, cluster.id);
    let (news, orders) =
        tokio::try_join!(nats.subscribe(news_of("*")), nats.subscribe(orders_to(own)))?;
    let subscriptions = Subscriptions { news, orders };
    tracing::info!(server = %own, "one server of a cluster");
    let working = async {
        tokio::join!(
            publish(&cluster, queue),
            receive(&server, &cluster, subscriptions),
            beat(&server, &cluster),
            list_when_asked(&server, &cluster),
            restore(&server, &cluster),
        )
    };
    tokio::select! {
        _ = working => {}
        () = server.shutdown.cancelled() => {}
    }
    let goodbye = async {
        nats.publish(news_of(&own.to_string()), wire::encode(&News::Gone)).await;
        nats.flush().await;
    };
    // The others notice the silence, too.
    let _ = timeout(GOODBYE_LIMIT, goodbye).await;
    Ok(())
}

async fn receive(server: &Arc<Server>, cluster: &Arc<Cluster>, mut from: Subscriptions) {
    loop {
        tokio::select! {
            Some(Message { subject, payload, .. }) = from.news.next() => {
                let sender = subject.rsplit('.').next().unwrap_or_default();
                match (sender.parse::<ServerId>(), wire::decode(&payload)) {
                    (Ok(sender), Ok(news)) if sender != cluster.id => {
                        apply::news(server, cluster, sender, news);
                    }
                    (Ok(_), Ok(_)) => {}
                    (Err(error), _) | (_, Err(error)) => cluster.refuse(&error),
                }
            }
            Some(message) = from.orders.next() => match wire::decode_order(&message.payload) {
                Ok(order) => apply::order(server, cluster, order),
                Err(error) => cluster.refuse(&error),
            },
            else => return,
        }
        // One that sends without a pause must not keep others from this thread.
        tokio::task::coop::consume_budget().await;
    }
}

/// Says again and again that this server is there, and forgets the others that do not.
async fn beat(server: &Arc<Server>, cluster: &Arc<Cluster>) {
    let mut ticks = interval(BEAT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = Instant::now();
    let mut review_due = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = cluster.beat_wanted.notified() => {}
        }
        let now = Instant::now();
        if now.duration_since(last) > EXPIRY / 2 {
            cluster.others().heard_all(now);
        }
        last = now;
        let gone = cluster.others().expire(now);
        for (other, ledger) in gone {
            tracing::warn!(server = %other, peers = ledger.len(), "another server of the cluster is silent");
            apply::forget(server, other, ledger.peers());
            review_due = Some(now + relay::GRACE);
        }
        if !cluster.is_connected() {
            // Nobody knows who is registered elsewhere, so nobody is cut off.
            review_due = review_due.map(|_| now + relay::GRACE);
        } else if review_due.is_some_and(|due| due <= now) {
            relay::review_all(server);
            review_due = None;
        }
        let mailboxes = server.mailboxes().numbers();
        let digest = cluster.own().digest();
        cluster.tell(&News::Beat(Beat { digest, mailboxes }));
    }
}

async fn list_when_asked(server: &Arc<Server>, cluster: &Arc<Cluster>) {
    loop {
        cluster.list_wanted.notified().await;
        list(server, cluster).await;
        sleep(LIST_PAUSE).await;
    }
}

/// Lists all peers that are registered here.
async fn list(server: &Server, cluster: &Cluster) {
    let all: Vec<PeerId> = cluster.own().peers().map(|(peer, _)| peer.clone()).collect();
    say(cluster, &News::ListBegins).await;
    for some in all.chunks(PEERS_AT_ONCE) {
        let present: Vec<Presence> = {
            let rooms = server.rooms();
            let own = |peer: &PeerId| {
                let member = rooms.present(peer).filter(|member| member.link.is_here())?;
                Some(Presence::new(peer, member))
            };
            some.iter().filter_map(own).collect()
        };
        for peers in pieces(present) {
            say(cluster, &News::Here { peers }).await;
        }
    }
    say(cluster, &News::ListEnds).await;
    tracing::debug!(peers = all.len(), "listed the peers of this server");
}

/// Parts that fit into one message each.
fn pieces(peers: Vec<Presence>) -> Vec<Vec<Presence>> {
    let (mut pieces, mut piece, mut bytes) = (Vec::new(), Vec::new(), 0);
    for presence in peers {
        bytes += serde_json::to_string(&presence).unwrap_or_default().len();
        piece.push(presence);
        if bytes > PIECE_BYTES {
            pieces.push(std::mem::take(&mut piece));
            bytes = 0;
        }
    }
    pieces.extend((!piece.is_empty()).then_some(piece));
    pieces
}

/// Waits for a place in the queue, unlike news of a single peer.
async fn say(cluster: &Cluster, news: &News) {
    let _ = cluster.outgoing.send(ToPublish { to: None, bytes: wire::encode(news) }).await;
}

impl Cluster {
    /// Connects to the broker. Returns this server's part in the cluster, its queue, and the shared state,
    /// which begins with `store` if there is none yet.
    pub(crate) async fn join(
        brokers: &Brokers,
        store: &Store,
    ) -> Result<(Arc<Self>, mpsc::Receiver<ToPublish>, Box<SharedStore>), ClusterError> {
        let nats = connect(brokers).await?;
        let shared = open(&nats, store).await?;
        let (cluster, queue) = Self::new(nats);
        Ok((cluster, queue, Box::new(shared)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sleap_rtc_protocol::ids::RoomId;
    use sleap_rtc_protocol::signaling::{Metadata, Role};

    #[test]
    fn a_list_of_any_peers_fits_into_its_messages() {
        let presence = |n: usize| {
            let properties = serde_json::json!({ "text": "x".repeat(n * 1000) });
            let properties = properties.as_object().cloned().unwrap();
            Presence {
                peer: PeerId::new(format!("p{n}")).unwrap(),
                room: RoomId::new("r").unwrap(),
                role: Role::Worker,
                metadata: Metadata { tags: Vec::new(), properties },
                since_ms: 1,
                revision: 0,
            }
        };
        let all: Vec<Presence> = (0..400).map(|n| presence(n % 16)).collect();
        let pieces = pieces(all.clone());
        assert_eq!(pieces.concat(), all);
        for peers in pieces {
            assert!(wire::decode(&wire::encode(&News::Here { peers })).is_ok());
        }
    }
}
