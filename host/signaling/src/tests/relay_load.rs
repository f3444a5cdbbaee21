//! The relay under load, small: many pairs at a bounded rate, one of them beyond its limit, and
//! signaling beside them. `cargo xtask bench signaling --relay` measures 200 peers.

use super::relay::{connect, peer, server_with};
use super::support::{Bare, soon};
use crate::server::Limits;
use iroh::endpoint::Connection;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::interval;

/// Pairs of endpoints, of which one sends this much so often.
const PAIRS: usize = 20;
const EVERY: Duration = Duration::from_millis(100);
const BYTES: usize = 5_000;
/// What each endpoint may send in a second.
const LIMIT_BYTES_PER_S: u32 = 500_000;
/// How long they send.
const MEASURED: Duration = Duration::from_secs(4);
/// For a busy machine.
const LATENCY: Duration = Duration::from_millis(500);
const GROWTH_KIB: u64 = 16 << 10;

/// Sends messages one after the other, as fast as `every` allows.
async fn send(connection: Connection, bytes: usize, every: Duration) {
    let content = vec![7; bytes];
    let mut ticks = interval(every);
    loop {
        ticks.tick().await;
        let mut stream = connection.open_uni().await.unwrap();
        stream.write_all(&content).await.unwrap();
        stream.finish().unwrap();
    }
}

async fn receive(connection: Connection, arrived: Arc<AtomicU64>) {
    loop {
        let content = connection.accept_uni().await.unwrap().read_to_end(1 << 20).await.unwrap();
        arrived.fetch_add(content.len() as u64, Relaxed);
    }
}

/// The memory of this process: the server's and the endpoints'.
fn memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// How long messages from peer to peer take meanwhile, the longest last.
async fn latencies(one: &mut Bare, other: &mut Bare, (from, to): (&str, &str)) -> Vec<Duration> {
    let frame = json!({
        "type": "peer_message", "from_peer_id": from, "to_peer_id": to,
        "payload": {"app_message_type": "load"},
    });
    let (start, mut took) = (Instant::now(), Vec::new());
    let mut ticks = interval(Duration::from_millis(10));
    while start.elapsed() < MEASURED {
        ticks.tick().await;
        let sent = Instant::now();
        one.send(frame.clone()).await;
        soon("a message", other.next()).await;
        took.push(sent.elapsed());
    }
    took.sort();
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_relayed_peers_delay_no_signaling_and_one_over_its_limit_only_itself() {
    let limits = Limits { relay_bytes_per_s: LIMIT_BYTES_PER_S, ..Limits::default() };
    let server = server_with(limits).await;
    let (_, room) = server.room().await;
    let (mut pairs, mut held) = (JoinSet::new(), Vec::new());
    let arrived: Vec<Arc<AtomicU64>> = (0..PAIRS).map(|_| Arc::default()).collect();
    for (number, arrived) in arrived.iter().enumerate() {
        let (one, two) = (peer(&server, &room).await, peer(&server, &room).await);
        let (from, to) = (one.endpoint().await, two.endpoint().await);
        let (near, far) = connect(&from, &to, two.address()).await;
        // The first one would send 20 times what it may.
        let every = if number == 0 { Duration::from_millis(1) } else { EVERY };
        let bytes = if number == 0 { 2 * BYTES } else { BYTES };
        pairs.spawn(send(near, bytes, every));
        pairs.spawn(receive(far, Arc::clone(arrived)));
        held.push((one, two, from, to));
    }
    let (mut one, from) = server.member(&room).await;
    let (mut other, to) = server.member(&room).await;
    let ids = (from.peer_id.as_str(), to.peer_id.as_str());
    // What was allocated at first is not counted.
    latencies(&mut one, &mut other, ids).await;
    let before: Vec<u64> = arrived.iter().map(|bytes| bytes.load(Relaxed)).collect();
    let (memory, start) = (memory_kib(), Instant::now());
    let took = latencies(&mut one, &mut other, ids).await;
    let (grown, seconds) = (memory_kib().saturating_sub(memory), start.elapsed().as_secs_f64());
    let rate = |number: usize| (arrived[number].load(Relaxed) - before[number]) as f64 / seconds;
    let slowest = (1..PAIRS).map(rate).fold(f64::INFINITY, f64::min);
    let p99 = took[took.len() * 99 / 100];
    println!(
        "{} relayed peers: signaling p99 {p99:.1?}; the hasty one {:.0} kB/s, the slowest other \
         {:.0} kB/s; memory grew by {grown} KiB",
        2 * PAIRS,
        rate(0) / 1e3,
        slowest / 1e3,
    );
    assert!(p99 < LATENCY, "{p99:?}");
    let limit = f64::from(LIMIT_BYTES_PER_S);
    assert!(rate(0) < 1.2 * limit, "{} bytes/s", rate(0));
    let wanted = BYTES as f64 / EVERY.as_secs_f64();
    assert!(slowest > 0.8 * wanted, "{slowest} bytes/s");
    assert!(grown < GROWTH_KIB, "{grown} KiB");
}
