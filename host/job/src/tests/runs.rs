//! What trainers are started for, and what comes back.

use super::*;

#[tokio::test]
async fn two_models_are_trained_one_after_the_other() {
    let job = Job::training();
    let (running, _cancel) = job.start();
    wait_for(&job, |event| matches!(event, JobEvent::Staged { .. })).await;
    let events = job.events().await;
    assert_eq!(within(running).await.unwrap(), JobOutcome::Succeeded);
    let landmarks: Vec<JobEvent> = events
        .iter()
        .map(|numbered| numbered.event.clone())
        .filter(|event| !matches!(event, JobEvent::Log { .. } | JobEvent::Progress { .. }))
        .collect();
    let names = ["centroid", "centered_instance"].map(str::to_owned);
    let mut expected = vec![JobEvent::Staged { runs: names.to_vec() }];
    for name in names {
        expected.push(JobEvent::RunStarted { name: name.clone() });
        expected.push(JobEvent::RunEnded { name, outcome: JobOutcome::Succeeded });
    }
    expected.push(JobEvent::Finished { outcome: JobOutcome::Succeeded });
    assert_eq!(landmarks, expected);
    let count = |what| events.iter().filter(|e| is_progress(&e.event, what)).count();
    assert_eq!((count("train_begin"), count("epoch_end"), count("train_end")), (2, 4, 2));
    assert!(job.has_checkpoint("240101_000000.centroid.n=12"), "{:?}", job.results());
    assert!(job.has_checkpoint("240101_000000.centered_instance.n=12"));
    let raw = std::fs::read(job.folder.log_path()).unwrap();
    assert_eq!(job.log().await.into_bytes(), raw, "every byte of the log, \\r and \\n kept");
}

#[tokio::test]
async fn every_dialect_of_the_script_runs() {
    for dialect in ["1.5.0", "1.5.2", "1.6.0", "1.6.6", "sleap-rtc"] {
        let scripts = repository().join("tests/fixtures/scripts");
        let text = std::fs::read_to_string(scripts.join(format!("train-script.{dialect}.sh")));
        let job = Job::training().write("train-script.sh", &text.unwrap());
        assert_eq!(job.run().await, JobOutcome::Succeeded, "{dialect}");
        let models = job.results().iter().filter(|path| path.ends_with("best.ckpt")).count();
        assert_eq!(models, 2, "{dialect}");
    }
}

#[tokio::test]
async fn predictions_come_back_with_progress() {
    for version in ["0.3.5", "0.2.0", "0.0.5"] {
        let job = Job::new(JobType::Inference, Some("track_topdown.zip"))
            .set("FAKE_SLEAP_VERSION", version);
        assert_eq!(job.run().await, JobOutcome::Succeeded);
        assert_eq!(job.results(), ["predictions.slp"]);
        let progress = job.events().await.into_iter().rev().find_map(|event| match event.event {
            JobEvent::Progress { message } => Some(message),
            _ => None,
        });
        match version {
            "0.0.5" => assert_eq!(progress, None),
            _ => assert_eq!(progress.unwrap()["n_processed"], 12),
        }
        assert!(job.log().await.contains("Finished inference at"));
    }
}

#[tokio::test]
async fn a_package_in_one_top_folder() {
    let job = Job::new(JobType::Training, None);
    unpack("train_single.zip", &job.folder.files_dir().join("top"));
    assert_eq!(job.run().await, JobOutcome::Succeeded);
    assert!(job.has_checkpoint("single_instance"));
}

#[tokio::test]
async fn the_script_decides_the_kind_of_a_package() {
    let job = Job::new(JobType::Training, Some("track_topdown.zip"));
    assert_eq!(job.run().await, JobOutcome::Succeeded);
    assert_eq!(job.results(), ["predictions.slp"]);
    let described = describe_folder(&job.folder.files_dir(), JobType::Training);
    assert_eq!(described.job_type, JobType::Inference);
}

#[tokio::test]
async fn json_configs_run_through_sleap_train() {
    let script = "sleap-train a.json one.pkg.slp\n";
    let job = Job::single().write("train-script.sh", script).write("a.json", "{}");
    let (_, message) = expect_failure(job.run().await);
    assert!(message.contains("SLEAP 1.4.1"), "{message}");

    let job = Job::single().write("train-script.sh", script).write("a.json", "{}");
    let job = job.with_sleap_train();
    assert_eq!(job.run().await, JobOutcome::Succeeded);
    assert_eq!(job.results(), ["a/best_model.h5"]);
}

#[tokio::test]
async fn one_config_used_twice_makes_two_models() {
    let script = "sleap-nn train single_instance.yaml trainer_config.seed=1 && \
        sleap-nn train single_instance.yaml trainer_config.seed=2\n";
    let job = Job::single().write("train-script.sh", script);
    assert_eq!(job.run().await, JobOutcome::Succeeded);
    assert!(job.has_checkpoint("single_instance"));
    assert!(
        job.has_checkpoint("single_instance.single_instance")
            || job.has_checkpoint("single_instance-2")
    );
}

#[tokio::test]
async fn a_package_predicts_with_models_that_it_trained() {
    let script = "sleap-nn track -i one.pkg.slp -m models/single_instance -o one.predictions.slp\n";
    let job = Job::single().write("inference-script.sh", script);
    assert_eq!(job.run().await, JobOutcome::Succeeded);
    assert!(job.has_checkpoint("single_instance"));
    assert!(job.results().contains(&"one.predictions.slp".to_owned()), "{:?}", job.results());
}

#[tokio::test]
async fn a_training_saves_its_model_even_if_its_config_does_not() {
    let job = Job::single();
    let path = job.folder.files_dir().join("single_instance.yaml");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace("  save_ckpt: true\n", "")).unwrap();
    assert_eq!(job.run().await, JobOutcome::Succeeded);
    assert!(job.has_checkpoint("single_instance"));
    assert!(job.log().await.contains("save_ckpt is set"));
}

#[tokio::test]
async fn work_of_a_trainers_child_is_awaited() {
    let mut job = Job::single().set("FAKE_SLEAP_QUIET_S", "4").with_wrapper();
    job.settings.exit_grace_ms = 2_500;
    assert_eq!(job.run().await, JobOutcome::Succeeded);
    assert!(!job.log().await.contains("killing it"));
}

#[tokio::test]
async fn models_of_sleap_1_4_are_found_in_any_folder() {
    let config = r#"{"outputs": {"runs_folder": "/data/models", "run_name": "x"}}"#;
    let job = Job::single().write("a.json", config);
    let job = job.write("train-script.sh", "sleap-train a.json one.pkg.slp\n").with_sleap_train();
    assert_eq!(job.run().await, JobOutcome::Succeeded);
    assert_eq!(job.results(), ["x/best_model.h5"]);
}

#[tokio::test]
async fn unread_output_does_not_block_a_training() {
    let mut job = Job::single().set("FAKE_SLEAP_NOISE", "2000");
    job.settings.log_limit_bytes = 500_000;
    assert_eq!(job.run().await, JobOutcome::Succeeded);
    let size = |path: PathBuf| std::fs::metadata(path).unwrap().len();
    assert!(size(job.folder.log_path()) < 600_000);
    assert!(size(job.folder.events_path()) < 800_000);
    assert!(job.log().await.contains("The log has reached its limit"));
}

#[tokio::test]
async fn a_trainer_sees_only_listed_variables() {
    let starts = tempfile::NamedTempFile::new().unwrap();
    let mut job = Job::single().set("FAKE_SLEAP_LOG", starts.path().to_str().unwrap());
    job.settings.gpus = Some(vec![1]);
    assert_eq!(job.run().await, JobOutcome::Succeeded);
    let start: serde_json::Value =
        serde_json::from_slice(&std::fs::read(starts.path()).unwrap()).unwrap();
    let names: Vec<&str> =
        start["env"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(names.contains(&"PYTHONUNBUFFERED") && names.contains(&"CUDA_VISIBLE_DEVICES"));
    assert!(!names.iter().any(|name| name.starts_with("CARGO")), "{names:?}");
    assert_eq!(start["argv"][0], "train");
    let own = start["argv"].as_array().unwrap().iter().filter_map(|word| word.as_str());
    let own: Vec<&str> = own.rev().take(4).collect();
    assert_eq!(own[3], "++trainer_config.ckpt_dir=\"models\"");
}
