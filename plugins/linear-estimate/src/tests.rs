use super::*;
use bindings::sleap_rtc::policy::types::{JobType, Requirements};
use serde_json::json;

fn job(job_type: JobType, epochs: Option<u32>, frame_count: Option<u64>) -> Job {
    Job {
        job_type,
        model_types: vec![],
        epochs,
        batch_size: None,
        frame_count,
        image: None,
        package_bytes: None,
        requirements: Requirements { min_gpu_memory_mib: None, properties: vec![] },
        user: None,
        properties: vec![],
    }
}

fn property(key: &str, json: &serde_json::Value) -> Property {
    Property { key: key.into(), value: Value::Json(json.to_string()) }
}

/// A training of 100 epochs of 200 batches.
fn run(batch_size: u32) -> serde_json::Value {
    json!({
        "job_type": "training", "epochs": 100, "stops_early": true, "batch_size": batch_size,
        "batches_per_epoch": 200, "frames": 1000, "input": {"height": 100, "width": 100},
    })
}

/// It has ended after `epochs` epochs with batches of 0.1 s per four samples.
fn past(batch_size: u32, epochs: u32) -> serde_json::Value {
    let s_per_batch = f64::from(batch_size) * 0.025;
    let took_s = 10.0 + f64::from(epochs) * (200.0 * s_per_batch + 2.0) + 5.0;
    json!({"run": run(batch_size), "succeeded": true, "took": {
        "took_s": took_s, "start_up_s": 10, "epochs": epochs, "s_per_batch": s_per_batch,
        "batches_per_epoch": 200, "validation_s": 2, "after_s": 5,
    }})
}

fn estimate(run: serde_json::Value, history: &[serde_json::Value]) -> Duration {
    let mut job = job(JobType::Training, Some(100), Some(1000));
    job.properties = vec![property("runs", &json!([run]))];
    duration(&job, None, &[property("history", &json!(history))])
}

#[test]
fn without_history_epochs_frames_or_an_hour() {
    let minutes =
        |job_type, epochs, frames| duration(&job(job_type, epochs, frames), None, &[]).minutes;
    assert_eq!(minutes(JobType::Training, Some(200), Some(7)), 100.0);
    assert_eq!(minutes(JobType::Inference, Some(200), Some(1500)), 15.0);
    assert_eq!(minutes(JobType::Training, None, Some(1500)), 60.0);
    assert_eq!(minutes(JobType::Inference, Some(200), None), 60.0);
    assert_eq!(minutes(JobType::Other("x".into()), Some(1), Some(1)), 60.0);
}

#[test]
fn one_earlier_run_is_repeated() {
    let told = estimate(run(4), &[past(4, 50)]);
    // 10 s, 50 epochs of 22 s, and 5 s.
    assert!((told.minutes - 1115.0 / 60.0).abs() < 0.01, "{told:?}");
    assert!(told.low * 1.9 < told.minutes && told.high > told.minutes * 1.9, "{told:?}");
    assert_eq!(told.confidence, 0.8);
}

#[test]
fn a_larger_batch_takes_longer_where_it_did_so_before() {
    let history: Vec<_> = [4, 8, 2, 4, 8, 2, 4].map(|size| past(size, 50)).to_vec();
    let (four, sixteen) = (estimate(run(4), &history), estimate(run(16), &history));
    let ratio = sixteen.minutes / four.minutes;
    assert!((3.4..4.0).contains(&ratio), "{ratio}");
    assert!(four.high / four.low < 2.5, "{four:?}");
}

#[test]
fn trainings_that_end_at_different_epochs_make_the_answer_wide() {
    let even: Vec<_> = (0..30).map(|_| past(4, 60)).collect();
    let uneven: Vec<_> = (0..30).map(|n| past(4, 30 + 2 * n)).collect();
    let (even, uneven) = (estimate(run(4), &even), estimate(run(4), &uneven));
    assert!(even.high / even.low < 1.1, "{even:?}");
    assert!(uneven.high / uneven.low > 1.8, "{uneven:?}");
}

#[test]
fn a_run_without_history_keeps_its_rule_of_thumb() {
    let mut job = job(JobType::Training, Some(100), Some(1000));
    let inference = json!({"job_type": "inference", "frames": 600});
    job.properties = vec![property("runs", &json!([run(4), inference]))];
    let told = duration(&job, None, &[property("history", &json!([past(4, 50)]))]);
    assert!((told.minutes - (1115.0 + 360.0) / 60.0).abs() < 0.01, "{told:?}");
    assert_eq!(told.confidence, 0.5);
}

#[test]
fn nonsense_is_no_history() {
    let nothing = estimate(run(4), &[]);
    for nonsense in [
        json!(null),
        json!({"run": 3, "took": []}),
        json!({"run": run(4), "took": {"took_s": -1}}),
        json!({"run": run(4), "took": {"took_s": 1e300}}),
        json!({"run": {"job_type": "dance"}, "took": {"took_s": 1}}),
    ] {
        let told = estimate(run(4), std::slice::from_ref(&nonsense));
        assert_eq!(told.minutes, nothing.minutes, "{nonsense}");
    }
    let tiny = json!({"run": {"job_type": "training", "epochs": 1e11, "batch_size": 1e11},
        "succeeded": true, "took": {"took_s": 1e8, "s_per_batch": 1e8, "epochs": 1e11}});
    let told = estimate(run(4), &[tiny.clone(), tiny]);
    assert!(told.low <= told.minutes && told.minutes <= told.high && told.high.is_finite());
}
