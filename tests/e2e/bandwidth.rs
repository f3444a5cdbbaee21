//! Files travel no faster than is allowed, over either transport.

use crate::support::*;

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
fn a_limit_on_the_bandwidth_is_kept_both_ways_over_both_transports() {
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
        // The time of a result includes the worker's hashing, which a busy machine takes long for.
        for (rate, least) in [(rates[0], 0.95), (rates[1], 0.8)] {
            assert!((least..1.05).contains(&(rate / BYTES_PER_S)), "{rate} over {transport}");
        }
    }
}
