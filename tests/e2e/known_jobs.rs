//! Returning to a job, from the same machine by its id or from another by its job string.

use crate::support::*;
use sleap_rtc_protocol::ids::JobSecret;
use sleap_rtc_trust::session::JobString;
use std::path::PathBuf;

/// A worker whose training takes some seconds, and a client's data folder.
struct Lab {
    site: Site,
    server: TestServer,
    worker: TestWorker,
    data: PathBuf,
}

fn lab() -> Lab {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").env("FAKE_SLEAP_BATCH_S", "0.5");
    let worker = setup.env("FAKE_SLEAP_STEPS", "10").start(&server);
    let data = site.folder("data");
    Lab { site, server, worker, data }
}

impl Lab {
    fn client(&self) -> TestClient {
        self.site.client(&self.server).env("XDG_DATA_HOME", self.data.to_str().unwrap())
    }

    /// Submits a training and kills its client in the middle. Returns the job's id.
    fn abandoned(&self) -> String {
        let client = self.client().train(&fixture("train_single.zip"));
        let mut client = client.session(self.worker.credentials()).start();
        let mut observer = Observer::join(&self.server, self.worker.credentials());
        observer.wait_status(self.worker.peer_id(), "busy", SOON);
        client.wait_stdout("the trainer's log", SOON, |text: &str| {
            text.contains("Starting training loop").then_some(())
        });
        client.kill();
        let listed = self.client().arguments(&["jobs"]).run().assert_code(0).text();
        listed.split_whitespace().find(|word| word.starts_with("job-")).unwrap().to_owned()
    }
}

#[test]
fn attach_comes_back_to_a_job_whose_client_was_killed() {
    let lab = lab();
    let job = lab.abandoned();
    let output = lab.site.folder("back");
    let attach = lab.client().arguments(&["attach", &job, "--output"]).argument(&output);
    attach.run().assert_code(0).assert_says(&["Finished training at"]);
    assert!(files_below(&output).iter().any(|file| file.ends_with("best.ckpt")));
    assert_eq!(lab.worker.trainer_starts().len(), 1, "the same job, not another");
}

#[test]
fn a_job_string_works_from_another_machine() {
    let lab = lab();
    lab.abandoned();
    let listed = lab.client().arguments(&["jobs", "--strings"]).run().assert_code(0).text();
    let string = listed.split_whitespace().find(|word| word.starts_with("sleap-job:")).unwrap();
    let output = lab.site.folder("elsewhere");
    let elsewhere = lab.site.client(&lab.server).arguments(&["attach", string, "--output"]);
    elsewhere.argument(&output).run().assert_code(0);
    assert!(files_below(&output).iter().any(|file| file.ends_with("best.ckpt")));
}

#[test]
fn cancel_ends_a_job_and_fetch_says_so() {
    let lab = lab();
    let job = lab.abandoned();
    lab.client().arguments(&["cancel", &job]).run().assert_code(0);
    lab.worker.wait_idle(&lab.site, &lab.server);
    lab.client().arguments(&["fetch", &job]).run().assert_code(130);
    lab.client()
        .arguments(&["cancel", &job])
        .run()
        .assert_code(5)
        .assert_says(&["already finished"]);
}

#[test]
fn a_result_waits_and_may_be_fetched_twice() {
    let lab = lab();
    let job = lab.abandoned();
    lab.client().arguments(&["fetch", &job]).run().assert_code(5).assert_says(&["still running"]);
    let report = lab.client().arguments(&["report", &job]).run_within(SOON);
    report.assert_code(2).assert_says(&["has no result yet", "attach"]);
    lab.client().arguments(&["logs", &job, "--follow"]).run().assert_code(0);
    lab.worker.wait_idle(&lab.site, &lab.server);
    let places = ["first", "second"].map(|folder| lab.site.folder(folder));
    for output in &places {
        let fetch = lab.client().arguments(&["fetch", &job, "--output"]).argument(output);
        fetch.run().assert_code(0);
        assert!(files_below(output).iter().any(|file| file.ends_with("best.ckpt")), "{output:?}");
    }
    // To the same place again: at once, and without a second model.
    let there = places.each_ref().map(|place| files_below(place));
    let again = lab.client().arguments(&["fetch", &job[..12]]).run();
    again.assert_code(0).assert_says(&["already in", places[1].to_str().unwrap(), "--output"]);
    assert!(!again.text().contains("Receiving"), "{}", again.text());
    let again = lab.client().arguments(&["fetch", &job, "--output"]).argument(&places[0]).run();
    again.assert_code(0).assert_says(&["Receiving"]);
    assert_eq!(places.each_ref().map(|place| files_below(place)), there);
    let logs = lab.client().arguments(&["logs", &job]).run();
    logs.assert_code(0).assert_says(&["Finished training at"]);
    let listed = lab.client().arguments(&["jobs"]).run();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let to_host = format!(" to {} (", host.trim());
    listed.assert_code(0).assert_says(&["succeeded", "last seen just now", &to_host]);
    listed.assert_says(&[&format!("its result is in {}", places[0].display())]);
}

#[test]
fn stop_keeps_the_model() {
    let lab = lab();
    let job = lab.abandoned();
    lab.client().arguments(&["stop", &job]).run().assert_code(0);
    let output = lab.site.folder("stopped");
    let attach = lab.client().arguments(&["attach", &job, "--output"]).argument(&output);
    attach.run().assert_code(0).assert_says(&["stopped early"]);
    assert!(files_below(&output).iter().any(|file| file.ends_with("best.ckpt")));
}

#[test]
fn a_job_is_opened_by_its_secret_alone() {
    let lab = lab();
    let job = lab.abandoned();
    // The id is not a secret. With only the id and the room, a client gets nothing.
    let stranger = lab.site.client(&lab.server).arguments(&["logs", &job]);
    stranger.run().assert_code(2).assert_says(&[&job, "job string"]);
}

#[test]
fn a_wrong_secret_opens_nothing() {
    let lab = lab();
    let job = lab.abandoned();
    let listed = lab.client().arguments(&["jobs", "--strings"]).run().text();
    let string = listed.split_whitespace().find(|word| word.starts_with("sleap-job:")).unwrap();
    let right: JobString = string.parse().unwrap();
    let wrong = JobString { secret: JobSecret::new("0".repeat(32)).unwrap(), ..right }.to_string();
    let output = lab.site.folder("wrong");
    let output = output.to_str().unwrap();
    for words in [
        &["logs", &wrong][..],
        &["logs", &wrong, "--follow"],
        &["stop", &wrong],
        &["stop", &wrong, "--all"],
        &["cancel", &wrong],
        &["fetch", &wrong, "--output", output],
        &["attach", &wrong, "--output", output],
    ] {
        let ended = lab.site.client(&lab.server).arguments(words).run();
        ended.assert_code(5).assert_says(&["not your secret"]);
        assert!(!ended.text().contains("Starting training loop"), "{words:?}");
    }
    // None of this affected the job.
    let attach = lab.client().arguments(&["attach", &job, "--output", output]).run();
    attach.assert_code(0).assert_says(&["Finished training at"]);
    assert!(!attach.text().contains("stopped early"));
}

#[test]
fn the_room_sees_whose_job_runs_and_how_far_it_is() {
    let lab = lab();
    let job = lab.abandoned();
    let mut observer = Observer::join(&lab.server, lab.worker.credentials());
    let seen = observer.wait_properties(lab.worker.peer_id(), "progress", |seen| {
        seen["jobs"][0]["progress"]["epoch"].as_u64().is_some_and(|epoch| epoch > 0)
    });
    let shown = seen["jobs"].to_string();
    let record = &lab.worker.jobs()[0];
    assert_eq!(seen["jobs"][0]["owner"], record["owner"], "{shown}");
    // No variable names the user.
    let login = std::process::Command::new("id").arg("-un").output().unwrap();
    let login = String::from_utf8(login.stdout).unwrap();
    assert!(login.is_empty() || seen["jobs"][0]["user"] == login.trim(), "{shown}");
    assert_eq!(seen["jobs"][0]["since_ms"], record["created_ms"], "{shown}");
    assert!(!shown.contains(record["spec"]["verifier"].as_str().unwrap()), "{shown}");
    assert_eq!(record["spec"]["secret"], serde_json::Value::Null, "the worker keeps no secret");
    let list = lab.client().arguments(&["room", "list"]).room(lab.worker.credentials()).run();
    list.assert_code(0).assert_says(&["status: busy", "a job of", "epoch"]);
    lab.client().arguments(&["cancel", &job]).run().assert_code(0);
    let idle = observer
        .wait_properties(lab.worker.peer_id(), "no job", |seen| seen["status"] == "available");
    assert_eq!(idle["jobs"], serde_json::json!([]));
}
