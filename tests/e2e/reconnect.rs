//! A client stays with its job whatever happens to the connection between them, until its user
//! leaves or cancels.

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

/// Fails unless `client`, which has ended, has shown the job's log: every line, once.
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
    let client = desk.client().train(&fixture("train_single.zip"));
    let output = client.output();
    let mut client = client.session(worker.credentials()).start();
    wait_training(&mut client);
    worker.kill();
    let worker = worker.start_again("");
    let back = Instant::now();
    wait_for("the client's return", SOON, || client.stderr().contains(" again.").then_some(()));
    let took_s = back.elapsed().as_secs_f64();
    println!("the client was back {took_s:.1} s after its worker's restart");
    assert_eq!(client.wait(A_WHILE), 0, "{}", client.transcript());
    assert_whole_log(desk.client(), &client);
    assert!(files_below(&output).iter().any(|file| file.ends_with("best.ckpt")));
    assert_eq!(worker.trainer_starts().len(), 1, "the same job, not another");
    worker.wait_idle(&site, &server);
}

#[test]
fn a_worker_that_was_stopped_for_a_while_is_gone_on_with() {
    let site = Site::new();
    let server = site.server();
    let worker = slow_worker(&site, &server);
    let desk = Desk::new(&site, &server);
    let mut client =
        desk.client().train(&fixture("train_single.zip")).session(worker.credentials()).start();
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
    assert!(said.contains("Ctrl-C again within 3 s cancels it"), "{said}");
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
