//! A worker whose GPU driver is late, broken, hangs or loses a GPU; and the choice of GPUs.

use crate::support::*;
use serde_json::Value;
use std::time::Duration;

/// The driver is asked again within seconds; a survey that hangs ends after ten.
const NOTICED: Duration = Duration::from_secs(60);

const LOST: &str = "Unable to determine the device handle for GPU0000:0B:00.0: Unknown Error\n";

fn train(site: &Site, server: &TestServer, worker: &TestWorker) -> Ended {
    let client = site.client(server).train(&fixture("train_single.zip"));
    client.session(worker.credentials()).run()
}

fn models(properties: &Value) -> Vec<&str> {
    let gpus = properties["gpus"].as_array().unwrap();
    gpus.iter().map(|gpu| gpu["model"].as_str().unwrap()).collect()
}

fn problems(properties: &Value) -> String {
    properties["problems"].to_string()
}

/// The `CUDA_VISIBLE_DEVICES` of the last trainer.
fn visible(worker: &TestWorker) -> String {
    let starts = worker.trainer_starts();
    let cuda = &starts.last().expect("a trainer")["cuda"];
    cuda["CUDA_VISIBLE_DEVICES"].as_str().unwrap_or("unset").to_owned()
}

fn wait(
    observer: &mut Observer,
    worker: &TestWorker,
    what: &str,
    is_so: impl Fn(&Value) -> bool,
) -> Value {
    wait_for(what, NOTICED, || {
        let seen = observer.properties(worker.peer_id());
        is_so(&seen).then_some(seen)
    })
}

#[test]
fn a_lost_gpu_is_named_and_the_others_are_used() {
    let site = Site::new();
    let server = site.server();
    let Some(driver) = Driver::new(&site) else { return };
    driver.says(&format!("{}{LOST}{}", gpu_row(0, 24_000), gpu_row(2, 24_000)), 15);
    let setup = TestWorker::setup(&site, "worker").detect_gpus().trainers_in(driver.folder());
    let worker = setup.start(&server);
    let mut observer = Observer::join(&server, worker.credentials());
    let seen = wait(&mut observer, &worker, "both GPUs", |seen| seen["slots_free"] == 2);
    assert_eq!(
        (models(&seen), &seen["status"]),
        (vec!["NVIDIA A0", "NVIDIA A2"], &"available".into())
    );
    assert_eq!(seen["gpus"][1]["memory_mib"], 24_000);
    assert!(problems(&seen).contains("GPU 1 is lost"), "{seen}");
    let log = worker.log();
    let warned = log.lines().any(|line| line.contains("WARN") && line.contains("0B:00"));
    assert!(warned, "{log}");
}

#[test]
fn a_slot_whose_gpu_is_lost_takes_no_jobs_until_it_is_back() {
    let site = Site::new();
    let server = site.server();
    let Some(driver) = Driver::new(&site) else { return };
    let rows = |indices: &[u32]| indices.iter().map(|i| gpu_row(*i, 24_000)).collect::<String>();
    driver.lists(&rows(&[0, 1]));
    let setup = TestWorker::setup(&site, "worker").detect_gpus().trainers_in(driver.folder());
    let worker = setup.start(&server);
    let mut observer = Observer::join(&server, worker.credentials());
    train(&site, &server, &worker).assert_code(0);
    assert_eq!(visible(&worker), "0");
    driver.says(&format!("{LOST}{}", rows(&[1])), 15);
    // The survey at the end of the last job may be too recent for this job to trigger a new one;
    // its own end triggers one.
    train(&site, &server, &worker).assert_code(0);
    wait(&mut observer, &worker, "one slot", |seen| seen["slots_free"] == 1);
    for _ in 0..2 {
        train(&site, &server, &worker).assert_code(0);
        // By its UUID, because CUDA's numbering is unknown while a GPU is lost.
        assert_eq!(visible(&worker), "GPU-1111-0");
    }
    let seen = wait(&mut observer, &worker, "one slot", |seen| seen["slots_free"] == 1);
    assert_eq!((&seen["max_concurrent_jobs"], models(&seen)), (&1.into(), vec!["NVIDIA A1"]));
    driver.lists(&rows(&[0, 1]));
    let seen = wait(&mut observer, &worker, "both slots", |seen| seen["slots_free"] == 2);
    assert_eq!(problems(&seen), "[]");
    train(&site, &server, &worker).assert_code(0);
    assert_eq!(visible(&worker), "0");
}

#[test]
fn a_driver_that_breaks_makes_the_worker_unavailable_and_not_a_cpu_worker() {
    let site = Site::new();
    let server = site.server();
    let Some(driver) = Driver::new(&site) else { return };
    driver.lists(&gpu_row(0, 24_000));
    let setup = TestWorker::setup(&site, "worker").detect_gpus().trainers_in(driver.folder());
    let worker = setup.start(&server);
    let mut observer = Observer::join(&server, worker.credentials());
    driver.breaks();
    let refused = train(&site, &server, &worker);
    refused.assert_code(5).assert_says(&["Driver/library version mismatch"]);
    let down = |seen: &Value| seen["status"] == "maintenance";
    let seen = wait(&mut observer, &worker, "an unavailable worker", down);
    assert!(problems(&seen).contains("version mismatch"), "{seen}");
    let log = worker.log();
    let warned = log.lines().any(|line| line.contains("WARN") && line.contains("mismatch"));
    assert!(warned, "{log}");

    // Restarted in this state, it still knows that it is not a CPU worker.
    let worker = worker.restart(&[]);
    let mut observer = Observer::join(&server, worker.credentials());
    let seen = wait(&mut observer, &worker, "an unavailable worker", down);
    assert!(problems(&seen).contains("version mismatch"), "{seen}");
    let listed = site.client(&server).arguments(&["room", "list"]).room(worker.credentials());
    listed.run().assert_says(&["version mismatch"]);

    driver.lists(&gpu_row(0, 24_000));
    wait(&mut observer, &worker, "the GPU again", |seen| seen["status"] == "available");
    train(&site, &server, &worker).assert_code(0);
    assert_eq!(visible(&worker), "0");
}

#[test]
fn a_driver_that_starts_after_the_worker_is_found() {
    for slots in ["", "slots = [[0], [1]]\n"] {
        let site = Site::new();
        let server = site.server();
        let Some(driver) = Driver::new(&site) else { return };
        driver.breaks();
        let setup = TestWorker::setup(&site, "worker").detect_gpus().config(slots);
        let worker = setup.trainers_in(driver.folder()).start(&server);
        let mut observer = Observer::join(&server, worker.credentials());
        let down = wait(&mut observer, &worker, "its status", |seen| seen["problems"].is_array());
        assert_eq!((&down["status"], &down["slots_free"]), (&"maintenance".into(), &0.into()));
        driver.lists(&format!("{}{}", gpu_row(0, 8_000), gpu_row(1, 16_000)));
        let up = wait(&mut observer, &worker, "both GPUs", |seen| seen["slots_free"] == 2);
        assert_eq!((&up["status"], models(&up).len()), (&"available".into(), 2));
        assert_eq!((&up["gpu_memory_mb"], &up["cuda_version"]), (&16_000.into(), &"13.0".into()));
        train(&site, &server, &worker).assert_code(0);
        assert_eq!(visible(&worker), "1", "the larger one is taken first");
    }
}

#[test]
fn a_driver_that_hangs_delays_the_worker_for_a_bounded_time() {
    let site = Site::new();
    let server = site.server();
    let Some(driver) = Driver::new(&site) else { return };
    driver.lists(&gpu_row(0, 24_000));
    driver.hangs(true);
    let setup = TestWorker::setup(&site, "worker").detect_gpus().trainers_in(driver.folder());
    let worker = setup.start(&server);
    let mut observer = Observer::join(&server, worker.credentials());
    let down = wait(&mut observer, &worker, "a reason", |seen| seen["problems"].is_array());
    assert!(problems(&down).contains("did not answer within 10 s"), "{down}");
    assert_eq!(down["status"], "maintenance");
    driver.hangs(false);
    wait(&mut observer, &worker, "the GPU", |seen| seen["status"] == "available");
}

#[test]
fn jobs_slots_and_the_room_see_the_visible_gpus_and_no_others() {
    let slices = "GPU 0: NVIDIA A0 (UUID: GPU-0000-0)\n  MIG 1g.10gb Device 0: (UUID: MIG-ff00)\n";
    let cases: [(&str, &[u64], &str); 7] = [
        ("3", &[8_000], "3"),
        ("3,3", &[8_000], "3"),
        ("GPU-2222-0,GPU-3333-0", &[24_000, 8_000], "GPU-2222-0"),
        ("GPU-3333", &[8_000], "GPU-3333-0"),
        ("MIG-ff00", &[10 * 1024], "MIG-ff00"),
        ("2,GPU-1111", &[24_000, 46_000], "GPU-1111-0"),
        ("", &[], ""),
    ];
    for (text, memory_mib, told) in cases {
        let site = Site::new();
        let server = site.server();
        let Some(driver) = Driver::new(&site) else { return };
        let gpus = [80_000, 46_000, 24_000, 8_000];
        driver.lists(&(0..).zip(gpus).map(|(index, mib)| gpu_row(index, mib)).collect::<String>());
        driver.divides(slices);
        let setup = TestWorker::setup(&site, "worker").detect_gpus().trainers_in(driver.folder());
        let worker = setup.env("CUDA_VISIBLE_DEVICES", text).start(&server);
        let mut observer = Observer::join(&server, worker.credentials());
        let seen = observer.properties(worker.peer_id());
        let shown: Vec<u64> = seen["gpus"]
            .as_array()
            .unwrap()
            .iter()
            .map(|g| g["memory_mib"].as_u64().unwrap())
            .collect();
        assert_eq!(shown, memory_mib, "{text}");
        assert_eq!(seen["max_concurrent_jobs"], memory_mib.len().max(1), "{text}");
        train(&site, &server, &worker).assert_code(0);
        assert_eq!(visible(&worker), told, "{text}");
    }
}

#[test]
fn a_gpu_with_unified_memory_reports_the_machines_memory() {
    let site = Site::new();
    let server = site.server();
    let Some(driver) = Driver::new(&site) else { return };
    driver.lists("0, GPU-0000-0, [N/A], [N/A], 0, 580.95, NVIDIA GB10\n");
    let setup = TestWorker::setup(&site, "worker").detect_gpus().trainers_in(driver.folder());
    let worker = setup.start(&server);
    let mut observer = Observer::join(&server, worker.credentials());
    let seen = observer.properties(worker.peer_id());
    assert!(seen["gpus"][0]["memory_mib"].as_u64().unwrap() > 256, "{seen}");
    let client = site.client(&server).train(&fixture("train_single.zip"));
    let client = client.auto(worker.credentials()).arguments(&["--min-gpu-memory", "256"]);
    client.run().assert_code(0);
}
