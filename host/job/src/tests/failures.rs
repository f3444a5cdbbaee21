//! What cannot run, and what goes wrong.

use super::*;

#[tokio::test]
async fn an_existing_model_is_not_mistaken_for_the_new_one() {
    let job = Job::single();
    let old = job.folder.files_dir().join("models/single_instance");
    std::fs::create_dir_all(&old).unwrap();
    std::fs::write(old.join("best.ckpt"), "old").unwrap();
    assert_eq!(job.run().await, JobOutcome::Succeeded);
    assert_eq!(job.results().iter().filter(|file| file.ends_with("best.ckpt")).count(), 1);
    let kept = job.folder.results_dir().join("single_instance/best.ckpt");
    assert_ne!(std::fs::read(kept).unwrap(), b"old");
}

#[tokio::test]
async fn failures_name_their_cause() {
    let cases = [
        ("FAKE_SLEAP_FAIL_EPOCH", Some(1), "RuntimeError: fake failure in training"),
        ("FAKE_SLEAP_OOM_EPOCH", Some(1), "smaller batch size"),
        ("FAKE_SLEAP_KILL_EPOCH", None, "SIGKILL"),
    ];
    for (knob, exit_code, expected) in cases {
        let job = Job::training().set(knob, "1");
        let (code, message) = expect_failure(job.run().await);
        assert_eq!(code, exit_code, "{knob}");
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
        // The first epoch was saved, and the second model never began.
        assert!(job.has_checkpoint("240101_000000.centroid.n=12"));
        let started = |e: &NumberedEvent| matches!(e.event, JobEvent::RunStarted { .. });
        assert_eq!(job.events().await.iter().filter(|e| started(e)).count(), 1);
    }
}

#[tokio::test]
async fn unusable_packages_are_refused_with_a_reason() {
    let script = |text: &str| Job::single().write("train-script.sh", text);
    let mut nothing_installed = Job::single();
    nothing_installed.settings.search_path = Some("/nonexistent".into());
    let cases = [
        (Job::new(JobType::Training, None), "no train-script.sh"),
        (Job::new(JobType::Inference, None), "no track-script.sh"),
        (script("echo hello\n"), "no line that starts a trainer"),
        (script("sleap-nn train gone.yaml\n"), "lacks \"gone.yaml\""),
        (script("sleap-nn train ../x.yaml\n"), "lacks ../x.yaml"),
        (nothing_installed, "uv tool install"),
    ];
    for (job, expected) in cases {
        let (_, message) = expect_failure(job.run().await);
        assert!(message.replace("gone.yaml", "\"gone.yaml\"").contains(expected), "{message}");
        assert_eq!(job.results(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn missing_labels_are_named() {
    let job = Job::single();
    std::fs::remove_file(job.folder.files_dir().join("one.pkg.slp")).unwrap();
    let (code, message) = expect_failure(job.run().await);
    assert_eq!(code, None, "no trainer was started");
    assert!(message.contains("one.pkg.slp"), "{message}");
    assert!(message.contains("single_instance.yaml (data_config.train_labels_path)"), "{message}");
}

#[tokio::test]
async fn a_link_out_of_the_package_is_not_followed() {
    let job = Job::single();
    let config = job.folder.files_dir().join("single_instance.yaml");
    std::fs::remove_file(&config).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &config).unwrap();
    let (_, message) = expect_failure(job.run().await);
    assert!(message.contains("leads out of the package"), "{message}");
}

#[tokio::test]
async fn a_prediction_without_frames_fails() {
    let job = Job::new(JobType::Inference, Some("track_topdown.zip")).set("FAKE_SLEAP_FRAMES", "0");
    let (_, message) = expect_failure(job.run().await);
    assert!(message.contains("no frame was predicted"), "{message}");
    assert_eq!(job.results(), Vec::<String>::new());
}

#[tokio::test]
async fn unknown_tracker_options_are_named() {
    let script =
        "sleap-nn predict -i two.pkg.slp -m models/centroid -o p.slp --tracker bytetrack\n";
    let job = Job::new(JobType::Inference, Some("track_topdown.zip"));
    let job = job.write("track-script.sh", script).set("FAKE_SLEAP_VERSION", "0.2.0");
    let (code, message) = expect_failure(job.run().await);
    assert_eq!(code, None);
    assert!(message.contains("does not know the option --tracker"), "{message}");
}

#[tokio::test]
async fn a_job_whose_process_died_is_interrupted() {
    let job = Job::single().set("FAKE_SLEAP_EPOCHS", "100000");
    let (running, _token) = job.start();
    wait_for(&job, |event| is_progress(event, "epoch_end")).await;
    // The closest that a task comes to SIGKILL: its state is dropped, and nothing is written.
    running.abort();
    assert!(within(running).await.unwrap_err().is_cancelled());
    let attached = JobHandle::attach(&job.folder).await;
    assert!(matches!(attached, Err(JobError::Interrupted)), "{attached:?}");
    let events = job.events().await;
    let last = events.last().unwrap().event.clone();
    assert_eq!(last, JobEvent::Finished { outcome: JobOutcome::Interrupted });
    let mut none = job.handle().await.events(events.len() as u64);
    assert_eq!(none.next().await, None);
    assert_eq!(job.run().await, JobOutcome::Interrupted, "it is not run again");
}

#[tokio::test]
async fn a_process_that_does_not_start_is_an_error() {
    let job = Job::single();
    let mut options = RunnerOptions::new(RunnerSettings::default());
    for (binary, expected) in [("/bin/false", "does not answer"), ("/nonexistent", "cannot start")]
    {
        options.binary = binary.into();
        let error = within(handle::start(&job.folder, &options)).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
