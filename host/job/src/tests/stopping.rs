//! How jobs end early.

use super::*;

#[tokio::test]
async fn a_trainer_that_hangs_after_its_work_has_succeeded() {
    let mut job = Job::single().set("FAKE_SLEAP_HANG_AT_EXIT", "1");
    job.settings.exit_grace_ms = 300;
    assert_eq!(job.run().await, JobOutcome::Succeeded);
    assert!(job.has_checkpoint("single_instance"));
}

#[tokio::test]
async fn cancel_leaves_no_process() {
    let child = tempfile::NamedTempFile::new().unwrap();
    let mut job = Job::training()
        .set("FAKE_SLEAP_EPOCHS", "100000")
        .set("FAKE_SLEAP_IGNORE_TERM", "1")
        .set("FAKE_SLEAP_CHILD", child.path().to_str().unwrap());
    job.settings.kill_grace_ms = 200;
    let (running, _token) = job.start();
    wait_for(&job, |event| is_progress(event, "epoch_end")).await;
    job.handle().await.command(JobCommand::Cancel).await.unwrap();
    assert_eq!(within(running).await.unwrap(), JobOutcome::Cancelled);
    gone(std::fs::read_to_string(child.path()).unwrap().parse().unwrap()).await;
    assert_eq!(job.results(), Vec::<String>::new());
    let after = job.handle().await.command(JobCommand::Cancel).await;
    assert!(matches!(after, Err(JobError::NotRunning)));
}

#[tokio::test]
async fn leftovers_in_a_trainers_group_are_killed() {
    let child = tempfile::NamedTempFile::new().unwrap();
    let job = Job::single().set("FAKE_SLEAP_CHILD", child.path().to_str().unwrap());
    assert_eq!(job.run().await, JobOutcome::Succeeded);
    gone(std::fs::read_to_string(child.path()).unwrap().parse().unwrap()).await;
}

#[tokio::test]
async fn an_interruption_keeps_what_was_saved() {
    let job = Job::single().set("FAKE_SLEAP_EPOCHS", "100000");
    let (running, token) = job.start();
    wait_for(&job, |event| is_progress(event, "epoch_end")).await;
    token.cancel();
    // SIGTERM ends a training with exit code 0. It counts as interrupted nevertheless.
    assert_eq!(within(running).await.unwrap(), JobOutcome::Interrupted);
    assert!(job.results().iter().any(|file| file.ends_with("best.ckpt")), "{:?}", job.results());
}

#[tokio::test]
async fn stop_ends_one_model_early_and_keeps_it() {
    let job = Job::training().set("FAKE_SLEAP_EPOCHS", "40");
    let (running, _token) = job.start();
    wait_for(&job, |event| is_progress(event, "epoch_end")).await;
    job.handle().await.command(JobCommand::Stop { all: false }).await.unwrap();
    assert_eq!(within(running).await.unwrap(), JobOutcome::StoppedEarly);
    let ended: Vec<JobOutcome> = job
        .events()
        .await
        .into_iter()
        .filter_map(|numbered| match numbered.event {
            JobEvent::RunEnded { outcome, .. } => Some(outcome),
            _ => None,
        })
        .collect();
    assert_eq!(ended, [JobOutcome::StoppedEarly, JobOutcome::Succeeded]);
    assert!(job.has_checkpoint("240101_000000.centroid.n=12"));
    assert!(job.has_checkpoint("240101_000000.centered_instance.n=12"));
}

#[tokio::test]
async fn an_unresponsive_training_is_ended_between_batches() {
    let mut job = Job::single().set("FAKE_SLEAP_IGNORE_STOP", "1").set("FAKE_SLEAP_STEPS", "4");
    job = job.set("FAKE_SLEAP_BATCH_S", "0.1").set("FAKE_SLEAP_VALIDATION_S", "1");
    job = job.set("FAKE_SLEAP_EPOCHS", "50");
    // Two epochs of batches.
    job.settings.stop_grace_ms = 700;
    let (running, _) = job.start();
    wait_for(&job, |event| is_progress(event, "batch_end")).await;
    job.handle().await.command(JobCommand::Stop { all: false }).await.unwrap();
    assert_eq!(within(running).await.unwrap(), JobOutcome::StoppedEarly);
    assert!(job.results().iter().any(|file| file.ends_with("best.ckpt")));
    let log = job.log().await;
    assert!(log.contains("sending SIGTERM") && log.contains("Received SIGTERM"), "{log}");
    assert!(!log.contains("while validating"), "{log}");
}

#[tokio::test]
async fn a_long_validation_is_not_unresponsiveness() {
    let mut job = Job::single().set("FAKE_SLEAP_BATCH_S", "0.05");
    job = job.set("FAKE_SLEAP_VALIDATION_S", "1.5");
    job.settings.stop_grace_ms = 1000;
    let (running, _) = job.start();
    wait_for(&job, |event| is_progress(event, "batch_end")).await;
    job.handle().await.command(JobCommand::Stop { all: false }).await.unwrap();
    assert_eq!(within(running).await.unwrap(), JobOutcome::StoppedEarly);
    assert!(!job.log().await.contains("SIGTERM"));
}

#[tokio::test]
async fn stop_all_ends_the_job_even_before_the_first_batch() {
    let job = Job::training().set("FAKE_SLEAP_EPOCHS", "100000").set("FAKE_SLEAP_START_S", "1.0");
    let (running, _token) = job.start();
    wait_for(&job, |event| matches!(event, JobEvent::RunStarted { .. })).await;
    job.handle().await.command(JobCommand::Stop { all: true }).await.unwrap();
    assert_eq!(within(running).await.unwrap(), JobOutcome::StoppedEarly);
    assert!(job.has_checkpoint("240101_000000.centroid.n=12"));
    assert!(!job.has_checkpoint("240101_000000.centered_instance.n=12"));
}
