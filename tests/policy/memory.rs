//! Calls do not leak memory.

use crate::support::{defaults, training, worker};
use sleap_rtc_policy::{Line, Policies};

const CALLS: usize = 100_000;
/// The first calls compile, and fill the allocator's caches.
const WARM_UP: usize = 2_000;
/// Caches vary by a few MiB. A leak of 100 bytes for each call would add up to 10 MiB.
const GROWTH_MIB: f64 = 8.0;

#[tokio::test]
async fn resident_memory_is_flat_over_100_000_calls() {
    let policies = defaults();
    ask(&policies, WARM_UP).await;
    let before = resident_mib();
    let start = std::time::Instant::now();
    ask(&policies, CALLS).await;
    let after = resident_mib();
    println!(
        "{CALLS} calls in {:.1} s: {before:.1} MiB before, {after:.1} MiB after",
        start.elapsed().as_secs_f64()
    );
    assert!(after - before < GROWTH_MIB, "{before} MiB grew to {after} MiB");
}

/// Asks the four questions in turn.
async fn ask(policies: &Policies, calls: usize) {
    let (job, workers) = (training(), [worker("a", &[8192]), worker("b", &[24_576])]);
    for call in 0..calls {
        match call % 4 {
            0 => assert_eq!(policies.select(&job, &workers).await.ranking.len(), 2),
            1 => drop(policies.check(&job, &workers[0], None).await),
            2 => drop(policies.order(&workers[0], &Line::default()).await),
            _ => assert!(policies.estimate(&job, &workers[0], &[]).await.is_some()),
        }
    }
}

fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}
