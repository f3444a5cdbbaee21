//! Decisions are recorded, and put to a plugin that has changed.

use crate::support::{guest_path, training, worker};
use sleap_rtc_policy::examine::PluginFile;
use sleap_rtc_policy::replay::{DecisionChange, Replayed, replay};
use sleap_rtc_policy::{OnFailure, PluginConfig, Policies, PolicyConfig};
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::job::JobDescription;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Patient, because the host is not optimised.
fn patient(setting: Option<(&str, &str)>) -> PluginConfig {
    let mut config = PluginConfig { timeout_ms: 20_000, ..PluginConfig::new(OnFailure::Refuse) };
    config.settings.extend(setting.map(|(key, value)| (key.to_owned(), value.into())));
    config
}

fn recording(path: &Path) -> PolicyConfig {
    let mut config = PolicyConfig::new(test_guests::dir().to_owned());
    config.record = Some(path.to_owned());
    config
}

fn put(path: &Path, plugin: &str, config: &PluginConfig, of: Option<&str>) -> Replayed {
    let file = PluginFile::open(&guest_path(plugin), Path::new("/nonexistent")).unwrap();
    replay(path, &file, config, of).unwrap()
}

/// Jobs of different demands, and workers of different sizes.
fn scenes() -> Vec<(JobDescription, Vec<WorkerFacts>)> {
    let scene = |number: u64| {
        let mut job = training();
        job.user = Some(format!("user-{}", number % 5));
        job.requirements.min_gpu_memory_mib = Some(number * 7919 % 24 * 1000);
        let workers = (0..1 + number % 4).map(|worker_number| {
            let size = (number * 31 + worker_number * 17) % 24 * 1000;
            worker(["a", "b", "c", "d"][worker_number as usize], &[size])
        });
        (job, workers.collect())
    };
    (0..60).map(scene).collect()
}

/// What the built-in check says, calculated here.
fn is_refused(job: &JobDescription, worker: &WorkerFacts) -> bool {
    let has = worker.accelerators.gpus.iter().map(|gpu| gpu.memory_mib).max().unwrap_or(0);
    job.requirements.min_gpu_memory_mib.unwrap_or(0) > has
}

#[tokio::test]
async fn exactly_the_decisions_that_a_change_makes_differ() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("decisions.jsonl");
    let mut refused = 0;
    {
        let policies = Policies::load(&recording(&path)).unwrap();
        for (job, workers) in scenes() {
            policies.check(&job, &workers[0], None).await;
            refused += usize::from(is_refused(&job, &workers[0]));
        }
    }
    // The new plugin takes every job.
    let replayed = put(&path, "hostile-guest", &patient(None), None);
    assert_eq!((replayed.decisions, replayed.unreadable), (60, 0));
    assert!(refused > 10 && refused < 50);
    assert_eq!(
        replayed.changes().into_iter().collect::<Vec<_>>(),
        [(DecisionChange::Takes, refused)]
    );
    let expected = scenes().into_iter().filter(|(job, workers)| is_refused(job, &workers[0]));
    let expected: Vec<_> =
        expected.map(|(job, _)| format!("{}, training", job.user.unwrap())).collect();
    let got: Vec<_> =
        replayed.differences.iter().map(|difference| difference.job.clone()).collect();
    assert_eq!(got, expected);
    assert!(replayed.differences[0].before.starts_with("no: needs "));
    // One that fails differs everywhere.
    let failing = put(&path, "hostile-guest", &patient(Some(("do", "error"))), None);
    assert_eq!(failing.changes().into_iter().collect::<Vec<_>>(), [(DecisionChange::Fails, 60)]);
}

#[tokio::test]
async fn another_setting_moves_other_workers_to_the_front() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("decisions.jsonl");
    {
        let mut config = recording(&path);
        config.selection = vec![patient(Some(("prefer", "b.lab")))];
        config.selection[0].plugin = Some("custom-policy".into());
        let policies = Policies::load(&config).unwrap();
        for (job, workers) in scenes() {
            policies.select(&job, &workers).await;
        }
    }
    // Whoever is preferred comes first, and the others keep their order.
    let preferring = |count: usize, preferred: usize| -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by_key(|index| *index != preferred);
        order
    };
    let (mut first, mut others) = (0, 0);
    for (_, workers) in scenes() {
        let [before, after] = [1, 2].map(|preferred| preferring(workers.len(), preferred));
        first += usize::from(before[0] != after[0]);
        others += usize::from(before[0] == after[0] && before != after);
    }
    let same = put(&path, "custom-policy", &patient(Some(("prefer", "b.lab"))), None);
    assert_eq!((same.decisions, same.differences), (60, vec![]));
    let replayed = put(&path, "custom-policy", &patient(Some(("prefer", "c.lab"))), None);
    let changes = replayed.changes();
    assert_eq!(changes.get(&DecisionChange::First).copied().unwrap_or(0), first);
    assert_eq!(changes.get(&DecisionChange::Others).copied().unwrap_or(0), others);
    assert!(first > 20, "{first}");
}

#[tokio::test]
async fn a_record_is_private_and_has_no_settings() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("kept/decisions.jsonl");
    let mut config = recording(&path);
    config.compatibility = ["requirements", "hostile-guest"]
        .map(|name| {
            let config = patient(Some(("api-key", "hunter2")));
            PluginConfig { plugin: Some(name.into()), ..config }
        })
        .to_vec();
    {
        let policies = Policies::load(&config).unwrap().asked_by("peer-7");
        policies.check(&training(), &worker("w", &[8]), None).await;
        policies.estimate(&training(), &worker("w", &[8]), &[]).await;
    }
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains("hunter2") && !text.contains("api-key"), "{text}");
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let who: Vec<_> = lines.iter().map(|line| line["plugin"].as_str().unwrap()).collect();
    assert_eq!(who, ["requirements", "hostile-guest", "linear-estimate"]);
    assert_eq!(lines[0]["question"]["context"]["asker"], "peer-7");
    // Only the decisions of the plugin with the same name are compared, or those that are asked for.
    let own = put(&path, "hostile-guest", &patient(None), None);
    assert_eq!((own.decisions, own.differences.len()), (1, 0));
    let estimate = put(&path, "hostile-guest", &patient(None), Some("linear-estimate"));
    assert_eq!((estimate.decisions, estimate.differences.len()), (1, 1));
    let file = PluginFile::open(&guest_path("custom-policy"), Path::new("/nonexistent")).unwrap();
    let said = |of| replay(&path, &file, &patient(None), of).unwrap_err().to_string();
    assert!(said(Some("fair")).contains("has no decisions of fair; it has those of hostile-guest"));
    assert!(said(None).contains("no decisions that custom-policy could make"));
}

#[tokio::test]
async fn a_damaged_line_is_counted_and_the_rest_is_replayed() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("decisions.jsonl");
    {
        let policies = Policies::load(&recording(&path)).unwrap();
        for _ in 0..3 {
            policies.check(&training(), &worker("w", &[8]), None).await;
        }
    }
    let text = fs::read_to_string(&path).unwrap();
    let torn = format!("{}\n{}", &text[..100], &text[text.len() / 3..]);
    fs::write(&path, torn).unwrap();
    // The older part comes first.
    fs::write(home.path().join("decisions.jsonl.1"), text.lines().next().unwrap()).unwrap();
    let replayed = put(&path, "hostile-guest", &patient(None), None);
    assert!(replayed.unreadable >= 1, "{replayed:?}");
    assert_eq!(replayed.decisions, 3);
}
