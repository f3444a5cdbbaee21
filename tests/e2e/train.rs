//! Training jobs, from a package to models in the output folder.

use crate::support::*;
use std::fs;
use std::path::Path;

/// Asserts that the models of `runs` are below `output`.
#[track_caller]
fn assert_models(output: &Path, runs: &[&str]) {
    let files = files_below(output);
    for run in runs {
        let found = files.iter().any(|file| {
            file.ends_with("best.ckpt")
                && file.parent().is_some_and(|folder| folder.to_string_lossy().contains(run))
        });
        assert!(found, "no best.ckpt of {run} in {files:?}");
    }
}

#[test]
fn room_credentials_and_auto_select_bring_a_model() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let client =
        site.client(&server).train(&fixture("train_single.zip")).auto(worker.credentials());
    let output = client.output();
    let ended = client.run();
    ended.assert_code(0).assert_says(&[output.to_str().unwrap(), "Finished training at"]);
    assert_models(&output, &["single_instance"]);
    worker.wait_idle(&site, &server);
}

#[test]
fn a_session_string_reaches_an_available_worker() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let client =
        site.client(&server).train(&fixture("train_single.zip")).session(worker.credentials());
    let output = client.output();
    client.run().assert_code(0);
    assert_models(&output, &["single_instance"]);
}

#[test]
fn several_models_are_trained_in_sequence() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let client =
        site.client(&server).train(&fixture("train_topdown.zip")).auto(worker.credentials());
    let output = client.output();
    client.run().assert_code(0);
    assert_models(&output, &["centroid", "centered_instance"]);
    assert_eq!(worker.trainer_starts().len(), 2);
}

#[test]
fn a_folder_is_a_package_too() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let folder = unpacked(&site, "train_single.zip");
    let client = site.client(&server).train(&folder).auto(worker.credentials());
    let output = client.output();
    client.run().assert_code(0);
    assert_models(&output, &["single_instance"]);
}

#[test]
fn a_package_may_have_one_top_folder() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let zip = Zip::new(&site, "labels.pkg.zip").fixture("train_single.zip", "labels.pkg/", &[]);
    let client = site.client(&server).train(&zip.finish()).auto(worker.credentials());
    let output = client.output();
    client.run().assert_code(0);
    assert_models(&output, &["single_instance"]);
}

#[test]
fn the_default_output_is_a_new_folder_named_after_the_package() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let client = site
        .client(&server)
        .arguments(&["client-train", "--pkg-path"])
        .argument(fixture("train_single.zip"))
        .auto(worker.credentials());
    let home = client.home().to_owned();
    client.run().assert_code(0);
    let folders: Vec<_> = std::fs::read_dir(home).unwrap().flatten().collect();
    let named = folders.iter().find(|f| f.file_name().to_string_lossy().contains("train_single"));
    assert_models(&named.expect("a folder named after the package").path(), &["single_instance"]);
}

#[test]
fn the_trainers_log_and_progress_reach_the_client_as_plain_lines() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let client =
        site.client(&server).train(&fixture("train_single.zip")).auto(worker.credentials());
    let ended = client.run();
    ended.assert_code(0).assert_says(&["Started training at", "Epoch"]);
    assert!(!ended.text().contains('\u{1b}'), "escape sequences on a pipe:\n{}", ended.text());
}

#[test]
fn the_trainer_sees_a_scrubbed_environment_and_a_private_folder() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").env("SLEAP_RTC_TOKEN", "secret");
    let worker = setup.env("AWS_SECRET_ACCESS_KEY", "secret").start(&server);
    for _ in 0..2 {
        let client = site.client(&server).train(&fixture("train_single.zip"));
        client.auto(worker.credentials()).run().assert_code(0);
    }
    let starts = worker.trainer_starts();
    let names = starts[0]["env"].to_string();
    assert!(!names.contains("SECRET") && !names.contains("SLEAP_RTC_TOKEN"), "{names}");
    assert_ne!(starts[0]["cwd"], starts[1]["cwd"], "two jobs in one folder");
    let state = worker.state_dir().canonicalize().unwrap();
    assert!(Path::new(starts[0]["cwd"].as_str().unwrap()).starts_with(state));
}

#[test]
fn noise_on_the_trainers_output_does_not_stop_it() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").env("FAKE_SLEAP_NOISE", "2000");
    let worker = setup.start(&server);
    let client =
        site.client(&server).train(&fixture("train_single.zip")).auto(worker.credentials());
    client.run().assert_code(0);
}

#[test]
fn a_job_continues_while_the_server_is_away() {
    let site = Site::new();
    let mut server = TestServer::persistent(&site);
    let setup = TestWorker::setup(&site, "worker").env("FAKE_SLEAP_BATCH_S", "0.5");
    let worker = setup.start(&server);
    let client =
        site.client(&server).train(&fixture("train_single.zip")).auto(worker.credentials());
    let mut client = client.start();
    wait_for("the trainer", SOON, || worker.trainer_starts().pop());
    server.restart();
    assert_eq!(client.wait(A_WHILE), 0, "{}", client.transcript());
    worker.wait_idle(&site, &server);
}

#[test]
fn a_trainer_that_ignores_sigterm_is_killed() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").env("FAKE_SLEAP_BATCH_S", "10");
    let worker = setup.env("FAKE_SLEAP_IGNORE_TERM", "1").start(&server);
    let client =
        site.client(&server).train(&fixture("train_single.zip")).auto(worker.credentials());
    let mut client = client.start();
    wait_for("the trainer", SOON, || worker.trainer_starts().pop());
    for _ in 0..2 {
        // The second one counts once the first was received.
        client.signal(rustix::process::Signal::INT);
        wait_for("an answer", SOON, || client.stderr().contains("Ctrl-C again").then_some(()));
    }
    assert_eq!(client.wait(SOON), 130, "{}", client.transcript());
    worker.wait_idle(&site, &server);
}

#[test]
fn one_worker_serves_one_client_after_another() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    for _ in 0..3 {
        let client = site.client(&server).train(&fixture("train_single.zip"));
        client.session(worker.credentials()).run().assert_code(0);
    }
    assert_eq!(worker.trainer_starts().len(), 3);
    worker.wait_idle(&site, &server);
}

#[test]
fn a_client_whose_output_is_not_read_downloads_the_models() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let client =
        site.client(&server).train(&fixture("train_single.zip")).auto(worker.credentials());
    let output = client.output();
    assert_eq!(client.run_unheard(), Some(0));
    assert!(files_below(&output).iter().any(|file| file.ends_with("best.ckpt")));
}

#[test]
fn a_job_that_fails_leaves_no_output_folder() {
    let site = Site::new();
    let server = site.server();
    let worker =
        TestWorker::setup(&site, "worker").env("FAKE_SLEAP_FAIL_EPOCH", "0").start(&server);
    let client =
        site.client(&server).train(&fixture("train_single.zip")).auto(worker.credentials());
    let (home, output) = (client.home().to_owned(), client.output());
    client.run().assert_code(6);
    // Only the client's own record of the job and its compiled plugins stay.
    let own = |file: &std::path::PathBuf| file.starts_with(".local") || file.starts_with(".cache");
    let left = files_below(&home).into_iter().filter(|file| !own(file));
    assert_eq!(left.count(), 0);
    assert!(!output.exists());
}

#[test]
fn models_of_an_earlier_training_are_not_sent_again() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let package = unpacked(&site, "train_single.zip");
    let earlier = package.join("models/single_instance");
    fs::create_dir_all(&earlier).unwrap();
    fs::write(earlier.join("training_config.yaml"), "a: 1\n").unwrap();
    fs::write(earlier.join("best.ckpt"), vec![7; 3_000_000]).unwrap();
    let client = site.client(&server).train(&package).session(worker.credentials());
    let output = client.output();
    let ended = client.run();
    ended.assert_code(0);
    assert!(!ended.stderr.contains(" MB"), "{}", ended.stderr);
    assert!(output.join("single_instance/best.ckpt").is_file());
}

#[test]
fn a_file_that_is_not_a_package_is_identified() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let folder = unpacked(&site, "train_single.zip");
    for (path, words) in [
        (folder.join("one.pkg.slp"), "SLEAP labels file"),
        (folder.join("single_instance.yaml"), "config file"),
        (labels_and_models(&site).1[0].clone(), "the folder of a trained model"),
    ] {
        let client = site.client(&server).train(&path).session(worker.credentials());
        client.run_within(SOON).assert_code(2).assert_says(&[words]);
    }
}
