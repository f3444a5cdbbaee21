//! The route of a connection: over iroh or WebRTC, directly or through the server's relay.
//!
//! Each test on separate machines trains, and prints the route and how soon the connection was
//! open.

use crate::network::{Machines, made};
use crate::reach;
use crate::reconnect::Desk;
use crate::serving;
use crate::support::*;
use crate::tls::Certificate;
use std::net::{IpAddr, TcpListener};
use std::sync::mpsc;
use std::time::Instant;

/// The client's line about its connection, and the milliseconds until it was open.
pub fn way(client: &str) -> (&str, f64) {
    let said = client.lines().find_map(|line| line.strip_prefix("Connected to "));
    let (_, way) = said.and_then(|said| said.split_once(": ")).unwrap_or_default();
    let took = client.split_once("took_ms=").map(|(_, rest)| rest);
    let took = took.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    (way, took.unwrap_or(f64::NAN))
}

fn trains(site: &Site, server: &TestServer, worker: &TestWorker, transport: &str) -> Ended {
    let client = site.client(server).train(&fixture("train_single.zip"));
    let client = client.session(worker.credentials());
    let ended = client.arguments(&["-v", "--transport", transport]).run();
    let (way, took_ms) = way(&ended.stderr);
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

/// Three machines whose server has a certificate, and with it address discovery.
pub struct Lab {
    // Dropped in this order.
    pub machines: Machines,
    pub certificate: Certificate,
}

impl Lab {
    /// Its worker trains `steps` batches in an epoch.
    pub fn in_network(network: std::io::Result<Network>, steps: &str) -> Option<Self> {
        let (site, network) = (Site::new(), made(network)?);
        let address = network.server_address();
        let certificate = Certificate::new(&site, &[&address.to_string()]);
        let server = network.on(Machine::Server, || {
            TestServer::persistent_on(&site, address, &certificate.config())
        });
        let worker = network.on(Machine::Worker, || {
            let setup = TestWorker::setup(&site, "worker").env("FAKE_SLEAP_BATCH_S", "0.5");
            let setup = setup.env("FAKE_SLEAP_STEPS", steps).arguments(&["-v"]);
            let variables = certificate.variables(server.address());
            variables
                .iter()
                .fold(setup, |setup, (name, value)| setup.env(name, value))
                .start(&server)
        });
        wait_for("the worker to know its network", SOON, || {
            worker.log().contains("asked the server for this machine's address").then_some(())
        });
        Some(Self { machines: Machines { site, server, worker, network }, certificate })
    }

    /// A client that finds the server.
    pub fn complete(&self, client: TestClient) -> TestClient {
        let variables = self.certificate.variables(self.machines.server.address());
        variables.iter().fold(client, |client, (name, value)| client.env(name, value))
    }

    /// A training command at `desk`, for the client's machine.
    pub fn training(&self, desk: &Desk) -> TestClient {
        let client = self.complete(desk.client()).train(&fixture("train_single.zip"));
        client.session(self.machines.worker.credentials()).arguments(&["-v"])
    }

    /// The output of a short command of the client at `desk`.
    fn prints(&self, desk: &Desk, arguments: &[&str]) -> String {
        let command = self.complete(desk.client()).arguments(arguments);
        let ended = self.machines.network.on(Machine::Client, || command.run());
        ended.assert_code(0).text()
    }
}

fn wait_said(client: &Process, words: &str) {
    wait_for(words, SOON, || client.stderr().contains(words).then_some(()));
}

#[test]
fn where_udp_is_blocked_the_relay_carries_it_and_everybody_is_told_why() {
    let Some(network) = made(Network::new()) else { return };
    network.block_udp().unwrap();
    let Some(lab) = Lab::in_network(Ok(network), "12") else { return };
    let desk = Desk::new(&lab.machines.site, &lab.machines.server);
    let mut client = lab.machines.start(lab.training(&desk));
    let why = "relayed by 10.77.0.1 (UDP is blocked here), ";
    wait_said(&client, why);
    let Credentials { room_id, token, .. } = lab.machines.worker.credentials();
    let listed = wait_for("the route in the room", SOON, || {
        let listed = lab.prints(&desk, &["room", "list", "--room-id", room_id, "--token", token]);
        listed.contains("its client is connected: ").then_some(listed)
    });
    assert!(listed.contains(why), "{listed}");
    assert_eq!(client.wait(A_WHILE), 0, "{}", client.transcript());
    let jobs = lab.prints(&desk, &["jobs"]);
    assert!(jobs.contains(why), "{jobs}");
    assert!(lab.machines.worker.log().contains("(UDP is blocked here)"));
    let said = client.stderr();
    let (way, took_ms) = way(&said);
    println!("UDP blocked from the start: open after {took_ms:.0} ms, {way}");
    assert!(way.starts_with("relayed by 10.77.0.1"), "{said}");
}

#[test]
fn behind_two_firewalls_that_translate_addresses_the_path_becomes_direct() {
    let Some(lab) = Lab::in_network(Network::behind_routers(Nat::SamePort), "8") else { return };
    let desk = Desk::new(&lab.machines.site, &lab.machines.server);
    let start = Instant::now();
    let mut client = lab.machines.start(lab.training(&desk));
    wait_for("a direct path", SOON, || {
        let said = client.stderr();
        let is_direct = said.contains(": direct, ") || said.contains(" is now direct, ");
        is_direct.then_some(())
    });
    let direct_s = start.elapsed().as_secs_f64();
    assert_eq!(client.wait(A_WHILE), 0, "{}", client.transcript());
    let said = client.stderr();
    let (way, took_ms) = way(&said);
    println!("two NATs: open after {took_ms:.0} ms, {way} direct {direct_s:.1} s after the start");
}

/// Trains on three machines. Returns the client's output, and prints the route.
fn trains_on(machines: &Machines, what: &str) -> String {
    let client = machines.site.client(&machines.server).train(&fixture("train_single.zip"));
    let client = client.session(machines.worker.credentials()).arguments(&["-v"]);
    let ended = machines.network.on(Machine::Client, || client.run());
    ended.assert_code(0);
    let (way, took_ms) = way(&ended.stderr);
    println!("{what}: open after {took_ms:.0} ms, {way}");
    way.to_owned()
}

/// Three machines without a certificate.
pub fn machines(network: std::io::Result<Network>) -> Option<Machines> {
    let (site, network) = (Site::new(), made(network)?);
    let address = network.server_address();
    let server = network.on(Machine::Server, || TestServer::on(&site, address));
    let worker = network.on(Machine::Worker, || {
        TestWorker::setup(&site, "worker").arguments(&["-v"]).start(&server)
    });
    Some(Machines { site, server, worker, network })
}

#[test]
fn between_routers_that_translate_each_connection_anew_the_relay_carries_it() {
    let Some(machines) = machines(Network::behind_routers(Nat::Symmetric)) else { return };
    let way = trains_on(&machines, "behind two symmetric NATs");
    assert!(way.starts_with("relayed by 10.77.0.1"), "{way}");
}

/// An address of the server's machine that no other machine has a route to.
fn outside(network: &Network) -> IpAddr {
    network.ip(Machine::Server, "addr add 203.0.113.10/32 dev lo").unwrap();
    [203, 0, 113, 10].into()
}

#[test]
fn where_only_a_proxy_leads_out_a_job_is_done_through_it() {
    let Some(network) = made(Network::new()) else { return };
    network.separate().unwrap();
    let (site, address) = (Site::new(), outside(&network));
    let server = network.on(Machine::Server, || TestServer::on(&site, address));
    let (asked, asks) = mpsc::channel();
    let way = network.on(Machine::Server, || {
        let listener = TcpListener::bind((network.server_address(), 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || reach::proxy(listener, asked));
        format!("http://{address}")
    });
    let worker = network.on(Machine::Worker, || {
        TestWorker::setup(&site, "worker").env("HTTP_PROXY", &way).start(&server)
    });
    let client = site.client(&server).train(&fixture("train_single.zip"));
    let client = client.session(worker.credentials()).arguments(&["-v"]).env("HTTP_PROXY", &way);
    let ended = network.on(Machine::Client, || client.run());
    ended.assert_code(0);
    let (way, took_ms) = self::way(&ended.stderr);
    println!("a proxy alone leads out: open after {took_ms:.0} ms, {way}");
    assert!(way.starts_with("relayed by 203.0.113.10"), "{way}");
    // Sign-in, WebSocket and relay of both peers, and the measurement of the relay's latency.
    let connect = format!("CONNECT {} HTTP/1.1", server.address());
    let asked: Vec<String> = asks.try_iter().collect();
    assert!(asked.iter().filter(|asked| **asked == connect).count() >= 6, "{asked:?}");
}

/// The relay's name also has a dead address, and nothing else can carry the job.
#[test]
fn a_dead_ipv6_address_delays_no_connection_that_a_job_needs() {
    let Some(network) = made(Network::new()) else { return };
    network.separate().unwrap();
    reach::lead_ipv6_nowhere(&network, Machine::Client);
    let Some(machines) = machines(Ok(network)) else { return };
    let hosts = format!(
        "127.0.0.1 localhost\n2001:db8:1::dead srv.lab\n{} srv.lab\n",
        machines.network.server_address()
    );
    let url = |scheme| format!("{scheme}://srv.lab:{}", machines.server.address().port());
    let client = machines.site.client(&machines.server);
    let file = client.home().join("hosts");
    std::fs::write(&file, hosts).unwrap();
    let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    let wrapper = ["unshare", "--mount", "sh", "-c", script, file.to_str().unwrap()];
    let client = client.under(&wrapper).train(&fixture("train_single.zip"));
    let client = client.env("SLEAP_RTC_SIGNALING_WS", &url("ws"));
    let client = client.env("SLEAP_RTC_SIGNALING_HTTP", &url("http"));
    let client = client.session(machines.worker.credentials()).arguments(&["-v"]);
    let ended = machines.network.on(Machine::Client, || client.run());
    ended.assert_code(0);
    let (way, took_ms) = way(&ended.stderr);
    println!("beside a dead IPv6 address: open after {took_ms:.0} ms, {way}");
    assert!(way.starts_with("relayed by "), "{}", ended.text());
    assert!(took_ms < 5_000.0, "{took_ms} ms");
}

#[test]
fn without_a_path_every_attempted_way_is_named() {
    let Some(network) = made(Network::new()) else { return };
    network.separate().unwrap();
    let (site, address) = (Site::new(), network.server_address());
    let without = "[signaling]\nrelay = false\n";
    let server = network.on(Machine::Server, || TestServer::configured(&site, address, without));
    let worker = network.on(Machine::Worker, || site.worker(&server));
    let client = site.client(&server).track_fixture(&site).session(worker.credentials());
    let ended = network.on(Machine::Client, || client.run());
    println!("no way at all: told after {:.1} s", ended.took.as_secs_f64());
    ended.assert_code(3).assert_says(&[
        "gave no answer over UDP within 6 s, and the signaling server has no relay",
        "over WebRTC, no path to the other side was found",
        "switch on the signaling server's relay",
    ]);
}

#[test]
fn a_relay_that_refuses_says_why_to_the_user() {
    let Some(network) = made(Network::new()) else { return };
    network.separate().unwrap();
    let (site, address) = (Site::new(), network.server_address());
    let full = "[signaling.limits]\nrelay_connections = 1\n";
    let server = network.on(Machine::Server, || TestServer::configured(&site, address, full));
    // It has the only place.
    let worker = network.on(Machine::Worker, || {
        TestWorker::setup(&site, "worker").arguments(&["-v"]).start(&server)
    });
    wait_for("the worker at the relay", SOON, || {
        let asked = || serving::ask(server.address(), "GET", "/health", "").1;
        network.on(Machine::Client, asked).contains(r#""relay_connections":1"#).then_some(())
    });
    let client = site.client(&server).track_fixture(&site).session(worker.credentials());
    let (mut client, start) = (network.on(Machine::Client, || client.start()), Instant::now());
    wait_said(&client, "the server's relay refuses this program");
    println!("refused by the relay: told after {:.1} s", start.elapsed().as_secs_f64());
    assert_eq!(client.wait(A_WHILE), 3, "{}", client.transcript());
    let said = client.stderr();
    assert!(said.contains("the relay has no place left"), "{said}");
}
