//! The server's metrics, as JSON for `/health` and as Prometheus text for `/metrics`.

use crate::server::Server;
use crate::server::cluster::Cluster;
use crate::server::relay::{AddressDiscovery, Relays};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What happened since the start.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) registrations: Counter,
    pub(crate) forwarded: Counter,
    pub(crate) refused: Counter,
    pub(crate) impersonations: Counter,
    /// Wrong room tokens and foreign identities.
    pub(crate) failures: Counter,
    pub(crate) rate_limited: Counter,
    pub(crate) slow_readers: Counter,
    pub(crate) evicted: Counter,
    pub(crate) relay_refused: Counter,
    /// Devices that joined a mailbox.
    pub(crate) pairings: Counter,
    pub(crate) pairings_refused: Counter,
}

struct Reading {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    value: u64,
}

fn readings(server: &Server) -> Vec<Reading> {
    let (peers, rooms) = {
        let rooms = server.rooms();
        (rooms.peers() as u64, rooms.rooms() as u64)
    };
    let counters = &server.counters;
    let reading = |name, help, kind, value| Reading { name, help, kind, value };
    let total = |name, help, counter: &Counter| Reading {
        name,
        help,
        kind: "counter",
        value: counter.get(),
    };
    let mut readings = vec![
        reading(
            "uptime_s",
            "Seconds since the start.",
            "gauge",
            server.started.elapsed().as_secs(),
        ),
        reading("peers", "Peers that are registered.", "gauge", peers),
        reading("rooms", "Rooms with a peer in them.", "gauge", rooms),
        reading("sockets", "Open connections.", "gauge", server.open_sockets() as u64),
        reading(
            "sockets_limit",
            "Connections that may be open at once.",
            "gauge",
            server.options.sockets as u64,
        ),
        reading(
            "state_file_lost",
            "1 when the state file was removed or replaced under the server.",
            "gauge",
            server.state_is_lost.load(Ordering::Relaxed).into(),
        ),
        total("registrations", "Registrations that succeeded.", &counters.registrations),
        total("frames_forwarded", "Frames passed on to their target.", &counters.forwarded),
        total("frames_refused", "Frames answered with an error.", &counters.refused),
        total(
            "impersonations_refused",
            "Frames that named another peer as their sender.",
            &counters.impersonations,
        ),
        total("failed_tokens", "Wrong room tokens and foreign identities.", &counters.failures),
        total(
            "rate_limited",
            "Sockets, sign-ins and rooms beyond an address's limit.",
            &counters.rate_limited,
        ),
        total(
            "slow_readers",
            "Sockets closed because their peers read nothing.",
            &counters.slow_readers,
        ),
        total("evicted", "Unregistered sockets closed to make room.", &counters.evicted),
    ];
    readings.extend(of_pairing(server));
    readings.extend(of_optional_parts(server, peers));
    readings
}

/// The metrics of the parts that a server need not have.
fn of_optional_parts(server: &Server, peers: u64) -> impl Iterator<Item = Reading> {
    let of_relay = server.relay.as_ref().map(|relay| of_relay(server, relay));
    let of_cluster = server.cluster.as_ref().map(|cluster| of_cluster(cluster, peers));
    of_relay.into_iter().flatten().chain(of_cluster.into_iter().flatten())
}

/// The metrics of the mailboxes.
fn of_pairing(server: &Server) -> [Reading; 3] {
    let open = server.mailboxes().count() as u64;
    let reading = |name, help, kind, value| Reading { name, help, kind, value };
    let (tried, refused) = (server.counters.pairings.get(), server.counters.pairings_refused.get());
    [
        reading("mailboxes", "Devices that wait for another one to pair with.", "gauge", open),
        reading("pairings", "Devices that joined a mailbox.", "counter", tried),
        reading("pairings_refused", "Sockets that a mailbox refused.", "counter", refused),
    ]
}

/// The metrics of the cluster. `peers` are those of all its servers.
fn of_cluster(cluster: &Cluster, peers: u64) -> [Reading; 4] {
    let reading = |name, help, kind, value| Reading { name, help, kind, value };
    let (servers, own) = (cluster.servers() as u64, cluster.own_peers() as u64);
    let elsewhere = peers.saturating_sub(own);
    [
        reading(
            "cluster_connected",
            "1 while the broker of the cluster can be reached.",
            "gauge",
            cluster.is_connected().into(),
        ),
        reading("cluster_servers", "Other servers of the cluster.", "gauge", servers),
        reading("cluster_peers_elsewhere", "Peers at other servers.", "gauge", elsewhere),
        reading(
            "cluster_messages_refused",
            "Messages of other servers that were dropped.",
            "counter",
            cluster.refused(),
        ),
    ]
}

/// The metrics of the relay.
fn of_relay(server: &Server, relay: &Relays) -> Vec<Reading> {
    let traffic = &relay.traffic;
    let reading = |name, help, kind, value| Reading { name, help, kind, value };
    let total = |name, help, value| reading(name, help, "counter", value);
    let shown = server.address_discovery.as_ref().map_or(0, AddressDiscovery::shown);
    let connections = relay.connections() as u64;
    let limit = server.options.limits.relay_connections as u64;
    vec![
        reading("relay_connections", "Connections to the relay.", "gauge", connections),
        reading("relay_connections_limit", "Connections that it may have.", "gauge", limit),
        total(
            "relay_refused",
            "Connections that the relay refused.",
            server.counters.relay_refused.get(),
        ),
        total("relay_bytes", "Bytes of relayed packets.", traffic.bytes_sent.get()),
        total(
            "relay_packets_dropped",
            "Relayed packets whose target was not connected or too slow.",
            traffic.send_packets_dropped.get(),
        ),
        total(
            "relay_bytes_rate_limited",
            "Relayed bytes after which a connection was read later.",
            traffic.bytes_rx_ratelimited_total.get(),
        ),
        total("addresses_shown", "Peers that were shown their address.", shown),
    ]
}

/// The same as one JSON object.
pub(crate) fn json(server: &Server) -> Value {
    let lost = server.state_is_lost.load(Ordering::Relaxed);
    let status = if lost { "state file lost" } else { "ok" };
    let mut health = json!({"status": status, "version": env!("CARGO_PKG_VERSION")});
    for reading in readings(server) {
        health[reading.name] = reading.value.into();
    }
    health
}

/// In the Prometheus text format, version 0.0.4.
pub(crate) fn prometheus(server: &Server) -> String {
    let lines = readings(server).into_iter().map(|Reading { name, help, kind, value }| {
        let name = match (name, kind) {
            ("uptime_s", _) => "sleap_rtc_uptime_seconds".to_owned(),
            (name, "counter") => format!("sleap_rtc_{name}_total"),
            (name, _) => format!("sleap_rtc_{name}"),
        };
        format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n")
    });
    lines.collect()
}
