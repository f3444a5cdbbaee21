//! A server that nobody has named is found on the network, and used once the user agrees.

use crate::network::made;
use crate::support::*;
use simple_dns::rdata::{PTR, RData, SRV};
use simple_dns::{CLASS, Label, Name, Packet, ResourceRecord};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

/// Where a worker that serves listens here.
const ANYWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9000);
/// The same on the network.
const AT: &str = "ws://10.77.0.2:9000";
/// The ports that are looked for on one's own machine.
const DEFAULT: &str =
    "[environments.production.signaling]\nlisten = [\"0.0.0.0:8080\", \"0.0.0.0:8001\"]\n";

/// A client for which nobody has named a server.
fn client(site: &Site, home: &Path) -> TestClient {
    let client = TestClient::new(site, ANYWHERE).in_home(home).train(&fixture("train_single.zip"));
    client.env("SLEAP_RTC_SIGNALING_WS", "").env("SLEAP_RTC_SIGNALING_HTTP", "")
}

/// Runs a client in a terminal, and answers its question about the server.
#[track_caller]
fn answered(client: TestClient, answer: &str, code: i32) -> String {
    let mut client = client.on_terminal().start_with_input();
    client.wait_stdout("the question", SOON, |text| text.contains("[y/N]").then_some(()));
    client.type_line(answer);
    assert_eq!(client.wait(A_WHILE), code, "{}", client.transcript());
    client.transcript()
}

#[test]
fn a_worker_that_serves_is_found_and_used_once_the_user_agrees() {
    let Some(network) = made(Network::new()) else { return };
    let (site, worker_site) = (Site::new(), Site::new());
    let worker =
        network.on(Machine::Worker, || TestWorker::setup(&worker_site, "worker").serve(ANYWHERE));
    assert!(worker.stdout().contains("find it by themselves"), "{}", worker.stdout());
    let home = site.folder("laptop");
    let client = || client(&site, &home).auto(worker.credentials());
    network.on(Machine::Client, || {
        let refused = client().run();
        refused.assert_code(3).assert_says(&["consent", &format!("--signaling {AT}")]);
        println!("refused after {:.1} s", refused.took.as_secs_f64());
        answered(client(), "n", 3);
        let said = answered(client(), "y", 0);
        assert!(said.contains(AT), "{said}");
        // From now on without a question.
        client().run().assert_code(0).assert_says(&[&format!("at {AT}")]);
    });
    // So does a worker, of which it is enough that this user has agreed once.
    let other = TestWorker::setup(&site, "other").join(worker.credentials());
    let data = home.join(".local/share");
    let other = other.env("XDG_DATA_HOME", data.to_str().unwrap());
    let other = other.env("SLEAP_RTC_SIGNALING_WS", "").env("SLEAP_RTC_SIGNALING_HTTP", "");
    let other = network.on(Machine::Client, || other.start_at(ANYWHERE));
    assert!(other.log().contains(AT), "{}", other.log());
}

#[test]
fn a_server_that_shall_not_be_announced_is_not_found() {
    let Some(network) = made(Network::new()) else { return };
    let site = Site::new();
    let setup = TestWorker::setup(&site, "worker")
        .config("[environments.production.signaling]\nannounce = false\n");
    let worker = network.on(Machine::Worker, || setup.serve(ANYWHERE));
    assert!(!worker.stdout().contains("find it by themselves"), "{}", worker.stdout());
    let client = client(&site, &site.folder("laptop")).auto(worker.credentials());
    let ended = network.on(Machine::Client, || client.run());
    ended.assert_code(3).assert_says(&[
        "localhost:8001",
        "No signaling server is named",
        "--signaling",
    ]);
}

#[test]
fn on_a_machine_without_a_network_its_own_server_is_used() {
    let island = match Island::new() {
        Ok(island) => island,
        Err(error) => return println!("not run: no network namespaces here ({error})"),
    };
    let site = Site::new();
    let setup = TestWorker::setup(&site, "worker").config(DEFAULT);
    let worker = island.on(|| setup.serve(ANYWHERE));
    let client = client(&site, &site.folder("laptop")).auto(worker.credentials());
    let ended = island.on(|| client.run());
    ended.assert_code(0);
    assert!(!ended.text().contains("found on this network"), "{}", ended.text());
}

/// Answers each question on the network with many servers at this machine, with hostile names.
fn answer_with_a_flood(socket: &UdpSocket) {
    let mut message = [0; 1500];
    while let Ok((_, asker)) = socket.recv_from(&mut message) {
        for number in 0..100_u16 {
            let name = format!("\x1b[2J\u{202e}{number}");
            let service = Name::new_unchecked("_sleap-rtc._tcp.local");
            let labels =
                [&[Label::new_unchecked(name.as_bytes())][..], service.get_labels()].concat();
            let instance = Name::new_with_labels(&labels);
            let mut packet = Packet::new_reply(0);
            let record = |name: &Name<'_>, data| {
                ResourceRecord::new(name.clone().into_owned(), CLASS::IN, 120, data)
            };
            let target = Name::new_unchecked("evil.local");
            let port = 1 + number;
            packet.answers.push(record(&service, RData::PTR(PTR(instance.clone()))));
            let srv = SRV { priority: 0, weight: 0, port, target };
            packet.answers.push(record(&instance, RData::SRV(srv)));
            socket.send_to(&packet.build_bytes_vec().unwrap(), asker).unwrap();
        }
    }
}

#[test]
fn a_flood_of_hostile_answers_is_bounded_text_and_no_more() {
    let Some(network) = made(Network::new()) else { return };
    let site = Site::new();
    let hostile = network.on(Machine::Server, || UdpSocket::bind(("0.0.0.0", 5353)).unwrap());
    let here = Ipv4Addr::new(10, 77, 0, 1);
    hostile.join_multicast_v4(&Ipv4Addr::new(224, 0, 0, 251), &here).unwrap();
    hostile.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let flood = std::thread::spawn(move || answer_with_a_flood(&hostile));
    let client = client(&site, &site.folder("laptop"));
    let client = client.arguments(&["--room-id", "r", "--token", "t", "--auto-select"]);
    let ended = network.on(Machine::Client, || client.run());
    ended.assert_code(3).assert_says(&["consent", "--signaling ws://10.77.0.1:"]);
    println!("refused after {:.1} s:\n{}", ended.took.as_secs_f64(), ended.stderr);
    assert_eq!(ended.text().matches("--signaling").count(), 8, "{}", ended.text());
    assert!(!ended.text().contains(['\x1b', '\u{202e}']), "{:?}", ended.text());
    flood.join().unwrap();
}
