//! Which way a connection takes: over iroh or WebRTC, directly or through the server's relay.

use crate::network::{Machines, made};
use crate::support::*;
use std::time::Instant;

/// What the client says of its connection, and after how many milliseconds it was open.
fn way(client: &Ended) -> (&str, f64) {
    let said = client.stderr.lines().find_map(|line| line.strip_prefix("Connected to "));
    let (_, way) = said.and_then(|said| said.split_once(": ")).unwrap_or_default();
    let took = client.stderr.split_once("took_ms=").map(|(_, rest)| rest);
    let took = took.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    (way, took.unwrap_or(f64::NAN))
}

fn trains(site: &Site, server: &TestServer, worker: &TestWorker, transport: &str) -> Ended {
    let client = site.client(server).train(&fixture("train_single.zip"));
    let client = client.session(worker.credentials());
    let ended = client.arguments(&["-v", "--transport", transport]).run();
    let (way, took_ms) = way(&ended);
    println!("--transport {transport}: open after {took_ms:.0} ms, {way}");
    ended
}

#[test]
fn our_own_programs_meet_over_iroh_and_older_ones_over_webrtc() {
    let site = Site::new();
    let server = site.server();
    let start = |transport| {
        TestWorker::setup(&site, transport).arguments(&["--transport", transport]).start(&server)
    };
    let [auto, iroh, webrtc] = ["auto", "iroh", "webrtc"].map(start);
    for (worker, transport) in
        [(&auto, "auto"), (&auto, "iroh"), (&auto, "webrtc"), (&iroh, "auto"), (&webrtc, "auto")]
    {
        let ended = trains(&site, &server, worker, transport);
        ended.assert_code(0).assert_says(&["direct"]);
    }
    trains(&site, &server, &webrtc, "iroh").assert_says(&["--transport auto"]).assert_code(3);
    trains(&site, &server, &iroh, "webrtc").assert_says(&["over iroh alone"]).assert_code(5);
    let key = auto.state_dir().join("device.key");
    assert_eq!(std::fs::read(key).unwrap().len(), 32);
}

/// Trains on three machines; gives what the client said, and prints its way.
fn trains_on(machines: &Machines, what: &str) -> String {
    let client = machines.site.client(&machines.server).train(&fixture("train_single.zip"));
    let client =
        client.session(machines.worker.credentials()).arguments(&["-v", "--transport", "auto"]);
    let ended = machines.network.on(Machine::Client, || client.run());
    let (way, took_ms) = way(&ended);
    println!("{what}: open after {took_ms:.0} ms, {way}");
    ended.assert_code(0);
    way.to_owned()
}

fn machines(network: std::io::Result<Network>) -> Option<Machines> {
    let (site, network) = (Site::new(), made(network)?);
    let address = network.server_address();
    let server = network.on(Machine::Server, || TestServer::on(&site, address));
    let worker = network.on(Machine::Worker, || {
        TestWorker::setup(&site, "worker").arguments(&["-v", "--transport", "auto"]).start(&server)
    });
    Some(Machines { site, server, worker, network })
}

#[test]
fn where_udp_is_blocked_the_relay_carries_it() {
    let Some(network) = made(Network::new()) else { return };
    network.block_udp().unwrap();
    let Some(machines) = machines(Ok(network)) else { return };
    let way = trains_on(&machines, "UDP blocked from the start");
    assert!(way.starts_with("relayed by 10.77.0.1"), "{way}");
}

#[test]
fn between_routers_that_translate_each_connection_anew_the_relay_carries_it() {
    let Some(machines) = machines(Network::behind_routers(Nat::Symmetric)) else { return };
    let way = trains_on(&machines, "behind two symmetric NATs");
    assert!(way.starts_with("relayed by 10.77.0.1"), "{way}");
}

#[test]
fn a_transfer_goes_on_over_the_relay_when_udp_dies() {
    let Some(machines) = machines(Network::new()) else { return };
    let (labels, models) =
        (large_labels(&machines.site, 60 << 20), labels_and_models(&machines.site).1);
    let client = machines.site.client(&machines.server).track(&labels, &models);
    let client = client.arguments(&["-v", "--transport", "auto", "--bwlimit", "6 MB/s"]);
    let mut client = machines.start(client.session(machines.worker.credentials()));
    let state = machines.worker.state_dir();
    let arrived = || bytes_below(&state);
    wait_for("the upload", A_WHILE, || (arrived() > 10 << 20).then_some(()));
    machines.network.block_udp().unwrap();
    let blocked = Instant::now();
    wait_for("the relay", A_WHILE, || client.stderr().contains("another way").then_some(()));
    let before = arrived();
    wait_for("more of the upload", A_WHILE, || (arrived() > before + (2 << 20)).then_some(()));
    println!(
        "UDP blocked in mid-transfer: on over the relay {:.1} s later",
        blocked.elapsed().as_secs_f64()
    );
    assert_eq!(client.wait(A_WHILE), 0, "{}", client.transcript());
    let said = client.stderr();
    assert!(said.contains("relayed by 10.77.0.1") && !said.contains("Reconnected"), "{said}");
}
