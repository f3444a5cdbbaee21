//! `bench signaling --servers N`: what it costs to be several. Servers and broker share the server's core.

use super::SignalingOptions;
use super::idle::IdlePeers;
use super::load::Load;
use super::peer::{Peer, frame_between};
use super::process::{BrokerProcess, Cores, ServerProcess};
use super::table::Table;
use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use sleap_rtc_protocol::ids::RoomCredentials;
use sleap_rtc_protocol::signaling::{Metadata, Role};
use sleap_rtc_signaling::client::{Servers, SignalingClient, SignalingEvent};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Messages back and forth, one after the other, of which the times are taken.
const ROUNDS: usize = 5_000;
/// Peers of one room that are registered at the same time.
const AT_ONCE: usize = 64;
/// How long the servers may take until each knows all peers, and peers until they are back.
const AGREE_LIMIT: Duration = Duration::from_secs(120);
/// How long the processor time of idle servers is watched.
const WATCHED: Duration = Duration::from_secs(10);

/// The servers of a cluster, and their broker.
pub struct ClusterProcesses {
    servers: Vec<ServerProcess>,
    broker: BrokerProcess,
    cores: Cores,
}

impl ClusterProcesses {
    pub fn start(count: usize, cores: Cores) -> Result<Self> {
        ensure!(count >= 2, "--servers expects at least 2");
        let broker = BrokerProcess::start(cores)?;
        let config = broker.config();
        let servers: Result<Vec<_>> =
            (0..count).map(|_| ServerProcess::start_with(cores, &config)).collect();
        Ok(Self { servers: servers?, broker, cores })
    }

    /// The processor time of all of them.
    fn cpu(&self) -> Result<Duration> {
        let servers = self.servers.iter().map(ServerProcess::cpu);
        servers.chain([self.broker.cpu()]).sum()
    }

    async fn agree(&self, peers: usize) -> Result<()> {
        agree(&self.servers, peers).await
    }
}

/// Waits until each server knows of this many peers.
async fn agree(servers: &[ServerProcess], peers: usize) -> Result<()> {
    for server in servers {
        let load = Load::new(server.address());
        let all = async {
            while load.metric("peers").await? != peers as u64 {
                sleep(Duration::from_millis(20)).await;
            }
            anyhow::Ok(())
        };
        timeout(AGREE_LIMIT, all).await.context("the servers do not agree")??;
    }
    Ok(())
}

/// Runs the measurements.
pub async fn measure(
    options: &SignalingOptions,
    mut cluster: ClusterProcesses,
    table: &mut Table,
) -> Result<()> {
    let [first, second] = [0, 1].map(|n: usize| Load::numbered(cluster.servers[n].address(), n));
    let room = first.room().await?;
    let near = [first.join(1, &room, "peer").await?, first.join(1, &room, "peer").await?];
    latency("one server", near, &cluster, table).await?;
    let far = [first.join(1, &room, "peer").await?, second.join(1, &room, "peer").await?];
    cluster.agree(2).await?;
    latency("two servers", far, &cluster, table).await?;
    cluster.agree(0).await?;
    moving(options.returning, &room, &mut cluster, table).await?;
    let each = options.idle / cluster.servers.len();
    let _peers = idle(each, &cluster, table).await?;
    healing(each, &mut cluster, table).await
}

/// Measures one message at a time, there and back.
async fn latency(
    between: &str,
    [mut a, mut b]: [Vec<Peer>; 2],
    cluster: &ClusterProcesses,
    table: &mut Table,
) -> Result<()> {
    let (mut a, mut b) = (a.pop().context("no peer")?, b.pop().context("no peer")?);
    let (there, back) = (frame_between(&a, &b), frame_between(&b, &a));
    let (mut took, cpu) = (Vec::with_capacity(2 * ROUNDS), cluster.cpu()?);
    for _ in 0..ROUNDS {
        took.push(one(&mut a, &mut b, &there).await?);
        took.push(one(&mut b, &mut a, &back).await?);
    }
    let each = (cluster.cpu()? - cpu).as_secs_f64() * 1e6 / took.len() as f64;
    took.sort();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    table.add(format!("message over {between}: p50"), format!("{:.2} ms", at(0.5)), "", "");
    table.add(format!("message over {between}: p99"), format!("{:.2} ms", at(0.99)), "", "");
    let what = format!("CPU per message over {between}, with the broker");
    table.add(what, format!("{each:.0} µs"), "", "");
    Ok(())
}

async fn one(from: &mut Peer, to: &mut Peer, frame: &str) -> Result<Duration> {
    let start = Instant::now();
    from.send(frame.into()).await?;
    let arrived = to.receive().await?;
    ensure!(arrived.contains("bench"), "expected the message, got {arrived}");
    Ok(start.elapsed())
}

/// Measures idle peers, as many at each server, and returns them.
async fn idle(
    each: usize,
    cluster: &ClusterProcesses,
    table: &mut Table,
) -> Result<Vec<IdlePeers>> {
    let before: Vec<u64> = memory(cluster)?;
    let (start, cpu) = (Instant::now(), cluster.cpu()?);
    // The peers of each server have addresses of their own, and so have the makers of their rooms.
    let start_at = |(nth, server): (usize, &ServerProcess)| {
        IdlePeers::start(server.address(), each, 10 + nth * 2 * each)
    };
    let peers: Result<Vec<_>> = cluster.servers.iter().enumerate().map(start_at).collect();
    let peers = peers?;
    let all = each * cluster.servers.len();
    let rate = all as f64 / start.elapsed().as_secs_f64();
    table.add("registrations/s, sign-ins included", format!("{rate:.0}"), "", "");
    let registered = Instant::now();
    cluster.agree(all).await?;
    let took_s = registered.elapsed().as_secs_f64();
    table.add(format!("until each server knows all {all}"), format!("{took_s:.1} s"), "", "");
    let spent = (cluster.cpu()? - cpu).as_secs_f64() * 1e6 / all as f64;
    table.add(
        "CPU per registration, of all servers and the broker",
        format!("{spent:.0} µs"),
        "",
        "",
    );
    let grown = memory(cluster)?.iter().zip(before).map(|(now, old)| now.saturating_sub(old)).max();
    let grown = grown.unwrap_or_default() as f64 / 1e6;
    table.add(format!("memory of a server with {each} of {all}"), format!("{grown:.0} MB"), "", "");
    let cpu = cluster.cpu()?;
    sleep(WATCHED).await;
    let share = (cluster.cpu()? - cpu).as_secs_f64() / WATCHED.as_secs_f64() * 100.0;
    table.add("CPU while nothing happens, of one core", format!("{share:.1} %"), "", "");
    Ok(peers)
}

/// Measures how soon all servers know all peers again after a lost broker.
async fn healing(each: usize, cluster: &mut ClusterProcesses, table: &mut Table) -> Result<()> {
    cluster.broker.kill();
    cluster.agree(each).await?;
    cluster.broker.start_again(cluster.cores)?;
    let (all, start) = (each * cluster.servers.len(), Instant::now());
    cluster.agree(all).await?;
    let what = format!("until each server knows all {all} again after the return of the broker");
    table.add(what, format!("{:.1} s", start.elapsed().as_secs_f64()), "< 10 s", "");
    Ok(())
}

fn memory(cluster: &ClusterProcesses) -> Result<Vec<u64>> {
    cluster.servers.iter().map(ServerProcess::memory_bytes).collect()
}

/// Measures how long real peers take to be at the other servers after theirs was killed.
async fn moving(
    count: usize,
    room: &RoomCredentials,
    cluster: &mut ClusterProcesses,
    table: &mut Table,
) -> Result<()> {
    let texts: Vec<String> =
        cluster.servers.iter().map(|server| format!("ws://{}", server.address())).collect();
    let servers = Servers::from_texts(&texts).map_err(|why| anyhow::anyhow!(why))?;
    let (say, mut back) = mpsc::channel(count.max(1));
    let cancel = CancellationToken::new();
    let joining = (0..count).map(|_| stay(&servers, room, say.clone(), cancel.clone()));
    stream::iter(joining).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    let start = Instant::now();
    cluster.servers[0].kill()?;
    for _ in 0..count {
        timeout(AGREE_LIMIT, back.recv()).await.context("some did not come back")?;
    }
    let seconds = start.elapsed().as_secs_f64();
    agree(&cluster.servers[1..], count).await?;
    let what = format!("{count} peers back at the others after their server was killed");
    table.add(what, format!("{seconds:.2} s"), "< 10 s", "");
    cancel.cancel();
    cluster.servers[0].start_again()?;
    cluster.agree(0).await
}

/// Runs a peer of the program, and reports when it is back.
async fn stay(
    servers: &Servers,
    room: &RoomCredentials,
    back: mpsc::Sender<()>,
    cancel: CancellationToken,
) -> Result<()> {
    let (server, identity) = servers.sign_in(None).await?;
    let (servers, metadata) = (servers.beginning_with(&server), Metadata::default());
    let joining =
        SignalingClient::connect(servers, identity, room.clone(), Role::Worker, metadata, cancel);
    let (client, mut events) = joining.await?;
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
