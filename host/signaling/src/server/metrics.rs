//! What the server counts, as JSON for `/health` and as Prometheus' text for `/metrics`.

use crate::server::Server;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What happened since the start.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) registrations: Counter,
    pub(super) forwarded: Counter,
    pub(super) refused: Counter,
    pub(super) impersonations: Counter,
    /// Wrong room tokens and identities that are not this server's.
    pub(super) failures: Counter,
    pub(super) rate_limited: Counter,
    pub(super) slow_readers: Counter,
    pub(super) evicted: Counter,
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
    vec![
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
            "Sockets closed because their queue was full.",
            &counters.slow_readers,
        ),
        total("evicted", "Unregistered sockets closed to make room.", &counters.evicted),
    ]
}

/// The same as one JSON object.
pub(super) fn json(server: &Server) -> Value {
    let lost = server.state_is_lost.load(Ordering::Relaxed);
    let status = if lost { "state file lost" } else { "ok" };
    let mut health = json!({"status": status, "version": env!("CARGO_PKG_VERSION")});
    for reading in readings(server) {
        health[reading.name] = reading.value.into();
    }
    health
}

/// In Prometheus' text format, version 0.0.4.
pub(super) fn prometheus(server: &Server) -> String {
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
