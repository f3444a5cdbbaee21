//! The measurements themselves.

use super::SignalingOptions;
use super::peer::{PAYLOAD_BYTES, Peer, PeerIdentity, frame_between};
use super::process::ServerProcess;
use super::table::Table;
use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use sleap_rtc_protocol::ids::RoomCredentials;
use sleap_rtc_protocol::signaling::{Metadata, Role};
use sleap_rtc_signaling::client::{Endpoints, HttpApi, SignalingClient, SignalingEvent};
use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Requests under way at the same time.
const AT_ONCE: usize = 64;
/// Peers in one room, below the room's limit.
pub(super) const ROOM: usize = 1000;
/// Pairs that exchange messages.
const PAIRS: usize = 100;
/// How long the server is down.
const DOWN: Duration = Duration::from_secs(2);
/// How long all peers may take to return.
const RETURN_DEADLINE: Duration = Duration::from_secs(60);

/// Generates load on one server.
pub struct Load {
    pub(super) server: SocketAddr,
    next_number: Cell<usize>,
}

impl Load {
    pub fn new(server: SocketAddr) -> Self {
        Self::numbered(server, 0)
    }

    /// The numbers of its peers, and with them their addresses, begin at `first`.
    pub(super) fn numbered(server: SocketAddr, first: usize) -> Self {
        Self { server, next_number: Cell::new(first) }
    }

    /// What the server says of itself.
    pub(super) async fn metric(&self, name: &str) -> Result<u64> {
        let health = super::peer::health(self.server).await?;
        health[name].as_u64().with_context(|| format!("no {name}"))
    }

    /// Signs in new peers.
    async fn identities(&self, count: usize) -> Result<Vec<PeerIdentity>> {
        let first = self.next_number.get();
        self.next_number.set(first + count);
        let one = |number| PeerIdentity::new(self.server, number);
        stream::iter(first..first + count).map(one).buffered(AT_ONCE).try_collect().await
    }

    /// New peers in one room.
    pub(super) async fn join(
        &self,
        count: usize,
        room: &RoomCredentials,
        role: &str,
    ) -> Result<Vec<Peer>> {
        let identities = self.identities(count).await?;
        let one = |identity: PeerIdentity| identity.register(self.server, room, role);
        stream::iter(identities).map(one).buffered(AT_ONCE).try_collect().await
    }

    pub(super) async fn room(&self) -> Result<RoomCredentials> {
        let creator = self.identities(1).await?.pop().context("no identity")?;
        creator.create_room(self.server).await
    }

    /// Measures registrations per second, and the memory of an idle peer. The peers stay until the
    /// end.
    pub async fn idle(
        &self,
        count: usize,
        program: &ServerProcess,
        table: &mut Table,
    ) -> Result<()> {
        let mut rooms = Vec::new();
        for _ in 0..count.div_ceil(ROOM) {
            rooms.push(self.room().await?);
        }
        let start = Instant::now();
        let identities = self.identities(count).await?;
        let rate = count as f64 / start.elapsed().as_secs_f64();
        table.add("sign-ins/s", format!("{rate:.0}"), "", "");
        let before = program.memory_bytes()?;
        let (start, cpu) = (Instant::now(), program.cpu()?);
        let peers = stream::iter(identities.into_iter().enumerate())
            .map(|(n, identity)| identity.register(self.server, &rooms[n / ROOM], "worker"))
            .buffer_unordered(AT_ONCE);
        let peers: Vec<Peer> = peers.try_collect().await?;
        let rate = count as f64 / start.elapsed().as_secs_f64();
        table.add("registrations/s", format!("{rate:.0}"), "", "");
        let each = (program.cpu()? - cpu).as_secs_f64() * 1e6 / count as f64;
        table.add("CPU µs per registration", format!("{each:.0}"), "", "");
        let each = program.memory_bytes()?.saturating_sub(before) as f64 / count as f64 / 1000.0;
        let what = format!("memory per idle peer, of {count}");
        table.add(what, format!("{each:.1} KB"), "< 20 KB", "64 KB");
        // From here on they answer pings during the other measurements.
        peers.into_iter().for_each(|peer| drop(tokio::spawn(peer.idle())));
        Ok(())
    }

    /// Measures messages per second, and the cost of one, from socket to socket.
    pub async fn messages(
        &self,
        count: usize,
        program: &ServerProcess,
        table: &mut Table,
    ) -> Result<()> {
        let room = self.room().await?;
        let mut peers = self.join(2 * PAIRS, &room, "peer").await?;
        let exchanges = count.div_ceil(2 * PAIRS);
        let mut pairs = JoinSet::new();
        let (start, cpu) = (Instant::now(), program.cpu()?);
        while let (Some(a), Some(b)) = (peers.pop(), peers.pop()) {
            pairs.spawn(exchange(a, b, exchanges));
        }
        while let Some(done) = pairs.join_next().await {
            done??;
        }
        let sent = (2 * PAIRS * exchanges) as f64;
        let rate = sent / start.elapsed().as_secs_f64();
        table.add("messages/s", format!("{rate:.0}"), "", "");
        let each = (program.cpu()? - cpu).as_secs_f64() * 1e6 / sent;
        table.add("CPU per message", format!("{each:.1} µs"), "< 10 µs", "50 to 66 µs");
        Ok(())
    }

    /// Measures how long the list of a big room takes, with several clients asking at the same
    /// time.
    pub async fn discovery(
        &self,
        options: &SignalingOptions,
        program: &ServerProcess,
        table: &mut Table,
    ) -> Result<()> {
        let room = self.room().await?;
        for worker in self.join(options.workers, &room, "worker").await? {
            drop(tokio::spawn(worker.idle()));
        }
        let mut askers = self.join(options.askers, &room, "client").await?;
        let mut took = Vec::new();
        let cpu = program.cpu()?;
        for _ in 0..options.rounds {
            let answers = askers.iter_mut().map(|asker| ask(asker, options.workers));
            took.extend(futures_util::future::try_join_all(answers).await?);
        }
        let each = (program.cpu()? - cpu).as_secs_f64() * 1e6 / took.len() as f64;
        took.sort();
        let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        let what = format!("discovery of {}, {} at once", options.workers, options.askers);
        table.add(format!("{what}: p50"), format!("{:.1} ms", at(0.5)), "< 5 ms", "27 ms");
        table.add(format!("{what}: p99"), format!("{:.1} ms", at(0.99)), "< 20 ms", "250 ms");
        table.add("CPU µs per discovery", format!("{each:.0}"), "", "");
        Ok(())
    }

    /// Measures how long real peers take to return after a restart of the server.
    pub async fn restart(
        &self,
        count: usize,
        mut program: ServerProcess,
        table: &mut Table,
    ) -> Result<()> {
        let room = self.room().await?;
        let (say, mut back) = mpsc::channel(count.max(1));
        let cancel = CancellationToken::new();
        let endpoints = Endpoints::from_one(&format!("ws://{}", self.server))
            .map_err(|why| anyhow::anyhow!(why))?;
        let joining = (0..count).map(|_| stay(&endpoints, &room, say.clone(), cancel.clone()));
        stream::iter(joining).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        // On another thread, because meanwhile the peers notice, fail to connect, and back off.
        let restarting = tokio::task::spawn_blocking(move || {
            program.stop()?;
            std::thread::sleep(DOWN);
            program.start_again()?;
            anyhow::Ok((program, Instant::now()))
        });
        let (_program, start) = restarting.await??;
        for _ in 0..count {
            timeout(RETURN_DEADLINE, back.recv()).await.context("some did not come back")?;
        }
        let seconds = start.elapsed().as_secs_f64();
        cancel.cancel();
        let what = format!("{count} peers back after a restart");
        table.add(what, format!("{seconds:.2} s"), "< 5 s", "");
        Ok(())
    }
}

/// Sends one message in each direction, `times` times.
async fn exchange(mut a: Peer, mut b: Peer, times: usize) -> Result<()> {
    let (there, back) = (frame_between(&a, &b), frame_between(&b, &a));
    for _ in 0..times {
        a.send(there.as_str().into()).await?;
        let arrived = b.receive().await?;
        ensure!(arrived.len() >= PAYLOAD_BYTES, "expected the message, got {arrived}");
        b.send(back.as_str().into()).await?;
        a.receive().await?;
    }
    Ok(())
}

/// Asks for the whole room and waits for the complete list.
async fn ask(asker: &mut Peer, workers: usize) -> Result<Duration> {
    let frame = json!({
        "type": "discover_peers", "from_peer_id": asker.peer_id,
        "filters": {"role": "worker", "tags": ["training-worker"]},
    });
    let start = Instant::now();
    asker.send(frame.to_string().into()).await?;
    let list = asker.receive().await?;
    let took = start.elapsed();
    ensure!(list.contains(&format!(r#""count":{workers}"#)), "the list is incomplete");
    Ok(took)
}

/// Runs a peer of the program, which reconnects by itself, and reports when it has returned.
async fn stay(
    endpoints: &Endpoints,
    room: &RoomCredentials,
    back: mpsc::Sender<()>,
    cancel: CancellationToken,
) -> Result<()> {
    let identity = HttpApi::new(&endpoints.http).sign_in(None).await?;
    let (role, metadata) = (Role::Worker, Metadata::default());
    let (client, mut events) =
        SignalingClient::connect(endpoints.clone(), identity, room.clone(), role, metadata, cancel)
            .await?;
    drop(tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if event == SignalingEvent::Restored && back.send(()).await.is_err() {
                break;
            }
        }
        drop(client);
    }));
    Ok(())
}
