//! Three signaling servers and a real NATS: jobs across them, and through the loss of one.

use crate::network::made;
use crate::reconnect::wait_training;
use crate::support::*;
use crate::tls::Certificate;
use crate::ways::way;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Within which a peer is at another server, by the requirement; a busy machine may need twice that.
const MOVE_LIMIT: Duration = Duration::from_secs(5);

/// Three servers, a worker that begins at the first, and a client's data folder.
struct Lab {
    site: Site,
    _broker: TestBroker,
    servers: [TestServer; 3],
    worker: TestWorker,
    data: PathBuf,
}

/// `None` where there is no broker. A training takes some seconds if each batch takes `batch_s`.
fn lab(batch_s: &str) -> Option<Lab> {
    let site = Site::new();
    let broker = TestBroker::start()?;
    let servers = [(); 3].map(|()| broker.server(&site, Ipv4Addr::LOCALHOST.into()));
    let [first, second, third] = &servers;
    let mut setup = TestWorker::setup(&site, "worker")
        .env("FAKE_SLEAP_BATCH_S", batch_s)
        .env("FAKE_SLEAP_STEPS", "10");
    for (name, list) in server_lists(&[first, second, third]) {
        setup = setup.env(name, &list);
    }
    let worker = setup.start(first);
    for server in &servers {
        let mut observer = Observer::join(server, worker.credentials());
        observer.wait_status(worker.peer_id(), "available", SOON);
    }
    let data = site.folder("data");
    Some(Lab { site, _broker: broker, servers, worker, data })
}

impl Lab {
    /// A client that begins at the second server.
    fn client(&self) -> TestClient {
        let [first, second, third] = &self.servers;
        let client = self.site.client(second).env("XDG_DATA_HOME", self.data.to_str().unwrap());
        let lists = server_lists(&[second, third, first]);
        lists.iter().fold(client, |client, (name, list)| client.env(name, list))
    }

    /// Waits until the third server lists the worker with this status.
    fn wait_status(&self, status: &str) {
        self.wait_status_at(&self.servers[2], status);
    }

    fn wait_status_at(&self, server: &TestServer, status: &str) {
        let mut observer = Observer::join(server, self.worker.credentials());
        observer.wait_status(self.worker.peer_id(), status, SOON);
    }
}

#[test]
fn jobs_run_between_peers_at_different_servers() {
    let Some(lab) = lab("0.2") else { return };
    let client = lab.client().train(&fixture("train_single.zip")).auto(lab.worker.credentials());
    let output = client.output();
    let mut client = client.start();
    wait_training(&mut client);
    // Others see that it is busy, at the third server and at the client's.
    lab.wait_status("busy");
    lab.wait_status_at(&lab.servers[1], "busy");
    let second = lab.client().train(&fixture("train_single.zip")).auto(lab.worker.credentials());
    second.run_within(SOON).assert_code(5).assert_says(&["busy"]);
    let listed = lab.client().arguments(&["room", "list"]).room(lab.worker.credentials());
    listed.run_within(SOON).assert_code(0).assert_says(&[lab.worker.peer_id(), "busy"]);
    assert_eq!(client.wait(A_WHILE), 0, "{}", client.transcript());
    assert!(files_below(&output).iter().any(|file| file.ends_with("best.ckpt")));
    lab.wait_status("available");

    let (labels, models) = labels_and_models(&lab.site);
    let client = lab.client().track(&labels, &models).session(lab.worker.credentials());
    let predictions = client.predictions();
    client.run().assert_code(0);
    assert_eq!(fs::read(predictions).unwrap(), fs::read(labels).unwrap());
}

#[test]
fn a_job_goes_on_when_the_servers_of_its_client_and_its_worker_are_killed() {
    let Some(mut lab) = lab("0.6") else { return };
    let client = lab.client().train(&fixture("train_single.zip")).arguments(&["-v"]);
    let output = client.output();
    let mut client = client.session(lab.worker.credentials()).start();
    wait_training(&mut client);
    let start = Instant::now();
    lab.servers[1].kill();
    lab.servers[0].kill();
    wait_for("the worker at the third server", SOON, || {
        lab.worker.log().contains("registered with the signaling server again").then_some(())
    });
    let took = start.elapsed();
    println!("the worker was at another server {:.1} s after two were killed", took.as_secs_f64());
    assert!(took < 2 * MOVE_LIMIT, "{took:?}");
    lab.wait_status("busy");
    assert_eq!(client.wait(A_WHILE), 0, "{}", client.transcript());
    assert!(!client.stderr().contains("Reconnected"), "{}", client.stderr());
    assert!(files_below(&output).iter().any(|file| file.ends_with("best.ckpt")));
    assert_eq!(lab.worker.trainer_starts().len(), 1);
    // The last server is enough for a new job.
    let client = lab.client().train(&fixture("train_single.zip")).auto(lab.worker.credentials());
    client.run().assert_code(0);
}

#[test]
fn attach_finds_a_job_after_the_server_of_its_client_was_killed() {
    let Some(mut lab) = lab("0.6") else { return };
    let client = lab.client().train(&fixture("train_single.zip"));
    let mut client = client.session(lab.worker.credentials()).start();
    wait_training(&mut client);
    client.kill();
    lab.servers[1].kill();
    let listed = lab.client().arguments(&["jobs"]).run().assert_code(0).text();
    let job = listed.split_whitespace().find(|word| word.starts_with("job-")).unwrap();
    // Also where only the record of the job knows the other servers.
    let output = lab.site.folder("back");
    let attach = lab.client().arguments(&["attach", job, "--output"]).argument(&output);
    let gone = &lab.servers[1];
    let alone = server_lists(&[gone]);
    let attach = alone.iter().fold(attach, |attach, (name, list)| attach.env(name, list));
    attach.run().assert_code(0).assert_says(&["Finished training at"]);
    assert!(files_below(&output).iter().any(|file| file.ends_with("best.ckpt")));
    assert_eq!(lab.worker.trainer_starts().len(), 1, "the same job, not another");
}

#[test]
fn a_worker_starts_while_its_first_server_is_down_and_keeps_its_room() {
    let Some(mut lab) = lab("0.02") else { return };
    let before = lab.worker.credentials().clone();
    let peer = lab.worker.peer_id().to_owned();
    lab.servers[0].kill();
    let worker = lab.worker.restart(&[]);
    assert_eq!((worker.peer_id(), &worker.credentials().room_id), (&*peer, &before.room_id));
    let [_, second, third] = &lab.servers;
    let client = lab.site.client(second).train(&fixture("train_single.zip")).session(&before);
    let lists = server_lists(&[third, second]);
    let client = lists.iter().fold(client, |client, (name, list)| client.env(name, list));
    client.run().assert_code(0);
}

/// The worker waits at the relay of its own server, and the client calls it there.
#[test]
fn a_relayed_job_goes_on_when_the_server_of_its_relay_is_killed() {
    let Some(network) = made(Network::new()) else { return };
    network.block_udp().unwrap();
    let (site, address) = (Site::new(), network.server_address());
    let Some(broker) = network.on(Machine::Server, TestBroker::start) else { return };
    let [mut first, second] =
        [(); 2].map(|()| network.on(Machine::Server, || broker.server(&site, address)));
    let setup = TestWorker::setup(&site, "worker").env("FAKE_SLEAP_BATCH_S", "0.6");
    let lists = server_lists(&[&first, &second]);
    let setup = lists.iter().fold(setup, |setup, (name, list)| setup.env(name, list));
    let worker = network.on(Machine::Worker, || setup.env("FAKE_SLEAP_STEPS", "10").start(&first));
    let client = site.client(&second).train(&fixture("train_single.zip")).arguments(&["-v"]);
    let (client, lists) = (client.session(worker.credentials()), server_lists(&[&second, &first]));
    let client = lists.iter().fold(client, |client, (name, list)| client.env(name, list));
    let output = client.output();
    let mut client = network.on(Machine::Client, || client.start());
    wait_training(&mut client);
    let said = client.stderr();
    assert!(way(&said).0.starts_with("relayed by 10.77.0.1"), "{said}");
    let killed = Instant::now();
    first.kill();
    wait_for("the same job over another relay", A_WHILE, || {
        client.stderr().contains("Reconnected").then_some(())
    });
    let took_s = killed.elapsed().as_secs_f64();
    println!("reconnected {took_s:.1} s after the server of the relay was killed");
    assert_eq!(client.wait(2 * A_WHILE), 0, "{}", client.transcript());
    assert!(files_below(&output).iter().any(|file| file.ends_with("best.ckpt")));
    assert_eq!(worker.trainer_starts().len(), 1, "the same job, not another");
}

/// A server of a cluster with this configuration.
fn launch(site: &Site, config: &str, trusted: Option<&str>) -> Process {
    let home = site.folder("server");
    fs::write(home.join("sleap-rtc.toml"), config).unwrap();
    let mut command = Site::binary(&home, Path::new("/nonexistent"));
    command.args(["signaling", "--ephemeral", "--listen", "127.0.0.1:0"]);
    Process::start("signaling server", command.envs(trusted.map(|file| ("SSL_CERT_FILE", file))))
}

/// Waits until it takes part in its cluster.
fn wait_part(server: &mut Process) {
    server.wait_stderr("its part", SOON, |text| text.contains("one server of").then_some(()));
}

/// Waits for its end, which comes before a second attempt. Returns the exit code and its words.
fn end(server: &mut Process) -> (i32, String) {
    let code = server.wait(SOON);
    assert!(!server.stderr().contains("will retry"), "{}", server.transcript());
    (code, server.stderr())
}

#[test]
fn a_server_that_its_broker_does_not_let_in_says_why() {
    const TOKEN: &str = "no&rth+50%";
    let site = Site::new();
    let Some(broker) = TestBroker::with(&["-js", "--auth", TOKEN]) else { return };
    let file = site.folder("token").join("token");
    fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let with_file = format!("{}cluster_token_file = {file:?}\n", broker.config());
    let mut server = launch(&site, &with_file, None);
    wait_part(&mut server);
    // `fs::write` lets everybody read the file.
    assert!(server.stderr().contains("every user of this machine can read"));
    let address = broker.address();
    let in_address = |user: &str| format!("[signaling]\ncluster = 'nats://{user}@{address}'\n");
    wait_part(&mut launch(&site, &in_address("no&rth+50%25"), None));
    let (code, said) = end(&mut launch(&site, &in_address("north"), None));
    assert!(code == 3 && said.contains("refuses this server"), "{code}: {said}");
    assert!(said.contains(&address.to_string()) && !said.contains("north"), "{said}");
    fs::remove_file(&file).unwrap();
    let (code, said) = end(&mut launch(&site, &with_file, None));
    assert!(code == 2 && said.contains("`cluster_token_file`"), "{code}: {said}");
    assert!(said.contains(file.to_str().unwrap()), "{said}");
}

#[test]
fn a_broker_without_a_store_is_refused_at_once() {
    let Some(broker) = TestBroker::with(&[]) else { return };
    let (code, said) = end(&mut launch(&Site::new(), &broker.config(), None));
    assert!(code == 3 && said.contains("nats-server needs JetStream"), "{code}: {said}");
}

#[test]
fn a_broker_with_a_certificate_must_be_trusted() {
    let site = Site::new();
    let certificate = Certificate::new(&site, &["127.0.0.1"]);
    let [cert, key] = certificate.files();
    let broker = TestBroker::with(&["-js", "--tls", "--tlscert", &cert, "--tlskey", &key]);
    let Some(broker) = broker else { return };
    let config = broker.config().replace("nats:", "tls:");
    let [_, _, (_, trusted)] = certificate.variables(broker.address());
    wait_part(&mut launch(&site, &config, Some(&trusted)));
    let other = Certificate::new(&site, &["127.0.0.1"]);
    let [_, _, (_, untrusted)] = other.variables(broker.address());
    let mut server = launch(&site, &config, Some(&untrusted));
    server.wait_stderr("the reason", SOON, |text| text.contains("is self-signed").then_some(()));
}
