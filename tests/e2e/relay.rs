//! Two machines that can reach each other only through a TURN server: Debian's coturn, with the
//! accounts that the signaling server derives.

use crate::support::*;
use crate::ways::way;
use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    time::Duration,
};

/// A developer without coturn, iproute2 or root sets this variable. The tests then report that they
/// did not run.
const WITHOUT: &str = "SLEAP_RTC_WITHOUT_RELAY";
/// More than the client and the worker exchange besides the payload.
const PACKAGE_BYTES: u64 = 5_000_000;
/// The server's own relay is off, because it would make TURN unnecessary.
const WEBRTC: [&str; 2] = ["--transport", "webrtc"];

/// Machines for a client and a worker that can reach only the server's.
fn network() -> Network {
    let network = Network::new().unwrap();
    network.separate().unwrap();
    network
}

/// Fails if the client does not need the relay.
fn assert_separate(network: &Network, server: &TestServer) {
    let worker = network.on(Machine::Worker, || TcpListener::bind("0.0.0.0:0").unwrap());
    let port = worker.local_addr().unwrap().port();
    let open = |to: SocketAddr| TcpStream::connect_timeout(&to, Duration::from_millis(500));
    let worker = SocketAddr::from(([10, 77, 0, 2], port));
    network.on(Machine::Server, || assert!(open(worker).is_ok(), "nobody reaches the worker"));
    network.on(Machine::Client, || {
        assert!(open(server.address()).is_ok(), "the client does not reach the server");
        assert!(open(worker).is_err(), "the client reaches the worker without a relay");
    });
}

/// coturn on the server's machine; its secret is `north`.
fn coturn(site: &Site, network: &Network) -> Process {
    let address = network.server_address();
    let home = site.folder("coturn");
    let mut command = Command::new("turnserver");
    command.args(["-n", "--verbose", "--no-cli", "--no-tls", "--no-dtls", "--log-file=stdout"]);
    command.args(["--use-auth-secret", "--static-auth-secret=north", "--realm=lab"]);
    command.args([format!("--listening-ip={address}"), format!("--relay-ip={address}")]);
    command.arg(format!("--pidfile={}", home.join("pid").display()));
    command.arg(format!("--userdb={}", home.join("users").display())).current_dir(&home);
    let mut coturn = network.on(Machine::Server, || Process::start("coturn", &mut command));
    let opened = format!("UDP listener opened on: {address}:3478");
    coturn.wait_stdout("its listener", SOON, |text| text.contains(&opened).then_some(()));
    coturn
}

/// A signaling server that derives accounts from `secret`.
fn server(site: &Site, network: &Network, secret: &str) -> TestServer {
    let address = network.server_address();
    let config = format!(
        "[signaling]\nice_servers = [{{ urls = \"turn:{address}:3478\", secret = \"{secret}\" }}]\n"
    );
    network.on(Machine::Server, || TestServer::configured(site, address, &config))
}

/// The bytes that coturn has relayed for the account of `peer`, once its sessions have ended.
fn carried_bytes(coturn: &mut Process, peer: &str) -> u64 {
    let account = format!(":{peer}>");
    let closed = |line: &&str| line.contains(": closed ") && line.contains(&account);
    coturn.wait_stdout("the end of a session", SOON, |text| {
        text.lines().find(closed)?;
        let usage =
            text.lines().filter(|line| line.contains(": usage: ") && line.contains(&account));
        let number = |line: &str, key: &str| {
            line.split_once(key)?.1.split(',').next()?.trim().parse::<u64>().ok()
        };
        let carried =
            usage.filter_map(|line| Some(number(line, ", rb=")? + number(line, ", sb=")?));
        Some(carried.sum())
    })
}

/// Whether these tests run. Prints a line if not.
fn left_out() -> bool {
    let left_out = std::env::var_os(WITHOUT).is_some();
    if left_out {
        println!("not run: {WITHOUT} is set");
    } else {
        let root = rustix::process::geteuid().is_root();
        let coturn = Command::new("turnserver").arg("--version").output().is_ok();
        assert!(root && coturn, "needs root, iproute2 and coturn; or set {WITHOUT}=1");
    }
    left_out
}

#[test]
fn a_job_completes_through_the_relay_alone() {
    if left_out() {
        return;
    }
    let (site, network) = (Site::new(), network());
    let mut coturn = coturn(&site, &network);
    let server = server(&site, &network, "north");
    assert_separate(&network, &server);
    let worker = TestWorker::setup(&site, "worker").given_ice_servers().arguments(&WEBRTC);
    let mut worker = network.on(Machine::Worker, || worker.start(&server));

    let labels = large_labels(&site, PACKAGE_BYTES);
    let (_, models) = labels_and_models(&site);
    let client = site.client(&server).given_ice_servers().track(&labels, &models);
    let client = client.auto(worker.credentials()).arguments(&WEBRTC);
    let predictions = client.predictions();
    let ended = network.on(Machine::Client, || client.run());
    ended.assert_code(0);
    assert_eq!(fs::metadata(predictions).unwrap().len(), PACKAGE_BYTES);
    worker.stop();

    let text = coturn.stdout();
    let accounts = text.lines().filter_map(|line| line.split_once(" user <")?.1.split_once('>'));
    let client = accounts
        .filter_map(|(account, _)| account.split_once(':'))
        .map(|(_, peer)| peer.to_owned())
        .find(|peer| peer != worker.peer_id())
        .expect("the client has an account of its own");
    let by_client = carried_bytes(&mut coturn, &client);
    let by_worker = carried_bytes(&mut coturn, worker.peer_id());
    println!(
        "the relay carried {by_client} bytes for the client's account and {by_worker} for the \
         worker's: {PACKAGE_BYTES} bytes of labels there, as many of predictions back, in {:.1} s",
        ended.took.as_secs_f64()
    );
    assert!(by_client + by_worker > 2 * PACKAGE_BYTES, "{}", coturn.transcript());
}

#[test]
fn without_an_account_there_is_no_path() {
    if left_out() {
        return;
    }
    let (site, network) = (Site::new(), network());
    let _coturn = coturn(&site, &network);
    let server = server(&site, &network, "south");
    let worker = TestWorker::setup(&site, "worker").given_ice_servers().arguments(&WEBRTC);
    let worker = network.on(Machine::Worker, || worker.start(&server));
    let client = site.client(&server).given_ice_servers().track_fixture(&site);
    let client = client.session(worker.credentials()).arguments(&WEBRTC);
    let ended = network.on(Machine::Client, || client.run());
    ended.assert_code(3).assert_says(&["no path"]);
}

#[test]
fn where_iroh_finds_no_path_webrtc_takes_over() {
    if left_out() {
        return;
    }
    let (site, network) = (Site::new(), network());
    let _coturn = coturn(&site, &network);
    let address = network.server_address();
    let config = format!(
        "[signaling]\nrelay = false\nice_servers = [{{ urls = \"turn:{address}:3478\", secret = \"north\" }}]\n"
    );
    let server = network.on(Machine::Server, || TestServer::configured(&site, address, &config));
    let worker = TestWorker::setup(&site, "worker").given_ice_servers();
    let worker = network.on(Machine::Worker, || worker.start(&server));
    let client = site.client(&server).given_ice_servers().track_fixture(&site);
    let client = client.session(worker.credentials()).arguments(&["-v"]);
    let ended = network.on(Machine::Client, || client.run());
    let (way, took_ms) = way(&ended.assert_code(0).stderr);
    println!("no path for iroh: open after {took_ms:.0} ms, {way}");
    assert!(way.starts_with("relayed by a TURN server"), "{way}");
    assert!(took_ms < 6_000.0, "{took_ms} ms");
}
