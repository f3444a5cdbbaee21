//! Three signaling servers and a real NATS: jobs across them, and through the loss of one.

use crate::reconnect::wait_training;
use crate::support::*;
use std::fs;
use std::path::PathBuf;
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
    let broker = TestBroker::start(&site)?;
    let servers = [(); 3].map(|()| broker.server(&site, ""));
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
        let mut observer = Observer::join(&self.servers[2], self.worker.credentials());
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
