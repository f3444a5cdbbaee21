//! Worker and client on separate machines, with cables that can be pulled.

use crate::reconnect::{Desk, assert_whole_log, wait_training};
use crate::support::*;
use crate::ways::way;
use std::{net::IpAddr, thread::sleep, time::Duration, time::Instant};

/// Server, worker and client, each in a network namespace.
pub struct Machines {
    pub site: Site,
    pub server: TestServer,
    pub worker: TestWorker,
    pub network: Network,
}

/// Returns nothing, and prints why, if namespaces are not available.
pub fn made(network: std::io::Result<Network>) -> Option<Network> {
    network
        .inspect_err(|error| {
            println!(
                "not run: no network namespaces here ({error}); they need root, iproute2 and nftables"
            );
        })
        .ok()
}

fn network() -> Option<Network> {
    made(Network::new())
}

fn machines(steps: &str) -> Option<Machines> {
    let network = network()?;
    let address = network.server_address();
    Some(machines_on(network, address, steps))
}

fn machines_on(network: Network, address: IpAddr, steps: &str) -> Machines {
    let site = Site::new();
    let server = network.on(Machine::Server, || TestServer::on(&site, address));
    let worker = network.on(Machine::Worker, || {
        let setup = TestWorker::setup(&site, "worker").env("FAKE_SLEAP_BATCH_S", "0.5");
        setup.env("FAKE_SLEAP_STEPS", steps).start(&server)
    });
    Machines { site, server, worker, network }
}

impl Machines {
    pub fn start(&self, client: TestClient) -> Process {
        self.network.on(Machine::Client, || client.start())
    }

    /// Pulls the client's cable for this long.
    fn cut_s(&self, seconds: u64) {
        self.network.cut(Machine::Client).unwrap();
        // The fault itself takes this long; the test does not wait for anything.
        sleep(Duration::from_secs(seconds));
        self.network.mend(Machine::Client).unwrap();
    }

    /// Trains with a package of this many random bytes, and prints how the connection was opened.
    fn train_with_bytes(&self, what: &str, bytes: u64) {
        self.train_over("auto", what, bytes);
    }

    fn train_over(&self, transport: &str, what: &str, bytes: u64) {
        let (client, start) = (self.site.client(&self.server), Instant::now());
        let package = large_package(&self.site, bytes);
        let client = client.train(&package).session(self.worker.credentials());
        let mut client = self.start(client.arguments(&["-v", "--transport", transport]));
        assert_eq!(client.wait(A_WHILE), 0, "{}", client.transcript());
        let (took_s, said) = (start.elapsed().as_secs_f64(), client.stderr());
        let (way, open_ms) = way(&said);
        println!(
            "{what}, --transport {transport}: open after {open_ms:.0} ms, {way}, trained after \
             {took_s:.1} s"
        );
    }

    /// Trains, and pulls the client's cable for this long in the middle. Returns the client's
    /// output.
    fn train_with_a_cut_of_s(&self, seconds: u64) -> String {
        let desk = Desk::new(&self.site, &self.server);
        let client = desk.client().train(&fixture("train_single.zip")).arguments(&["--log"]);
        let output = client.output();
        let mut client = self.start(client.session(self.worker.credentials()));
        wait_training(&mut client);
        self.cut_s(seconds);
        let (mended, shown) = (Instant::now(), client.stdout().len());
        wait_for("the log to go on", A_WHILE, || (client.stdout().len() > shown).then_some(()));
        let took_s = mended.elapsed().as_secs_f64();
        println!("cable pulled for {seconds} s: the log went on {took_s:.1} s after its return");
        assert_eq!(client.wait(A_WHILE), 0, "{}", client.transcript());
        self.network.on(Machine::Client, || assert_whole_log(desk.client(), &client));
        assert!(files_below(&output).iter().any(|file| file.ends_with("best.ckpt")));
        assert_eq!(self.worker.trainer_starts().len(), 1, "the same job, not another");
        client.stderr()
    }
}

/// SCTP retransmits after one, three and seven seconds, and five seconds of silence are suspect.
/// Two seconds are the longest cut that the same connection always survives.
#[test]
fn a_connection_survives_two_seconds_without_a_network() {
    let Some(machines) = machines("10") else { return };
    let said = machines.train_with_a_cut_of_s(2);
    assert!(!said.contains("Reconnected to"), "it was made anew:\n{said}");
}

#[test]
fn after_forty_seconds_without_a_network_no_event_is_lost_and_none_comes_twice() {
    let Some(machines) = machines("60") else { return };
    let said = machines.train_with_a_cut_of_s(40);
    assert!(said.contains("Lost the connection to") && said.contains("Reconnected to"), "{said}");
}

#[test]
fn an_upload_resumes_over_another_connection() {
    let Some(machines) = machines("2") else { return };
    let (labels, models) =
        (large_labels(&machines.site, 512 << 20), labels_and_models(&machines.site).1);
    let desk = Desk::new(&machines.site, &machines.server);
    // So that a quick machine has not sent all of it before the cut.
    let client = desk.client().track(&labels, &models).arguments(&["--bwlimit", "40 MB/s"]);
    let mut client = machines.start(client.session(machines.worker.credentials()));
    let state = machines.worker.state_dir();
    wait_for("the upload", A_WHILE, || (bytes_below(&state) > 64 << 20).then_some(()));
    machines.cut_s(20);
    assert_eq!(client.wait(A_WHILE), 0, "{}", client.transcript());
    let log = machines.worker.log();
    assert!(log.contains("the client continues over another connection"), "{log}");
    assert_eq!(machines.worker.trainer_starts().len(), 1);
}

#[test]
fn a_result_arrives_although_its_connection_is_lost() {
    let Some(machines) = machines("2") else { return };
    let (labels, models) =
        (large_labels(&machines.site, 512 << 20), labels_and_models(&machines.site).1);
    let desk = Desk::new(&machines.site, &machines.server);
    let client = desk.client().track(&labels, &models);
    let (home, predictions) = (client.home().to_owned(), client.predictions());
    let mut client = machines.start(client.session(machines.worker.credentials()));
    wait_for("the download", A_WHILE, || (bytes_below(&home) > 32 << 20).then_some(()));
    machines.cut_s(20);
    assert_eq!(client.wait(A_WHILE), 0, "{}", client.transcript());
    let (sent, got) = (std::fs::read(&labels).unwrap(), std::fs::read(&predictions).unwrap());
    assert!(sent == got, "the result is not what the worker made");
}

/// Less than IPv6 requires of a path. Some tunnels over IPv4 carry no more.
#[test]
fn packets_shrink_to_what_the_interfaces_carry() {
    let Some(machines) = machines("2") else { return };
    for machine in [Machine::Worker, Machine::Client] {
        machines.network.carry(machine, 1200).unwrap();
    }
    for transport in ["iroh", "webrtc"] {
        machines.train_over(transport, "20 MB in packets of 1,200 bytes", 20 << 20);
    }
}

/// The path carries only short packets. iroh learns that by trying, and WebRTC lets the routers
/// cut what is too long.
#[test]
fn packets_shrink_to_what_the_way_carries() {
    let Some(network) = made(Network::with_routers()) else { return };
    network.narrow(1200).unwrap();
    let address = network.server_address();
    let machines = machines_on(network, address, "2");
    for transport in ["iroh", "webrtc"] {
        machines.train_over(transport, "1,200 bytes between the routers", 20 << 20);
    }
}

/// Routers that translate addresses send back what tells a machine to shorten its packets, too.
#[test]
fn packets_shrink_behind_routers_that_translate_addresses() {
    let Some(network) = made(Network::behind_routers(Nat::SamePort)) else { return };
    network.narrow(1200).unwrap();
    let address = network.server_address();
    machines_on(network, address, "2")
        .train_with_bytes("1,200 bytes between routers with NAT", 20 << 20);
}

/// Like the interfaces that containers add to their host.
#[test]
fn machines_with_many_interfaces_connect() {
    let Some(network) = network() else { return };
    network.add_interfaces(Machine::Worker, 110).unwrap();
    network.add_interfaces(Machine::Client, 40).unwrap();
    let address = network.server_address();
    let machines = machines_on(network, address, "2");
    machines.train_with_bytes("110 and 40 interfaces", 1 << 10);
}

#[test]
fn machines_without_ipv4_connect() {
    let Some(network) = network() else { return };
    let address = network.without_ipv4().unwrap();
    machines_on(network, address, "2").train_with_bytes("IPv6 alone", 1 << 10);
}
