//! A worker with several slots runs several jobs, each with its own GPUs.

use crate::support::*;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn train(site: &Site, server: &TestServer, worker: &TestWorker) -> TestClient {
    site.client(server).train(&fixture("train_single.zip")).session(worker.credentials())
}

/// The `CUDA_VISIBLE_DEVICES` of the trainers, sorted, because two that start at once may come in
/// any order.
fn visible(worker: &TestWorker) -> Vec<String> {
    let starts = worker.trainer_starts();
    assert!(starts.iter().all(|start| start["cuda"]["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"));
    let devices = |start: &Value| start["cuda"]["CUDA_VISIBLE_DEVICES"].as_str().map(str::to_owned);
    let mut seen: Vec<_> =
        starts.iter().map(|start| devices(start).expect("CUDA_VISIBLE_DEVICES")).collect();
    seen.sort();
    seen
}

fn taken(properties: &Value) -> Vec<bool> {
    let gpus = properties["gpus"].as_array().unwrap();
    gpus.iter().map(|gpu| gpu["taken"].as_bool().unwrap()).collect()
}

/// When the first job of `worker` ended, by its own events.
fn first_end(worker: &TestWorker) -> SystemTime {
    let jobs = std::fs::read_dir(worker.state_dir().join("jobs")).unwrap();
    let ends = jobs.filter_map(|job| {
        let events = std::fs::read_to_string(job.unwrap().path().join("events.jsonl")).ok()?;
        let last: Value = serde_json::from_str(events.lines().last()?).ok()?;
        (last["event"] == "finished").then(|| last["at_ms"].as_u64().unwrap())
    });
    UNIX_EPOCH + Duration::from_millis(ends.min().expect("a job that has ended"))
}

#[test]
fn two_clients_train_at_once_and_a_third_is_refused() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").gpus_mib(&[16_000, 8_000]);
    let worker = setup.env("FAKE_SLEAP_BATCH_S", "1").start(&server);
    let mut observer = Observer::join(&server, worker.credentials());
    let free = |count: u64| move |seen: &Value| seen["slots_free"] == count;
    let idle = observer.wait_properties(worker.peer_id(), "two free slots", free(2));
    assert_eq!((&idle["max_concurrent_jobs"], taken(&idle)), (&json!(2), vec![false, false]));

    let mut first = train(&site, &server, &worker).start();
    let one = observer.wait_properties(worker.peer_id(), "one free slot", |seen| {
        seen["slots_free"] == 1 && taken(seen) == [true, false]
    });
    assert_eq!(one["status"], "available");
    let mut second = train(&site, &server, &worker).start();
    observer.wait_status(worker.peer_id(), "busy", SOON);
    assert_eq!(taken(&observer.properties(worker.peer_id())), [true, true]);
    let third = train(&site, &server, &worker).run_within(SOON);
    third.assert_code(5).assert_says(&["busy"]);
    assert!(first.try_wait().is_none() && second.try_wait().is_none(), "both train at once");

    observer.wait_properties(worker.peer_id(), "a slot that frees up", |seen| {
        seen["status"] == "available"
    });
    let delay = first_end(&worker).elapsed().unwrap_or_default();
    println!("a slot that frees up is seen by discovery after {} ms", delay.as_millis());
    assert!(delay < Duration::from_secs(1), "{delay:?}");
    for client in [&mut first, &mut second] {
        assert_eq!(client.wait(A_WHILE), 0, "{}", client.transcript());
    }
    assert_eq!(visible(&worker), ["0", "1"]);
    worker.wait_idle(&site, &server);
}

#[test]
fn each_slot_has_the_gpus_that_the_configuration_gives_it() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").gpus_mib(&[8_000; 4]);
    let setup = setup.config("slots = [[3, 1], []]\n").env("FAKE_SLEAP_BATCH_S", "0.5");
    let worker = setup.start(&server);
    let mut observer = Observer::join(&server, worker.credentials());
    let mut first = train(&site, &server, &worker).start();
    observer.wait_properties(worker.peer_id(), "a running job", |seen| {
        seen["slots_free"] == 1 && taken(seen) == [true, true]
    });
    train(&site, &server, &worker).run().assert_code(0);
    assert_eq!(first.wait(A_WHILE), 0, "{}", first.transcript());
    assert_eq!(visible(&worker), ["", "3,1"]);
}

#[test]
fn a_job_is_judged_by_the_gpus_that_it_could_get() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").gpus_mib(&[8_000, 16_000]);
    let worker = setup.env("FAKE_SLEAP_BATCH_S", "1").start(&server);
    let mut observer = Observer::join(&server, worker.credentials());
    let mut first = train(&site, &server, &worker).start();
    observer.wait_properties(worker.peer_id(), "the larger GPU to be taken", |seen| {
        taken(seen) == [false, true]
    });
    // The other slot is free, but too small.
    let second = site.client(&server).train(&fixture("train_single.zip"));
    let second = second.auto(worker.credentials()).arguments(&["--min-gpu-memory", "12000"]);
    let ended = second.run_within(SOON);
    assert!(ended.code == 4 || ended.code == 5, "{}", ended.text());
    ended.assert_says(&["8,000"]);
    let third = site.client(&server).train(&fixture("train_single.zip"));
    third.auto(worker.credentials()).run().assert_code(0);
    assert_eq!(first.wait(A_WHILE), 0, "{}", first.transcript());
    assert_eq!(visible(&worker), ["0", "1"]);
}

#[test]
fn a_gpu_that_is_not_there_is_a_mistake_in_the_configuration() {
    let site = Site::new();
    let server = site.server();
    let home = site.folder("worker");
    std::fs::write(
        home.join("sleap-rtc.toml"),
        "[worker]\nstate_dir = 'state'\ngpus = []\nslots = [[0]]\n",
    )
    .unwrap();
    let mut command = Site::binary(&home, &stand_in());
    command.args(["worker", "--ice-server", "none"]);
    command.env("SLEAP_RTC_SIGNALING_WS", format!("ws://{}", server.address()));
    let mut worker = Process::start("worker", &mut command);
    assert_eq!(worker.wait(SOON), 2, "{}", worker.transcript());
    assert!(worker.stderr().contains("GPU 0 to slot 0"), "{}", worker.transcript());
}

#[test]
fn memory_that_others_use_is_seen_when_a_job_ends() {
    let site = Site::new();
    let server = site.server();
    let Some(driver) = Driver::new(&site) else { return };
    let row = |free| format!("0, GPU-0, 16000, {free}, 5, 550.54.14, NVIDIA RTX A4000\n");
    driver.lists(&row(15_000));
    let setup = TestWorker::setup(&site, "worker").detect_gpus().trainers_in(driver.folder());
    let worker = setup.start(&server);
    let mut observer = Observer::join(&server, worker.credentials());
    let free = |seen: &Value| seen["gpus"][0]["memory_free_mib"].clone();
    assert_eq!(free(&observer.properties(worker.peer_id())), 15000);
    driver.lists(&row(4_000));
    train(&site, &server, &worker).run().assert_code(0);
    let seen = observer.wait_properties(worker.peer_id(), "what others use", |seen| {
        seen["gpus"][0]["memory_others_mib"] == 12_000
    });
    assert_eq!((free(&seen), &seen["gpus"][0]["taken"]), (json!(4000), &json!(false)));
    assert_eq!(visible(&worker), ["0"]);
}

#[test]
fn a_job_that_is_found_again_keeps_its_slot() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").gpus_mib(&[8_000, 8_000]);
    let worker = setup.env("FAKE_SLEAP_BATCH_S", "1.5").start(&server);
    let mut observer = Observer::join(&server, worker.credentials());
    let quick = train(&site, &server, &worker).start();
    observer
        .wait_properties(worker.peer_id(), "the first job", |seen| taken(seen) == [true, false]);
    let slow = train(&site, &server, &worker).start();
    observer.wait_status(worker.peer_id(), "busy", SOON);
    wait_for("both trainers", SOON, || (worker.trainer_starts().len() == 2).then_some(()));
    drop((quick, slow));

    // One slot less: both jobs are there, and no other job is admitted before one slot is free.
    let worker = worker.start_again("slots = [[1]]\n");
    let mut observer = Observer::join(&server, worker.credentials());
    let found = observer.wait_properties(worker.peer_id(), "both jobs", |seen| {
        seen["status"] == "busy" && taken(seen) == [true]
    });
    assert_eq!((&found["max_concurrent_jobs"], &found["slots_free"]), (&json!(1), &json!(0)));
    train(&site, &server, &worker).run_within(SOON).assert_code(5);
    worker.wait_idle(&site, &server);
    assert_eq!(worker.trainer_starts().len(), 2, "no job was started twice");
    train(&site, &server, &worker).run().assert_code(0);
    assert_eq!(visible(&worker), ["0", "1", "1"]);
}
