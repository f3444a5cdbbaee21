//! The three defaults, each with a table of cases.

use crate::support::{defaults, training, worker};
use sleap_rtc::policy::Verdict;
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::job::{JobDescription, JobType, Requirements};
use sleap_rtc_protocol::worker::WorkerStatus;

fn needing(min_gpu_memory_mib: u64) -> JobDescription {
    let requirements = Requirements { min_gpu_memory_mib: Some(min_gpu_memory_mib) };
    JobDescription { requirements, ..training() }
}

fn with(mut worker: WorkerFacts, change: impl FnOnce(&mut WorkerFacts)) -> WorkerFacts {
    change(&mut worker);
    worker
}

fn free(name: &str, total: u64, free: Option<u64>) -> WorkerFacts {
    with(worker(name, &[total]), |worker| worker.accelerators.gpus[0].memory_free_mib = free)
}

#[tokio::test]
async fn selection() {
    let busy = |status, slots_free| {
        with(worker("taken", &[80_000]), |worker| {
            worker.status = status;
            worker.slots_free = slots_free;
        })
    };
    let tracks_only =
        with(worker("tracks", &[80_000]), |worker| worker.job_types = vec![JobType::Inference]);
    let half_used = with(worker("half", &[8000]), |worker| worker.slots = 2);
    let cases: Vec<(&str, JobDescription, Vec<WorkerFacts>, Vec<usize>)> = vec![
        ("nobody", training(), vec![], vec![]),
        ("a CPU will do", training(), vec![worker("cpu", &[])], vec![0]),
        (
            "most memory first",
            training(),
            vec![worker("a", &[8192]), worker("b", &[24_576]), worker("c", &[])],
            vec![1, 0, 2],
        ),
        (
            "the largest GPU, not the sum",
            training(),
            vec![worker("a", &[8000, 8000, 8000]), worker("b", &[12_000])],
            vec![1, 0],
        ),
        (
            "then free memory, measured before unmeasured",
            training(),
            vec![free("a", 8000, None), free("b", 8000, Some(10)), free("c", 8000, Some(20))],
            vec![2, 1, 0],
        ),
        ("then fewer jobs", training(), vec![half_used, worker("z", &[8000])], vec![1, 0]),
        ("then the name", training(), vec![worker("b", &[1]), worker("a", &[1])], vec![1, 0]),
        ("busy", training(), vec![busy(WorkerStatus::Busy, 0), worker("a", &[])], vec![1]),
        ("reserved", training(), vec![busy(WorkerStatus::Reserved, 0)], vec![]),
        ("maintenance", training(), vec![busy(WorkerStatus::Maintenance, 1)], vec![]),
        ("no free slot", training(), vec![busy(WorkerStatus::Available, 0)], vec![]),
        ("too small", needing(12_000), vec![worker("a", &[8192]), worker("b", &[12_000])], vec![1]),
        ("other kind of job", training(), vec![tracks_only], vec![]),
    ];
    let policies = defaults();
    for (name, job, workers, expected) in cases {
        let selection = policies.select(&job, &workers).await;
        let order: Vec<_> = selection.ranking.iter().map(|choice| choice.index).collect();
        assert_eq!(order, expected, "{name}");
        assert_eq!(order.len() + selection.left_out.len(), workers.len(), "{name}");
        assert_eq!(selection.notice, None, "{name}");
    }
}

#[tokio::test]
async fn selection_says_why() {
    let workers = [worker("a", &[8192]), worker("b", &[24_564])];
    let selection = defaults().select(&needing(12_000), &workers).await;
    assert_eq!(selection.ranking[0].reason, "largest GPU RTX with 24,564 MB");
    assert_eq!(selection.left_out[0].reason, "needs 12,000 MB, has 8,192 MB");
}

#[tokio::test]
async fn compatibility() {
    let models = |job_type, models: &[&str]| JobDescription {
        model_types: models.iter().map(ToString::to_string).collect(),
        ..JobDescription::unknown(job_type)
    };
    let lists = |listed: &[&str]| {
        with(worker("w", &[8192]), |worker| {
            worker.models = listed.iter().map(ToString::to_string).collect();
        })
    };
    let tracks_only =
        with(worker("w", &[8192]), |worker| worker.job_types = vec![JobType::Inference]);
    let topdown = models(JobType::Training, &["centroid", "centered_instance"]);
    let bottomup = models(JobType::Training, &["bottomup"]);
    let cases: Vec<(&str, JobDescription, WorkerFacts, &[&str])> = vec![
        ("nothing demanded", training(), worker("w", &[]), &[]),
        ("enough", needing(8192), worker("w", &[8192]), &[]),
        ("the largest counts", needing(8000), worker("w", &[4000, 8192]), &[]),
        ("too small", needing(12_000), worker("w", &[8192]), &["needs 12,000 MB, has 8,192 MB"]),
        (
            "not added up",
            needing(12_000),
            worker("w", &[8000, 8000]),
            &["needs 12,000 MB, has 8,000 MB"],
        ),
        ("no GPU", needing(1), worker("w", &[]), &["needs 1 MB, has 0 MB"]),
        ("kind", training(), tracks_only.clone(), &["takes no training jobs"]),
        ("old words", topdown.clone(), lists(&["base", "centroid", "topdown"]), &[]),
        ("any model", bottomup.clone(), lists(&[]), &[]),
        ("own words", bottomup.clone(), lists(&["bottomup"]), &[]),
        ("unknown words", bottomup.clone(), lists(&["new"]), &[]),
        (
            "not listed",
            bottomup,
            lists(&["centroid", "topdown"]),
            &["does not work with bottomup models, only centroid, topdown"],
        ),
        (
            "every reason",
            JobDescription { requirements: needing(9000).requirements, ..training() },
            tracks_only,
            &["takes no training jobs", "needs 9,000 MB, has 8,192 MB"],
        ),
    ];
    let policies = defaults();
    for (name, job, worker, expected) in cases {
        let messages: Vec<String> = match policies.check(&job, &worker).await {
            Verdict::Yes => vec![],
            Verdict::No(reasons) => reasons.into_iter().map(|reason| reason.message).collect(),
        };
        assert_eq!(messages, expected, "{name}");
    }
}

#[tokio::test]
async fn estimate() {
    let job = |job_type, epochs, frame_count| JobDescription {
        epochs,
        frame_count,
        ..JobDescription::unknown(job_type)
    };
    let cases = [
        (job(JobType::Training, Some(200), Some(9)), 100.0),
        (job(JobType::Training, Some(1), None), 0.5),
        (job(JobType::Training, None, Some(9)), 60.0),
        (job(JobType::Inference, None, Some(1500)), 15.0),
        (job(JobType::Inference, Some(200), None), 60.0),
    ];
    let policies = defaults();
    for (job, minutes) in cases {
        let estimate = policies.estimate(&job, &worker("w", &[])).await.unwrap();
        assert_eq!(estimate.minutes, minutes, "{job:?}");
        assert!(estimate.low <= minutes && minutes <= estimate.high);
    }
}

#[tokio::test]
async fn a_thousand_workers_with_long_names() {
    let name = "ä".repeat(100);
    let workers: Vec<_> = (0..1000)
        .map(|n| {
            with(worker(&format!("w{n}"), &[n, 5]), |worker| {
                worker.hostname = Some(name.repeat(100));
                worker.properties.insert("note".into(), name.as_str().into());
            })
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
