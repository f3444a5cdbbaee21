//! Half a gigabyte in both directions: how fast, and with how much memory.

use crate::support::*;
use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant, SystemTime},
};

const MEGABYTES: u64 = 500;
const LEAST_MB_PER_S: f64 = 60.0;
const MOST_MIB_ABOVE_IDLE: f64 = 64.0;

/// The cost of one tracking job.
struct Cost {
    client_peak_mib: f64,
    worker_peak_mib: f64,
    upload_s: f64,
    rest_s: f64,
}

fn track(site: &Site, server: &TestServer, worker: &TestWorker, labels_bytes: u64) -> Cost {
    let labels = large_labels(site, labels_bytes);
    let (_, models) = labels_and_models(site);
    let client = site.client(server).track(&labels, &models).auto(worker.credentials());
    let predictions = client.predictions();
    let log = worker.trainer_log();
    let _ = fs::remove_file(&log);
    let (start, start_wall) = (Instant::now(), SystemTime::now());
    let mut client = client.start();
    let mut client_peak_mib: f64 = 0.0;
    while client.try_wait().is_none() {
        assert!(start.elapsed() < 2 * A_WHILE, "too slow{}", client.transcript());
        client_peak_mib = client_peak_mib.max(memory_peak_mib(client.pid()).unwrap_or(0.0));
        sleep(Duration::from_millis(20));
    }
    let whole_s = start.elapsed().as_secs_f64();
    assert_eq!(client.wait(SOON), 0, "{}", client.transcript());
    assert_eq!(fs::metadata(predictions).unwrap().len(), labels_bytes);
    let trainer_started = fs::metadata(log).unwrap().modified().unwrap();
    let upload_s = trainer_started.duration_since(start_wall).unwrap().as_secs_f64();
    let worker_peak_mib = worker.memory_peak_mib();
    Cost { client_peak_mib, worker_peak_mib, upload_s, rest_s: whole_s - upload_s }
}

#[test]
fn half_a_gigabyte_passes_quickly_and_with_flat_memory() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    // A job of one kilobyte shows the cost of the two programs without a payload.
    let idle = track(&site, &server, &worker, 1_000);
    let large = track(&site, &server, &worker, MEGABYTES * 1_000_000);
    let up = MEGABYTES as f64 / (large.upload_s - idle.upload_s);
    let down = MEGABYTES as f64 / (large.rest_s - idle.rest_s);
    let client = large.client_peak_mib - idle.client_peak_mib;
    let worker = large.worker_peak_mib - idle.worker_peak_mib;
    println!(
        "{MEGABYTES} MB on loopback: {up:.0} MB/s up, {down:.0} MB/s down (hashing, writing and \
         the stand-in's own copy included); peak memory above idle: client {client:.0} MiB \
         (idle {:.0}), worker {worker:.0} MiB (idle {:.0})",
        idle.client_peak_mib, idle.worker_peak_mib
    );
    assert!(up >= LEAST_MB_PER_S && down >= LEAST_MB_PER_S, "too slow");
    assert!(client < MOST_MIB_ABOVE_IDLE && worker < MOST_MIB_ABOVE_IDLE, "too much memory");
}
