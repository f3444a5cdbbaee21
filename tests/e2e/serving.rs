//! The signaling server with TLS, behind a proxy, within its limits, and without secrets in its
//! log.

use crate::support::*;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    time::Instant,
};
use tokio_tungstenite::tungstenite;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Writes a new self-signed certificate for 127.0.0.1, and its key.
fn certify(folder: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let pem = made.cert.pem();
    std::fs::write(folder.join("cert.pem"), &pem).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    pem
}

/// Sends a request as text. Returns the status and everything after the head.
pub fn ask(server: SocketAddr, method: &str, path: &str, headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: 0\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn a_job_over_tls_and_a_certificate_that_is_exchanged() {
    let site = Site::new();
    let folder = site.folder("certificates");
    let pem = certify(&folder);
    let config = format!(
        "[signaling]\ntls_cert = \"{0}/cert.pem\"\ntls_key = \"{0}/key.pem\"\n",
        folder.display()
    );
    let server = TestServer::configured(&site, LOCALHOST, &config);
    let trusted = folder.join("trusted.pem");
    std::fs::write(&trusted, &pem).unwrap();
    let (ws, http) =
        (format!("wss://{}", server.address()), format!("https://{}", server.address()));
    let secure = [
        ("SLEAP_RTC_SIGNALING_WS", ws.as_str()),
        ("SLEAP_RTC_SIGNALING_HTTP", &http),
        ("SSL_CERT_FILE", trusted.to_str().unwrap()),
    ];
    let setup = TestWorker::setup(&site, "worker");
    let setup = secure.iter().fold(setup, |setup, (name, value)| setup.env(name, value));
    let worker = setup.start(&server);
    let client = || site.client(&server).train(&fixture("train_single.zip"));
    let train = || secure.iter().fold(client(), |client, (name, value)| client.env(name, value));
    train().auto(worker.credentials()).run().assert_code(0);
    // A client that does not trust the certificate fails.
    let stranger = client().env("SLEAP_RTC_SIGNALING_WS", &ws);
    let stranger = stranger.env("SLEAP_RTC_SIGNALING_HTTP", &http);
    stranger.session(worker.credentials()).run().assert_code(3).assert_says(&["certificate"]);
    // So does a client with the old certificate, after a new one was loaded.
    certify(&folder);
    let pid = Pid::from_raw(server.pid() as i32).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    wait_for("the new certificate", SOON, || {
        server.transcript().contains("certificate reloaded").then_some(())
    });
    train().session(worker.credentials()).run().assert_code(3).assert_says(&["certificate"]);
}

#[test]
fn a_client_behind_a_trusted_proxy_has_an_address_of_its_own() {
    let site = Site::new();
    let config = "[signaling]\ntrust_proxy = true\n\
                  [signaling.limits]\nrooms_per_address = 2\nsockets_per_address = 2\n";
    let server = TestServer::configured(&site, LOCALHOST, config);
    let (_, identity) = post(server.address(), "/anonymous-signin", None, "");
    let bearer = format!("Authorization: Bearer {}\r\n", identity["id_token"].as_str().unwrap());
    let room = |from: &str| {
        let headers = format!("{bearer}X-Forwarded-For: {from}\r\n");
        ask(server.address(), "POST", "/create-room", &headers).0
    };
    // A header that the client writes itself does not change its address.
    let statuses = ["192.0.2.1", "7.7.7.7, 192.0.2.1", "8.8.8.8, 192.0.2.1", "192.0.2.2"].map(room);
    assert_eq!(statuses, [200, 200, 429, 200]);
    assert_eq!([(); 4].map(|()| room("127.0.0.1")), [200; 4], "loopback has no limit");
    let open = |from: &str| {
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let url = format!("ws://{}/", server.address());
        let mut request = tungstenite::client::IntoClientRequest::into_client_request(url).unwrap();
        request.headers_mut().insert("x-forwarded-for", from.parse().unwrap());
        let opened = tungstenite::client(request, stream).map(|(socket, _)| socket);
        opened.map_err(|refused| refused.to_string())
    };
    let held = [open("192.0.2.1").unwrap(), open("192.0.2.1").unwrap()];
    let refused = open("192.0.2.1").unwrap_err();
    assert!(refused.contains("429"), "{refused}");
    open("192.0.2.3").unwrap();
    drop(held);
    wait_for("the sockets to be given back", SOON, || open("192.0.2.1").ok());
    let (_, metrics) = ask(server.address(), "GET", "/metrics", "");
    assert!(metrics.contains("sleap_rtc_rate_limited_total"), "{metrics}");
}

#[test]
fn metrics_come_as_prometheus_text_or_as_json() {
    let site = Site::new();
    let server = site.server();
    let _worker = site.worker(&server);
    let (status, text) = ask(server.address(), "GET", "/metrics", "");
    assert_eq!(status, 200);
    for line in [
        "# TYPE sleap_rtc_peers gauge",
        "sleap_rtc_peers 1",
        "sleap_rtc_rooms 1",
        "# TYPE sleap_rtc_registrations_total counter",
        "sleap_rtc_registrations_total 1",
    ] {
        assert!(text.lines().any(|found| found == line), "no {line:?} in\n{text}");
    }
    for (path, accept) in [("/metrics", "Accept: application/json\r\n"), ("/health", "")] {
        let (status, body) = ask(server.address(), "GET", path, accept);
        let json: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &json["status"], &json["peers"]), (200, &json!("ok"), &json!(1)));
    }
}

#[test]
fn the_servers_log_has_rooms_and_peers_and_no_secret() {
    let site = Site::new();
    let mut server = TestServer::verbose(&site);
    let worker = site.worker(&server);
    let credentials = worker.credentials().clone();
    let client = site.client(&server).train(&fixture("train_single.zip"));
    client.auto(&credentials).run().assert_code(0);
    let (_, identity) = post(server.address(), "/anonymous-signin", None, "");
    let (_, room) = post(server.address(), "/create-room", identity["id_token"].as_str(), "");
    // A refused registration is logged, without its token.
    let _observer = Observer::join_at(
        server.address(),
        room["room_id"].as_str().unwrap(),
        room["token"].as_str().unwrap(),
    );
    assert_eq!(server.stop(), 0);
    let log = server.transcript();
    for word in [&credentials.room_id, &credentials.peer_id, "registered", "forwarded", "left"] {
        assert!(log.contains(word), "no {word:?} in the log:\n{log}");
    }
    let id_token = identity["id_token"].as_str().unwrap();
    let room_token = room["token"].as_str().unwrap();
    for secret in [
        credentials.server_token(),
        id_token,
        room_token,
        "ice-pwd",
        "a=candidate",
        "fingerprint:",
        "eyJ",
    ] {
        assert!(!log.contains(secret), "{secret:?} is in the log:\n{log}");
    }
}

#[test]
fn a_server_that_stops_tells_its_peers_to_come_back_and_they_do() {
    let site = Site::new();
    let mut server = TestServer::persistent(&site);
    let setup = TestWorker::setup(&site, "worker").env("FAKE_SLEAP_BATCH_S", "0.5");
    let worker = setup.env("FAKE_SLEAP_STEPS", "20").start(&server);
    let room = worker.credentials();
    let mut client = site.client(&server).train(&fixture("train_single.zip")).auto(room).start();
    let mut observer = Observer::join(&server, room);
    observer.wait_status(worker.peer_id(), "busy", SOON);
    let before = observer.peers("client");
    assert_eq!(before.len(), 1, "{before:?}");
    assert_eq!(server.stop(), 0);
    assert_eq!(observer.close_code(), Some(1012));
    server.restart();
    let start = Instant::now();
    let mut observer = Observer::join(&server, room);
    observer.wait_status(worker.peer_id(), "busy", SOON);
    let worker_s = start.elapsed().as_secs_f64();
    wait_for("the client", SOON, || (observer.peers("client") == before).then_some(()));
    let client_s = start.elapsed().as_secs_f64();
    println!(
        "after a restart the worker was back in {worker_s:.1} s, the client in {client_s:.1} s"
    );
    let told = "code=Some(1012)";
    assert!(worker.log().contains(told), "{}", worker.log());
    assert_eq!(client.wait(A_WHILE), 0, "{}", client.transcript());
    worker.wait_idle(&site, &server);
}

#[test]
fn silent_strangers_take_all_descriptors_and_no_peers_place() {
    let site = Site::new();
    // The soft limit is below the hard one, as on most systems.
    let server = TestServer::with_descriptors(&site, 100, 200);
    let worker = site.worker(&server);
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(TcpStream::connect(server.address()).unwrap());
    }
    let asked = Instant::now();
    let (status, health) = ask(server.address(), "GET", "/health", "");
    let health: Value = serde_json::from_str(&health).unwrap();
    println!("/health among 400 silent strangers: {:.0} ms", asked.elapsed().as_secs_f64() * 1e3);
    assert_eq!((status, &health["sockets_limit"], &health["peers"]), (200, &json!(136), &json!(1)));
    let client = site.client(&server).train(&fixture("train_single.zip"));
    client.auto(worker.credentials()).run().assert_code(0);
    let log = server.transcript();
    assert!(!log.contains("cannot accept"), "{log}");
    drop(silent);
}

#[test]
fn a_hangup_ends_neither_server_nor_worker() {
    let site = Site::new();
    let mut server = site.server();
    let worker = site.worker(&server);
    for pid in [server.pid(), worker.pid()] {
        kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::HUP).unwrap();
    }
    wait_for("both to say so", SOON, || {
        let said = |log: String| log.contains("SIGHUP is ignored");
        (said(server.transcript()) && said(worker.log())).then_some(())
    });
    let client = site.client(&server).train(&fixture("train_single.zip"));
    client.auto(worker.credentials()).run().assert_code(0);
    assert_eq!(server.stop(), 0);
}
