//! `worker --serve`: a worker that is its own signaling server.

use crate::reach;
use crate::support::*;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;

const ANY_PORT: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

fn serving(site: &Site) -> TestWorker {
    TestWorker::setup(site, "worker").serve(ANY_PORT.into())
}

#[test]
fn a_worker_that_serves_needs_no_other_server() {
    let site = Site::new();
    let mut worker = serving(&site);
    let address = worker.served_at();
    let client = || TestClient::new(&site, address).train(&fixture("train_single.zip"));
    client().session(worker.credentials()).run().assert_code(0);
    client().auto(worker.credentials()).run().assert_code(0);
    assert_eq!(worker.stop(), 0);
    assert!(TcpStream::connect(address).is_err(), "the server ends with its worker");
    site.assert_no_process_left();
}

#[test]
fn another_worker_joins_the_room_of_a_worker_that_serves() {
    let site = Site::new();
    let worker = serving(&site);
    let other = TestWorker::setup(&site, "other").join(worker.credentials());
    let other = other.start_at(worker.served_at());
    let client = TestClient::new(&site, worker.served_at()).train(&fixture("train_single.zip"));
    let credentials = other.credentials();
    let ended = client
        .arguments(&["--room-id", &credentials.room_id, "--token", &credentials.token])
        .arguments(&["--worker-id", other.peer_id()])
        .run();
    ended.assert_code(0);
    assert_eq!(other.trainer_starts().len(), 1);
}

#[test]
fn a_worker_returns_to_its_room_at_each_server() {
    let site = Site::new();
    let elsewhere = site.server();
    let worker = serving(&site);
    let (address, here) = (worker.served_at(), worker.credentials().clone());
    let worker = worker.move_to(&elsewhere);
    let there = worker.credentials().clone();
    assert_ne!(here.room_id, there.room_id);
    let worker = worker.move_home(address);
    assert_eq!(*worker.credentials(), here);
    let worker = worker.move_to(&elsewhere);
    assert_eq!(*worker.credentials(), there);
}

/// The error of a worker that does not start with this configuration and these arguments.
fn refused(config: &str, arguments: &[&str], code: i32, words: &[&str]) {
    let site = Site::new();
    let home = site.folder("worker");
    std::fs::write(home.join("sleap-rtc.toml"), config).unwrap();
    let mut command = Site::binary(&home, Path::new("/nonexistent"));
    command.args(["worker", "--serve"]).args(arguments);
    let mut process = Process::start("worker", &mut command);
    assert_eq!(process.wait(SOON), code, "{}", process.transcript());
    for word in words {
        assert!(process.stderr().contains(word), "{word}: {}", process.transcript());
    }
}

/// The first line that a server answers to a browser that follows `link`.
fn status(link: &str) -> String {
    let (address, _) = link.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /app/ HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line
}

#[test]
fn every_address_that_it_prints_leads_to_it() {
    for (listen, printed) in [
        ("127.88.0.3:8080", "http://127.88.0.3:8080"),
        ("127.88.0.3:8001", "ws://127.88.0.3:8001"),
        ("127.0.0.1:0", "ws://127.0.0.1:"),
        ("[::1]:0", "ws://[::1]:"),
    ] {
        if listen.starts_with('[') && TcpListener::bind(listen).is_err() {
            println!("{listen}: not run, there is no IPv6 here");
            continue;
        }
        let site = Site::new();
        let worker = TestWorker::setup(&site, "worker").serve(listen.parse().unwrap());
        let options = worker.served_options();
        assert!(options.len() == 1 && options[0].starts_with(printed), "{options:?}");
        let asked = reach::said(&mut reach::ask(&site.folder("client"), &options[0], None, &[]));
        assert!(asked.0 == 3 && asked.1.contains(reach::ARRIVED), "{asked:?}");
        assert!(status(&worker.page_link()).contains("200"), "{}", worker.page_link());
    }
}

#[test]
fn a_worker_meets_its_clients_at_one_server() {
    refused("", &["--signaling", "ws://gpu1:8080"], 2, &["--serve", "--signaling"]);
}

#[test]
fn a_port_that_is_taken_ends_the_worker_too() {
    let taken = TcpListener::bind(SocketAddr::from(ANY_PORT)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let config = format!("[signaling]\nlisten = [\"{address}\"]\n");
    refused(&config, &[], 3, &[&address, "listen"]);
}

#[test]
fn a_second_start_names_the_first() {
    let site = Site::new();
    let first = serving(&site);
    let (pid, listen) = (format!("process {}", first.pid()), first.served_at().to_string());
    let again = |home: &Path, words: &[&str]| {
        let mut command = Site::binary(home, Path::new("/nonexistent"));
        let mut process = Process::start("second", command.args(words));
        assert_ne!(process.wait(SOON), 0);
        process.stderr()
    };
    let words = ["signaling", "--ephemeral", "--listen", &listen];
    let said = again(&site.folder("other"), &words);
    assert!(said.contains(&pid) && said.contains("`sleap-rtc worker`"), "{said}");
    let state = first.state_dir().to_str().unwrap().to_owned();
    let config = format!("[signaling]\nlisten = [\"{listen}\"]\n");
    std::fs::write(site.folder("same").join("sleap-rtc.toml"), config).unwrap();
    let serving = ["worker", "--serve", "--state-dir", &state];
    let beside = ["worker", "--signaling", "ws://127.0.0.1:1", "--state-dir", &state];
    for (home, words) in [("same", &serving[..]), ("other", &beside)] {
        let said = again(&site.folder(home), words);
        for word in [&pid, &first.credentials().room_id, "keeps running after its terminal closes"]
        {
            assert!(said.contains(word), "{word}: {said}");
        }
    }
}

#[test]
fn a_worker_that_cannot_start_ends_its_server() {
    let config = "[signaling]\nlisten = [\"127.0.0.1:0\"]\n";
    refused(config, &["--state-dir", "/proc/nowhere"], 2, &["/proc/nowhere"]);
}

#[test]
fn a_server_with_a_certificate_is_called_by_its_name() {
    let site = Site::new();
    let folder = site.folder("certificates");
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let config = format!(
        "[signaling]\nlisten = [\"127.0.0.1:0\"]\ntls_cert = \"{0}/cert.pem\"\ntls_key = \"{0}/key.pem\"\n",
        folder.display()
    );
    refused(&config, &[], 2, &["certificate", "signaling_websocket"]);
}
