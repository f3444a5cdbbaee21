//! The four defaults answer as `cases.toml` says, as components and as native functions.

use crate::cases::{Worker, cases};
use crate::support::{defaults, training, worker};
use sleap_rtc_policy::examine::PluginFile;
use sleap_rtc_policy::{ExtensionPoint, JobHere, Line, LineOrder, Verdict};
use sleap_rtc_protocol::capabilities::WorkerFacts;
use std::collections::BTreeMap;

#[test]
fn they_import_nothing_but_the_log() {
    let wit = include_str!("../../wit/policy.wit");
    let (_, types) = wit.split_once("interface types {").unwrap();
    let (types, _) = types.split_once("\n}\n").unwrap();
    assert!(!types.contains("func("), "there are functions among the records");
    for point in ExtensionPoint::ALL {
        let plugin = PluginFile::embedded(point, None).unwrap();
        let mut imports = plugin.imports().to_vec();
        // The component names records as if it imported them.
        imports.retain(|name| name != "sleap-rtc:policy/types@0.1.0");
        let log = ["sleap-rtc:policy/log@0.1.0".to_owned()];
        assert!(imports.is_empty() || imports == log, "{}: {imports:?}", plugin.name);
        assert_eq!(plugin.points(), [point]);
    }
}

#[tokio::test]
async fn selection() {
    let policies = defaults();
    let cases = cases().selection;
    assert!(cases.len() > 10);
    for case in cases {
        let name = case.name;
        let workers: Vec<_> = case.workers.into_iter().map(|Worker(facts)| facts).collect();
        let called = |index: usize| workers[index].peer_id.to_string();
        let selection = policies.select(&case.job, &workers).await;
        let ranked: Vec<_> = selection.ranking.iter().map(|choice| called(choice.index)).collect();
        assert_eq!(ranked, case.ranked, "{name}");
        let out = selection.left_out.iter().map(|out| (called(out.index), out.reason.clone()));
        assert_eq!(out.collect::<BTreeMap<_, _>>(), case.out, "{name}");
        assert_eq!(selection.notice, None, "{name}");
    }
}

#[tokio::test]
async fn selection_says_why() {
    let workers = [worker("a", &[]), worker("b", &[24_564])];
    let ranking = defaults().select(&training(), &workers).await.ranking;
    let reasons: Vec<_> = ranking.iter().map(|choice| choice.reason()).collect();
    assert_eq!(reasons, ["largest GPU RTX with 24,564 MB", "no GPU"]);
}

#[tokio::test]
async fn compatibility() {
    let policies = defaults();
    let cases = cases().compatibility;
    assert!(cases.len() > 10);
    for case in cases {
        let Worker(worker) = case.worker;
        let messages: Vec<String> = match policies.check(&case.job, &worker, None).await {
            Verdict::Yes => vec![],
            Verdict::No(reasons) => reasons.into_iter().map(|reason| reason.message).collect(),
        };
        assert_eq!(messages, case.no, "{}", case.name);
    }
}

#[tokio::test]
async fn estimate() {
    let policies = defaults();
    let cases = cases().estimate;
    assert!(cases.len() > 4);
    for case in cases {
        let (minutes, name) = (case.minutes, case.name);
        let estimate = policies.estimate(&case.job, &worker("w", &[]), &[]).await.unwrap();
        assert_eq!(estimate.minutes, minutes, "{name}");
        assert!(estimate.low <= minutes && minutes <= estimate.high, "{name}");
    }
}

#[tokio::test]
async fn queueing() {
    let policies = defaults();
    let cases = cases().queueing;
    assert!(cases.len() > 4);
    for case in cases {
        let line = Line { running: jobs_of(&case.running), waiting: jobs_of(&case.waiting) };
        let worker = WorkerFacts { slots: case.slots, ..worker("w", &[]) };
        match policies.order(&worker, &line).await {
            LineOrder::Decided { by, places } => {
                let order: Vec<usize> = places.into_iter().map(|place| place.index).collect();
                assert_eq!((order, by.as_str()), (case.order, "fewest-running"), "{}", case.name);
            }
            LineOrder::Failed(why) => panic!("{}: {why}", case.name),
        }
    }
}

/// A job of each user.
fn jobs_of(users: &[String]) -> Vec<JobHere> {
    let job = |(number, user): (usize, &String)| JobHere {
        id: number.to_string(),
        user: user.clone(),
        description: training(),
        since_s: 60,
        takes_s: None,
        slots: vec![0],
    };
    users.iter().enumerate().map(job).collect()
}

#[tokio::test]
async fn a_thousand_workers_with_long_names() {
    let name = "ä".repeat(100);
    let workers: Vec<_> = (0..1000)
        .map(|n| {
            let mut worker = worker(&format!("w{n}"), &[n, 5]);
            worker.hostname = Some(name.repeat(100));
            worker.properties.insert("note".into(), name.as_str().into());
            worker
        })
        .collect();
    let policies = defaults();
    policies.select(&training(), &[]).await;
    let start = std::time::Instant::now();
    let selection = policies.select(&training(), &workers).await;
    println!("1,000 workers ranked in {:?} (not an optimised build)", start.elapsed());
    assert_eq!(selection.ranking.len(), 1000);
    assert_eq!(selection.ranking[0].index, 999);
}
