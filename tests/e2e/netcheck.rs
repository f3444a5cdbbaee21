//! `sleap-rtc netcheck` shows what a network allows before a user waits for a job.

use crate::network::made;
use crate::support::*;
use crate::ways::machines;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::thread;

/// Exit code and output.
fn netcheck(site: &Site, server: &str, arguments: &[&str]) -> (i32, String) {
    let mut command = Site::binary(&site.folder("machine"), Path::new("/nonexistent"));
    command.args(["netcheck", "--signaling", server]).args(arguments);
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap(), text)
}

/// The result of one check, as `verdict: text`. Empty if it was not made.
fn found(text: &str, check: &str) -> Vec<String> {
    let findings: Value = serde_json::from_str(text).unwrap();
    let findings = findings.as_array().unwrap().iter().filter(|found| found["check"] == check);
    let words = |found: &Value, key: &str| found[key].as_str().unwrap_or_default().to_owned();
    findings.map(|found| format!("{}: {}", words(found, "verdict"), words(found, "says"))).collect()
}

/// A STUN server that reports each peer's address as changed by `seen`. It does not answer if
/// `seen` returns nothing.
fn stun(seen: impl Fn(SocketAddr) -> Option<SocketAddr> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut request = [0; 100];
        while let Ok((_, from)) = socket.recv_from(&mut request) {
            let Some(SocketAddr::V4(seen)) = seen(from) else { continue };
            // A success response with a single attribute, the unmasked address.
            let mut answer = vec![1, 1, 0, 12];
            answer.extend(&request[4..20]);
            answer.extend([0, 1, 0, 8, 0, 1]);
            answer.extend(seen.port().to_be_bytes());
            answer.extend(seen.ip().octets());
            let _ = socket.send_to(&answer, from);
        }
    });
    address
}

#[test]
fn a_network_that_lets_everything_through_passes() {
    let site = Site::new();
    let server = site.server();
    let url = format!("ws://{}", server.address());
    let stun = stun(Some);
    let (code, text) = netcheck(&site, &url, &["--ice-server", &format!("stun:{stun}")]);
    assert_eq!(code, 0);
    for words in
        ["answers in", "lets peers register", "within", "others see this machine as", "none:"]
    {
        assert!(text.contains(words), "{words}");
    }
    assert!(text.lines().all(|line| line.starts_with("ok ")), "{text}");
    let (code, text) = netcheck(&site, &url, &["--json", "--ice-server", "none"]);
    assert_eq!((code, found(&text, "relay").len()), (0, 1));
    assert!(found(&text, "udp")[0].contains("not tested"));
}

#[test]
fn a_network_without_udp_is_told_from_one_that_translates_addresses() {
    let site = Site::new();
    let server = site.server();
    let url = format!("ws://{}", server.address());
    let given = |servers: &[SocketAddr]| {
        let options =
            servers.iter().flat_map(|server| ["--ice-server".into(), format!("stun:{server}")]);
        options.chain(["--json".to_owned()]).collect::<Vec<String>>()
    };
    let check = |servers: &[SocketAddr], url: &str| {
        let options = given(servers);
        netcheck(&site, url, &options.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let (code, text) = check(&[stun(|_| None)], &url);
    let udp = found(&text, "udp");
    assert!(
        code == 0 && udp[0].starts_with("warn: ") && udp[0].contains("UDP is blocked"),
        "{udp:?}"
    );
    // Without a relay, nothing would work.
    let alone =
        TestServer::configured(&site, [127, 0, 0, 1].into(), "[signaling]\nrelay = false\n");
    let (code, text) = check(&[stun(|_| None)], &format!("ws://{}", alone.address()));
    assert_eq!(code, 1);
    assert!(found(&text, "relay")[0].starts_with("warn: "), "{text}");
    assert!(found(&text, "udp")[0].starts_with("fail: "), "{text}");

    let outside = |port: u16| move |_| Some(SocketAddr::from(([198, 51, 100, 7], port)));
    for (ports, verdict, words) in
        [([1000, 1000], "ok: ", "one address for all"), ([1000, 1001], "warn: ", "symmetric")]
    {
        let (code, text) = check(&ports.map(|port| stun(outside(port))), &url);
        let nat = found(&text, "nat");
        assert!(nat[0].starts_with(verdict) && nat[0].contains(words), "{nat:?}");
        let address = &found(&text, "address")[0];
        assert!(code == 0 && address.contains("198.51.100.7:100"), "{address}");
    }
}

/// Answers every request like the login page of a network.
fn portal() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let _ = client.read(&mut request);
            let _ = client.write_all(
                b"HTTP/1.1 302 Found\r\nLocation: http://login.campus/?from=1\r\n\
                  Content-Length: 0\r\nConnection: close\r\n\r\n",
            );
        }
    });
    address
}

#[test]
fn a_login_page_at_the_servers_address_is_identified() {
    let site = Site::new();
    let url = format!("ws://{}", portal());
    let (code, text) = netcheck(&site, &url, &["--ice-server", "none"]);
    assert_eq!(code, 1);
    for words in ["redirects to http://login.campus/", "open a browser and log in first"] {
        assert!(text.contains(words), "{words}");
    }
    // A job gets the same message.
    let mut command = Site::binary(&site.folder("client"), Path::new("/nonexistent"));
    command.args(["room", "list", "--room-id", "r", "--token", "0", "--signaling", &url]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("log in first"), "{said}");
}

/// Checks the ways to the workers of `room`.
fn ways_of(room: &Credentials, site: &Site, url: &str, more: &[&str]) -> (i32, String) {
    let Credentials { room_id, token, .. } = room;
    let mut arguments = vec!["--json", "--ice-server", "none"];
    arguments.extend(["--room-id", room_id.as_str(), "--token", token.as_str()]);
    arguments.extend(more);
    netcheck(site, url, &arguments)
}

#[test]
fn each_way_to_a_worker_is_measured_and_takes_no_slot() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let url = format!("ws://{}", server.address());
    let (code, text) = ways_of(worker.credentials(), &site, &url, &[]);
    assert_eq!(code, 0, "{text}");
    for (check, route) in
        [("direct", "direct"), ("relayed", "relayed by 127.0.0.1"), ("webrtc", "direct")]
    {
        let found = found(&text, check);
        let begins = format!("ok: {}: {route}", worker.peer_id());
        assert!(found[0].starts_with(&begins) && found[0].ends_with(" MB/s"), "{found:?}");
    }
    let session = worker.credentials().session_string.as_str();
    let (code, text) =
        netcheck(&site, &url, &["--json", "--ice-server", "none", "--session-string", session]);
    assert_eq!((code, found(&text, "relayed").len()), (0, 1));
    let (code, text) = ways_of(worker.credentials(), &site, &url, &["--worker-id", "nobody"]);
    assert_eq!(code, 1);
    assert!(found(&text, "worker")[0].starts_with("fail: nobody: "), "{text}");
    assert!(worker.jobs().is_empty());
}

#[test]
fn a_busy_worker_is_measured_too() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").env("FAKE_SLEAP_BATCH_S", "0.5");
    let worker = setup.env("FAKE_SLEAP_STEPS", "20").start(&server);
    let client = site.client(&server).train(&fixture("train_single.zip"));
    let mut client = client.session(worker.credentials()).arguments(&["--log"]).start();
    crate::reconnect::wait_training(&mut client);
    let url = format!("ws://{}", server.address());
    let (code, text) = ways_of(worker.credentials(), &site, &url, &[]);
    assert!(code == 0 && found(&text, "direct")[0].starts_with("ok: "), "{text}");
}

#[test]
fn where_udp_is_blocked_the_relay_is_measured_and_the_others_say_why_not() {
    let Some(network) = made(Network::new()) else { return };
    network.block_udp().unwrap();
    let Some(machines) = machines(Ok(network)) else { return };
    let url = format!("ws://{}", machines.server.address());
    let room = machines.worker.credentials();
    let check = || ways_of(room, &machines.site, &url, &[]);
    let (code, text) = machines.network.on(Machine::Client, check);
    assert_eq!(code, 0, "{text}");
    assert!(found(&text, "direct")[0].starts_with("warn: "), "{text}");
    assert!(found(&text, "relayed")[0].starts_with("ok: "), "{text}");
    assert!(found(&text, "webrtc")[0].starts_with("warn: "), "{text}");
}
