//! A client follows its job through any failure of the connection, until its user detaches or
//! cancels.

use crate::support::*;
use rustix::process::Signal;
use std::time::Instant;

/// A worker whose training takes some seconds.
fn slow_worker(site: &Site, server: &TestServer) -> TestWorker {
    let setup = TestWorker::setup(site, "worker").env("FAKE_SLEAP_BATCH_S", "0.5");
    setup.env("FAKE_SLEAP_STEPS", "10").start(server)
}

pub fn wait_training(client: &mut Process) {
    client.wait_stdout("the trainer's log", SOON, |text: &str| {
        text.contains("Starting training loop").then_some(())
    });
}

/// Fails unless `client` with `--log`, which has ended, has shown the job's log: every line, once.
#[track_caller]
pub fn assert_whole_log(back: TestClient, client: &Process) {
    let text = client.transcript();
    let (_, rest) = text.split_once("Job job-").expect("the job's id");
    let job = format!("job-{}", rest.split(':').next().unwrap());
    let logs = back.arguments(&["logs", &job]).run();
    logs.assert_code(0);
    let shown = client.stdout();
    let shown = shown.split("Done: ").next().unwrap();
    assert_eq!(shown, logs.stdout, "what was shown, and what there is");
    assert!(shown.contains("Finished training at"), "{shown}");
}

/// Client commands that share one record of jobs.
pub struct Desk<'a> {
    site: &'a Site,
    server: &'a TestServer,
    data: std::path::PathBuf,
}

impl<'a> Desk<'a> {
    pub fn new(site: &'a Site, server: &'a TestServer) -> Self {
        Self { site, server, data: site.folder("data") }
    }

    pub fn client(&self) -> TestClient {
        self.site.client(self.server).env("XDG_DATA_HOME", self.data.to_str().unwrap())
    }
}

#[test]
fn a_worker_that_was_killed_and_came_back_is_found_again() {
    let site = Site::new();
    let server = site.server();
    let mut worker = slow_worker(&site, &server);
    let desk = Desk::new(&site, &server);
    let client = desk.client().train(&fixture("train_single.zip")).arguments(&["--log"]);
    let output = client.output();
    let mut client = client.session(worker.credentials()).start();
    wait_training(&mut client);
    worker.kill();
    let worker = worker.start_again("");
    let back = Instant::now();
    wait_for("the client's return", SOON, || {
        client.stderr().contains("Reconnected to").then_some(())
    });
    let took_s = back.elapsed().as_secs_f64();
    println!("the client was back {took_s:.1} s after its worker's restart");
    assert_eq!(client.wait(A_WHILE), 0, "{}", client.transcript());
    assert_whole_log(desk.client(), &client);
    assert!(files_below(&output).iter().any(|file| file.ends_with("best.ckpt")));
    assert_eq!(worker.trainer_starts().len(), 1, "the same job, not another");
    worker.wait_idle(&site, &server);
}

#[test]
fn a_client_that_cannot_find_its_worker_again_gives_up() {
    let site = Site::new();
    let server = site.server();
    let mut worker = slow_worker(&site, &server);
    let desk = Desk::new(&site, &server);
    let client = desk.client().train(&fixture("train_single.zip"));
    let config = client.home().join("sleap-rtc.toml");
    std::fs::write(config, "[client]\nreconnect_for = \"3 s\"\n").unwrap();
    let mut client = client.session(worker.credentials()).start();
    wait_training(&mut client);
    worker.kill();
    assert_eq!(client.wait(A_WHILE), 8, "{}", client.transcript());
    let said = client.stderr();
    assert!(said.contains("could not reconnect to worker"), "{said}");
    assert!(said.contains("sleap-rtc attach job-"), "{said}");
    // The job has continued: the restarted worker has it.
    let worker = worker.start_again("");
    let listed = desk.client().arguments(&["jobs"]).run().assert_code(0).text();
    let job = listed.split_whitespace().find(|word| word.starts_with("job-")).unwrap();
    desk.client().arguments(&["attach", job]).run().assert_code(0);
    worker.wait_idle(&site, &server);
}

#[test]
fn a_job_continues_after_its_worker_was_frozen_for_a_while() {
    let site = Site::new();
    let server = site.server();
    let worker = slow_worker(&site, &server);
    let desk = Desk::new(&site, &server);
    let client = desk.client().train(&fixture("train_single.zip")).arguments(&["--log"]);
    let mut client = client.session(worker.credentials()).start();
    wait_training(&mut client);
    worker.signal(Signal::STOP);
    // The fault itself takes this long: nothing is waited for.
    std::thread::sleep(std::time::Duration::from_secs(8));
    worker.signal(Signal::CONT);
    assert_eq!(client.wait(A_WHILE), 0, "{}", client.transcript());
    assert_whole_log(desk.client(), &client);
    worker.wait_idle(&site, &server);
}

#[test]
fn a_signaling_server_may_go_away_and_come_back() {
    let site = Site::new();
    let mut server = TestServer::persistent(&site);
    let setup = TestWorker::setup(&site, "worker").env("FAKE_SLEAP_BATCH_S", "0.5");
    let worker = setup.env("FAKE_SLEAP_STEPS", "40").start(&server);
    let data = site.folder("data");
    let desk =
        |server: &TestServer| site.client(server).env("XDG_DATA_HOME", data.to_str().unwrap());
    let client = desk(&server).train(&fixture("train_single.zip")).arguments(&["--log"]);
    let mut client = client.session(worker.credentials()).start();
    wait_training(&mut client);
    server.kill();
    let (away, shown) = (Instant::now(), client.stdout().len());
    wait_for("the log to go on", SOON, || (client.stdout().len() > shown).then_some(()));
    // Long enough for every peer to reach its longest wait between two attempts.
    wait_for("the absence to be a long one", SOON, || {
        (away.elapsed().as_secs() >= 16).then_some(())
    });
    server.restart();
    let back = Instant::now();
    let mut observer = Observer::join(&server, worker.credentials());
    observer.wait_status(worker.peer_id(), "busy", SOON);
    let found_s = back.elapsed().as_secs_f64();
    println!("server away for 16 s: the room showed the worker {found_s:.1} s after its return");
    let jobs = desk(&server).arguments(&["jobs"]).run().assert_code(0).text();
    let job = jobs.split_whitespace().find(|word| word.starts_with("job-")).unwrap();
    desk(&server).arguments(&["logs", job]).run().assert_code(0);
    let used_s = back.elapsed().as_secs_f64();
    println!("server away for 16 s: a new client had been served {used_s:.1} s after its return");
    assert!(found_s < 10.0, "{found_s}");
    assert_eq!(client.wait(A_WHILE), 0, "{}", client.transcript());
    assert_whole_log(desk(&server), &client);
    assert!(!client.stderr().contains("Reconnected to"), "{}", client.transcript());
}

#[test]
fn a_job_string_continues_elsewhere_after_the_last_shown_event() {
    let site = Site::new();
    let server = site.server();
    let worker = slow_worker(&site, &server);
    let desk = Desk::new(&site, &server);
    let client = desk.client().train(&fixture("train_single.zip")).arguments(&["--log"]);
    let mut client = client.session(worker.credentials()).start();
    wait_training(&mut client);
    wait_for("a record of some events", SOON, || last_shown(&desk).filter(|last| *last > 3));
    client.kill();
    let last = last_shown(&desk).unwrap();
    let listed = desk.client().arguments(&["jobs", "--strings"]).run().assert_code(0).text();
    let string = listed.split_whitespace().find(|word| word.starts_with("sleap-job:")).unwrap();
    let output = site.folder("elsewhere");
    let attach =
        site.client(&server).arguments(&["attach", string, "--after", &last.to_string(), "--log"]);
    let rest = attach.arguments(&["--output"]).argument(&output).run();
    rest.assert_code(0);
    assert!(files_below(&output).iter().any(|file| file.ends_with("best.ckpt")));
    // Only the events after that one are shown: the end of the log, from the right place.
    let log = |after: &str| {
        let logs = site.client(&server).arguments(&["logs", string, "--after", after]).run();
        logs.assert_code(0);
        logs.stdout
    };
    let (whole, after) = (log("0"), log(&last.to_string()));
    let shown = rest.stdout.split("Done: ").next().unwrap().to_owned();
    assert_eq!(shown, after);
    assert!(whole.ends_with(&shown) && whole.len() > shown.len() && !shown.is_empty());
    let early = client.stdout();
    let seam = whole.len() - shown.len();
    assert!(early.len() >= seam && whole.starts_with(&early[..seam]), "nothing is missing between");
    assert_eq!(worker.trainer_starts().len(), 1, "the same job, not another");
}

/// The number of the last shown event in the record of the desk's only job.
fn last_shown(desk: &Desk) -> Option<u64> {
    let jobs = std::fs::read_dir(desk.data.join("sleap-rtc/client/jobs")).ok()?.flatten();
    let mut records =
        jobs.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "json"));
    let record = std::fs::read(records.next()?).ok()?;
    let record: serde_json::Value = serde_json::from_slice(&record).ok()?;
    record["last_seen"]["event"].as_u64()
}

#[test]
fn ctrl_c_leaves_the_job_running_and_says_how_to_come_back() {
    let site = Site::new();
    let server = site.server();
    let worker = slow_worker(&site, &server);
    let desk = Desk::new(&site, &server);
    let mut client =
        desk.client().train(&fixture("train_single.zip")).session(worker.credentials()).start();
    wait_training(&mut client);
    client.signal(Signal::INT);
    assert_eq!(client.wait(SOON), 8, "{}", client.transcript());
    let said = client.stderr();
    assert!(said.contains("Ctrl-C again within 3 s"), "{said}");
    let string = said.split_whitespace().find(|word| word.starts_with("sleap-job:")).expect(&said);
    let output = site.folder("back");
    let back = site.client(&server).arguments(&["attach", string, "--output"]).argument(&output);
    back.run().assert_code(0);
    assert!(files_below(&output).iter().any(|file| file.ends_with("best.ckpt")));
    assert_eq!(worker.trainer_starts().len(), 1);
}

#[test]
fn a_second_ctrl_c_cancels_the_job() {
    let site = Site::new();
    let server = site.server();
    let worker = slow_worker(&site, &server);
    let mut client =
        site.client(&server).train(&fixture("train_single.zip")).auto(worker.credentials()).start();
    wait_training(&mut client);
    client.signal(Signal::INT);
    wait_for("the offer to cancel", SOON, || {
        client.stderr().contains("Ctrl-C again").then_some(())
    });
    client.signal(Signal::INT);
    assert_eq!(client.wait(SOON), 130, "{}", client.transcript());
    assert!(client.stderr().contains("Cancelling"), "{}", client.transcript());
    worker.wait_idle(&site, &server);
}

#[test]
fn a_terminal_that_closes_leaves_the_job_running() {
    for signal in [Signal::TERM, Signal::HUP] {
        let site = Site::new();
        let server = site.server();
        let worker = slow_worker(&site, &server);
        let desk = Desk::new(&site, &server);
        let package = fixture("train_single.zip");
        let mut client = desk.client().train(&package).session(worker.credentials()).start();
        wait_training(&mut client);
        client.signal(signal);
        assert_eq!(client.wait(SOON), 8, "{}", client.transcript());
        assert!(client.stderr().contains("sleap-rtc attach job-"), "{}", client.transcript());
        let mut observer = Observer::join(&server, worker.credentials());
        assert_eq!(observer.status(worker.peer_id()).as_deref(), Some("busy"));
    }
}
