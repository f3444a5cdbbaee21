//! What files travel over: several lanes where there is much to carry, and no faster than is allowed.

use crate::support::*;
use std::fs;

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

/// Of each transfer that the client's log reports, how many bytes passed in a second.
fn rates(log: &str) -> Vec<f64> {
    let number = |line: &str, key: &str| -> Option<f64> {
        line.split_once(key)?.1.split_whitespace().next()?.parse().ok()
    };
    let ends = ["the worker has the package", "the result has arrived"];
    let ended = log.lines().filter(|line| ends.iter().any(|end| line.contains(end)));
    ended
        .filter_map(|line| Some(number(line, "bytes=")? / number(line, "took_ms=")? * 1e3))
        .collect()
}

#[test]
fn a_limit_on_the_bandwidth_is_kept_within_five_percent_both_ways_over_both_transports() {
    const BYTES_PER_S: f64 = 6e6;
    let site = Site::new();
    let server = site.server();
    let limit = "bwlimit = \"48 Mbit/s\"\n";
    let (here, there): ((&[&str], _), (&[&str], _)) =
        ((&["--bwlimit", "6 MB/s"], ""), (&[], limit));
    for ((arguments, config), transport) in [(here, "iroh"), (there, "webrtc")] {
        let worker = TestWorker::setup(&site, transport).config(config).start(&server);
        let (labels, models) = (large_labels(&site, 36_000_000), labels_and_models(&site).1);
        let client = site.client(&server).track(&labels, &models).auto(worker.credentials());
        let client = client.arguments(&["-v", "--transport", transport]).arguments(arguments);
        let ended = client.run();
        let rates = rates(&ended.assert_code(0).stderr);
        println!("6 MB/s over {transport}, there and back: {rates:.0?} bytes/s");
        assert_eq!(rates.len(), 2, "{}", ended.stderr);
        for rate in rates {
            assert!((rate / BYTES_PER_S - 1.0).abs() < 0.05, "{rate} over {transport}");
        }
    }
}
