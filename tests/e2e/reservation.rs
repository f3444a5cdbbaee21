//! A reservation ends by itself, regardless of its client.

use crate::support::*;
use serde_json::{Value, json};
use sleap_rtc_base::ice::IceConfig;
use sleap_rtc_net::rtc::{self, RtcOptions};
use sleap_rtc_protocol::DIALECT;
use sleap_rtc_protocol::signaling::{IceServers, Sdp};
use std::time::Instant;
use tokio::runtime::Runtime;

fn options() -> RtcOptions {
    let bind = vec![std::net::Ipv4Addr::LOCALHOST.into()];
    let config = IceConfig { servers: Vec::new(), bind, ..IceConfig::default() };
    RtcOptions::new(&config, &IceServers::default())
}

fn offer_frame(from: &Observer, worker: &TestWorker, sdp: &Sdp) -> Value {
    json!({
        "type": "offer", "sender": from.peer_id(), "target": worker.peer_id(), "sdp": sdp,
        "protocols": [DIALECT], "purpose": {"kind": "new-job"}, "attempt": 1,
    })
}

/// Waits until `worker` is free again. Returns how long that took.
#[track_caller]
fn wait_free(observer: &mut Observer, worker: &TestWorker, since: Instant, what: &str) -> f64 {
    observer.wait_status(worker.peer_id(), "available", A_WHILE);
    let took_s = since.elapsed().as_secs_f64();
    println!("{what}: the slot was free again after {took_s:.1} s");
    took_s
}

#[test]
fn an_offer_that_never_connects_frees_the_slot_after_fifteen_seconds() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let mut client = Observer::join(&server, worker.credentials());
    let mut observer = Observer::join(&server, worker.credentials());
    let runtime = Runtime::new().unwrap();
    let (_offering, sdp) = runtime.block_on(rtc::offer(&options())).unwrap();
    client.send(&offer_frame(&client, &worker, &sdp));
    let since = Instant::now();
    observer.wait_status(worker.peer_id(), "reserved", SOON);
    let took_s = wait_free(&mut observer, &worker, since, "an offer that never connected");
    assert!((14.0..20.0).contains(&took_s), "{took_s}");
}

#[test]
fn a_client_that_connects_and_proves_nothing_frees_the_slot_after_fifteen_seconds() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let mut client = Observer::join(&server, worker.credentials());
    let mut observer = Observer::join(&server, worker.credentials());
    let runtime = Runtime::new().unwrap();
    let (offering, sdp) = runtime.block_on(rtc::offer(&options())).unwrap();
    client.send(&offer_frame(&client, &worker, &sdp));
    let answer = client.receive("answer");
    let sdp = serde_json::from_value(answer["sdp"].clone()).unwrap();
    let connected = runtime.block_on(async {
        let (connection, python) = offering.accept(&sdp).await?;
        let native = connection.open_channel("native", DIALECT).await?;
        Ok::<_, rtc::RtcError>((connection, python, native))
    });
    let (since, _connected) = (Instant::now(), connected.unwrap());
    assert_eq!(observer.status(worker.peer_id()).as_deref(), Some("reserved"));
    let took_s = wait_free(&mut observer, &worker, since, "a client that connected and was silent");
    // It has not proven its identity, so nothing has renewed its reservation since its offer.
    assert!((14.0..21.0).contains(&took_s), "{took_s}");
}
