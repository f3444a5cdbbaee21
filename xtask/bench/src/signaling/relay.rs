//! Measures pairs of peers that send through the relay at a given rate, and the latency of signaling
//! meanwhile.

use super::load::Load;
use super::peer::Peer;
use super::process::ServerProcess;
use super::table::Table;
use anyhow::{Context, Result};
use futures_util::{StreamExt, TryStreamExt, stream};
use iroh::endpoint::{Connection, presets};
use iroh::{Endpoint, EndpointAddr, RelayConfig, RelayMode, RelayUrl, SecretKey, TransportAddr};
use serde_json::json;
use sleap_rtc_protocol::ids::RoomCredentials;
use sleap_rtc_protocol::signaling::{Metadata, Role};
use sleap_rtc_signaling::client::{Endpoints, HttpApi, SignalingClient};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

const ALPN: &[u8] = b"bench";
/// Endpoints that are created at the same time.
const AT_ONCE: usize = 16;
/// How often a pair sends.
const SEND_EVERY: Duration = Duration::from_millis(100);
/// How long all of them send.
const MEASURED: Duration = Duration::from_secs(30);
/// How often signaling is measured meanwhile.
const PROBE_EVERY: Duration = Duration::from_millis(20);
/// How long a pair may take to connect.
const CONNECT_LIMIT: Duration = Duration::from_secs(60);

/// A member of the room with an endpoint.
struct Member {
    endpoint: Endpoint,
    url: RelayUrl,
    _client: SignalingClient,
}

impl Load {
    /// Connects `count` peers in pairs. One of each pair sends `bytes_per_s` to the other.
    pub async fn relayed(
        &self,
        count: usize,
        bytes_per_s: usize,
        program: &ServerProcess,
        table: &mut Table,
    ) -> Result<()> {
        let room = self.room().await?;
        let mut probes = self.join(2, &room, "peer").await?;
        let (mut one, mut other) =
            (probes.pop().context("no peer")?, probes.pop().context("no peer")?);
        let alone = latencies(&mut one, &mut other, MEASURED / 6).await?;
        table.add("signaling p99, nobody relayed", ms(&alone, 0.99), "", "");

        let before = program.memory_bytes()?;
        let endpoints = self.endpoints()?;
        let joining = (0..count).map(|_| member(&endpoints, &room));
        let members: Vec<Member> =
            stream::iter(joining).buffer_unordered(AT_ONCE).try_collect().await?;
        let carried = Arc::new(AtomicU64::new(0));
        let mut pairs = JoinSet::new();
        for pair in members.chunks_exact(2) {
            let connecting = connect(&pair[0], &pair[1]);
            let (to, from) =
                timeout(CONNECT_LIMIT, connecting).await.context("a pair did not connect")??;
            pairs.spawn(send(from, bytes_per_s / 10));
            pairs.spawn(receive(to, Arc::clone(&carried)));
        }
        let (start, cpu) = (Instant::now(), program.cpu()?);
        let connected = program.memory_bytes()?;
        let beside = latencies(&mut one, &mut other, MEASURED / 2).await?;
        let halfway = program.memory_bytes()?;
        let more = latencies(&mut one, &mut other, MEASURED / 2).await?;
        let after = program.memory_bytes()?;
        let seconds = start.elapsed().as_secs_f64();
        let mb = carried.load(Ordering::Relaxed) as f64 / 1e6;
        let cpu_s = (program.cpu()? - cpu).as_secs_f64();
        let mut beside = [beside, more].concat();
        beside.sort();
        let what = format!("signaling beside {count} relayed peers");
        table.add(format!("{what}: p50"), ms(&beside, 0.5), "", "");
        table.add(format!("{what}: p99"), ms(&beside, 0.99), "< 50 ms", "");
        table.add(format!("{what}: relayed"), format!("{:.1} MB/s", mb / seconds), "", "");
        table.add("CPU s per GB relayed", format!("{:.1}", cpu_s / mb * 1e3), "", "");
        let mib = [before, connected, halfway, after].map(|bytes| (bytes >> 20).to_string());
        let what = "memory before, connected, halfway, after";
        table.add(what, format!("{} MiB", mib.join(", ")), "flat", "");
        pairs.shutdown().await;
        for member in members {
            member.endpoint.close().await;
        }
        Ok(())
    }

    fn endpoints(&self) -> Result<Endpoints> {
        let url = format!("ws://{}", self.server);
        Endpoints::from_one(&url).map_err(|why| anyhow::anyhow!(why))
    }
}

/// Registers, and creates an endpoint that knows only the relay.
async fn member(endpoints: &Endpoints, room: &RoomCredentials) -> Result<Member> {
    let key = SecretKey::generate();
    let identity = HttpApi::new(&endpoints.http).sign_in(None).await?;
    let metadata: Metadata =
        serde_json::from_value(json!({"properties": {"iroh": {"id": key.public().to_string()}}}))?;
    let (endpoints, cancel) = (endpoints.clone(), CancellationToken::new());
    let (client, _) =
        SignalingClient::connect(endpoints, identity, room.clone(), Role::Peer, metadata, cancel)
            .await?;
    let relay = client.relay().borrow().clone().context("the server has no relay")?;
    let url: RelayUrl = relay.url.into();
    let config = RelayConfig::new(url.clone(), None).with_auth_token(relay.token.as_str());
    let endpoint = Endpoint::builder(presets::Minimal)
        .secret_key(key)
        .alpns(vec![ALPN.to_vec()])
        .relay_mode(RelayMode::Custom(config.into()))
        .clear_ip_transports()
        .bind()
        .await?;
    Ok(Member { endpoint, url, _client: client })
}

/// The connection's two ends: the receiver's and the sender's.
async fn connect(from: &Member, to: &Member) -> Result<(Connection, Connection)> {
    let address =
        EndpointAddr::from_parts(to.endpoint.id(), [TransportAddr::Relay(to.url.clone())]);
    let accepting = async {
        let incoming = to.endpoint.accept().await.context("the endpoint is closed")?;
        anyhow::Ok(incoming.await?)
    };
    let connecting = async { anyhow::Ok(from.endpoint.connect(address, ALPN).await?) };
    tokio::try_join!(accepting, connecting)
}

async fn send(connection: Connection, bytes: usize) -> Result<()> {
    let content = vec![7; bytes];
    let mut ticks = interval(SEND_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut stream = connection.open_uni().await?;
        stream.write_all(&content).await?;
        stream.finish()?;
    }
}

async fn receive(connection: Connection, carried: Arc<AtomicU64>) -> Result<()> {
    loop {
        let content = connection.accept_uni().await?.read_to_end(usize::MAX).await?;
        carried.fetch_add(content.len() as u64, Ordering::Relaxed);
    }
}

/// The sorted latencies of messages from peer to peer, sent one after the other.
async fn latencies(one: &mut Peer, other: &mut Peer, time: Duration) -> Result<Vec<Duration>> {
    let frame = json!({
        "type": "peer_message", "from_peer_id": one.peer_id, "to_peer_id": other.peer_id,
        "payload": {"app_message_type": "bench"},
    })
    .to_string();
    let (start, mut took) = (Instant::now(), Vec::new());
    let mut ticks = interval(PROBE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while start.elapsed() < time {
        ticks.tick().await;
        let sent = Instant::now();
        one.send(frame.as_str().into()).await?;
        other.receive().await?;
        took.push(sent.elapsed());
    }
    took.sort();
    Ok(took)
}

fn ms(sorted: &[Duration], share: f64) -> String {
    let at = ((sorted.len().saturating_sub(1)) as f64 * share) as usize;
    format!("{:.1} ms", sorted.get(at).map_or(0.0, Duration::as_secs_f64) * 1e3)
}
