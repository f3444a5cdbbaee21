//! What files travel over: several lanes where there is much to carry, and no faster than is allowed.

use crate::support::*;
use std::{fs, time::SystemTime};

/// How many lanes carried something, by each line of a log that says so.
fn lanes_used(log: &str) -> Vec<usize> {
    let sent = log.lines().filter(|line| line.contains("files sent"));
    let lanes = sent.filter_map(|line| line.split_once("lanes=")?.1.split_whitespace().next());
    lanes.map(|lanes| lanes.parse().expect("a number of lanes")).collect()
}

#[test]
fn much_takes_several_lanes_there_and_back_and_little_takes_none() {
    let site = Site::new();
    let server = site.server();
    let worker = TestWorker::setup(&site, "worker")
        .arguments(&["-v", "--transport", "webrtc"])
        .start(&server);
    for (length, least, most) in [(1_000, 1, 1), (128 << 20, 2, 9)] {
        let (labels, models) = (large_labels(&site, length), labels_and_models(&site).1);
        let client = site.client(&server).track(&labels, &models).auto(worker.credentials());
        let predictions = client.predictions();
        let ended = client.arguments(&["-v"]).run();
        ended.assert_code(0);
        assert!(fs::read(predictions).unwrap() == fs::read(labels).unwrap());
        let up = lanes_used(&ended.stderr);
        let down = lanes_used(&worker.log());
        println!("{length} bytes: {up:?} connections up, {:?} down", down.last());
        let used = [up.last(), down.last()].map(|lanes| lanes.copied().unwrap_or(0));
        assert!(used.iter().all(|lanes| (least..=most).contains(lanes)), "{used:?}");
    }
}

/// How long 6 MB took to the worker, and back, in seconds.
fn six_megabytes(
    site: &Site,
    server: &TestServer,
    worker: &TestWorker,
    limit: &[&str],
) -> [f64; 2] {
    let (labels, models) = (large_labels(site, 6_000_000), labels_and_models(site).1);
    let client = site.client(server).track(&labels, &models).auto(worker.credentials());
    let started = SystemTime::now();
    client.arguments(limit).run().assert_code(0);
    let trainer = fs::metadata(worker.trainer_log()).unwrap().modified().unwrap();
    [trainer.duration_since(started).unwrap(), trainer.elapsed().unwrap()].map(|d| d.as_secs_f64())
}

#[test]
fn a_limit_on_the_bandwidth_is_kept_in_both_directions() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let by_client = six_megabytes(&site, &server, &worker, &["--bwlimit", "24 Mbit/s"]);
    drop(worker);
    let limited = TestWorker::setup(&site, "limited").config("bwlimit = \"3 MB/s\"\n");
    let by_worker = six_megabytes(&site, &server, &limited.start(&server), &[]);
    println!("6 MB at 3 MB/s, there and back: {by_client:.1?} s, {by_worker:.1?} s");
    for took_s in [by_client, by_worker].concat() {
        // Two seconds, and what a job costs besides.
        assert!((1.8..15.0).contains(&took_s), "{took_s}");
    }
}
