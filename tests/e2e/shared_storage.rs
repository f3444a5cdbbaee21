//! Both sides see the same file system, so paths are sent instead of files.

use crate::reconnect::wait_training;
use crate::support::*;
use std::{fs, os::unix::fs::symlink, path::PathBuf};

struct Shared {
    site: Site,
    server: TestServer,
    worker: TestWorker,
    root: PathBuf,
}

fn shared() -> Shared {
    shared_with(|setup| setup)
}

fn shared_with(change: impl FnOnce(WorkerSetup) -> WorkerSetup) -> Shared {
    let site = Site::new();
    let server = site.server();
    let root = site.folder("shared");
    let setup = change(TestWorker::setup(&site, "worker"));
    let worker = setup.arguments(&["--shared-storage-root", root.to_str().unwrap()]).start(&server);
    Shared { site, server, worker, root }
}

impl Shared {
    fn train(&self, package: PathBuf, output: PathBuf) -> TestClient {
        let client = self.site.client(&self.server);
        let client = client.arguments(&["client-train", "--pkg-path"]).argument(package);
        let client = client.arguments(&["--output"]).argument(output);
        let client = client.arguments(&["--shared-storage-root"]).argument(&self.root);
        client.auto(self.worker.credentials())
    }
}

#[test]
fn a_training_job_reads_and_writes_under_the_root() {
    let shared = shared();
    let package = shared.root.join("labels.pkg.zip");
    fs::copy(fixture("train_single.zip"), &package).unwrap();
    let output = shared.root.join("out");
    shared.train(package, output.clone()).run().assert_code(0);
    assert!(files_below(&output).iter().any(|file| file.ends_with("best.ckpt")));
    shared.worker.wait_idle(&shared.site, &shared.server);
}

#[test]
fn no_inference_leaves_the_script_alone_on_shared_storage() {
    let shared = shared();
    let package = shared.root.join("package");
    fs::rename(unpacked(&shared.site, "train_single.zip"), &package).unwrap();
    let predict = "sleap-nn track -i one.pkg.slp -m models/single_instance -o p.slp\n";
    fs::write(package.join("inference-script.sh"), predict).unwrap();
    for (more, count) in [(&["--no-inference"][..], 1), (&[], 3)] {
        let client = shared.train(package.clone(), shared.root.join(format!("out{count}")));
        client.arguments(more).run().assert_code(0);
        assert_eq!(shared.worker.trainer_starts().len(), count);
    }
}

#[test]
fn results_of_a_job_that_ended_without_its_worker_are_there_when_it_is_back() {
    let mut shared = shared_with(|setup| setup.env("FAKE_SLEAP_BATCH_S", "0.3"));
    let package = shared.root.join("labels.pkg.zip");
    fs::copy(fixture("train_single.zip"), &package).unwrap();
    let output = shared.root.join("out");
    let mut client = shared.train(package, output.clone()).arguments(&["--log"]).start();
    wait_training(&mut client);
    client.kill();
    shared.worker.kill();
    wait_for("the end of the job", A_WHILE, || {
        shared.worker.jobs()[0].to_string().contains("finished").then_some(())
    });
    let best = || files_below(&output).iter().any(|file| file.ends_with("best.ckpt"));
    assert!(!best(), "nobody was there to deliver them");
    let worker = shared.worker.start_again("");
    wait_for("the results", SOON, || best().then_some(()));
    worker.wait_idle(&shared.site, &shared.server);
}

#[test]
fn its_result_can_be_fetched_where_the_storage_is_not() {
    let shared = shared();
    let package = shared.root.join("labels.pkg.zip");
    fs::copy(fixture("train_single.zip"), &package).unwrap();
    let data = shared.site.folder("data");
    let desk = || shared.site.client(&shared.server).env("XDG_DATA_HOME", data.to_str().unwrap());
    let submit = shared.train(package, shared.root.join("out"));
    submit.env("XDG_DATA_HOME", data.to_str().unwrap()).run().assert_code(0);
    let jobs = desk().arguments(&["jobs", "--strings"]).run().assert_code(0).text();
    let string = jobs.split_whitespace().find(|word| word.starts_with("sleap-job:")).unwrap();
    for command in ["fetch", "attach"] {
        let output = shared.site.folder("elsewhere");
        let back = shared.site.client(&shared.server).arguments(&[command, string, "--output"]);
        back.argument(&output).run().assert_code(0);
        assert!(files_below(&output).iter().any(|file| file.ends_with("best.ckpt")), "{command}");
    }
}

#[test]
fn an_inference_job_reads_and_writes_under_the_root() {
    let shared = shared();
    let (labels, models) = labels_and_models(&shared.site);
    let folder = shared.root.join("session");
    fs::rename(labels.parent().unwrap(), &folder).unwrap();
    let models = models.iter().map(|model| folder.join("models").join(model.file_name().unwrap()));
    let models: Vec<_> = models.collect();
    let predictions = folder.join("predictions.slp");
    let client = shared.site.client(&shared.server).arguments(&["client-track", "--data-path"]);
    let client = client.argument(folder.join("two.pkg.slp")).arguments(&["--model-paths"]);
    let client = models.iter().fold(client, TestClient::argument);
    let client = client.arguments(&["-o"]).argument(&predictions);
    client
        .env("SHARED_STORAGE_ROOT", shared.root.to_str().unwrap())
        .auto(shared.worker.credentials())
        .run()
        .assert_code(0);
    assert!(predictions.is_file());
}

#[test]
fn no_byte_of_the_package_is_sent() {
    let shared = shared();
    let folder = shared.root.join("package");
    fs::rename(unpacked(&shared.site, "train_single.zip"), &folder).unwrap();
    let labels = large_labels(&shared.site, 64 << 20);
    fs::rename(labels, folder.join("one.pkg.slp")).unwrap();
    shared.train(folder, shared.root.join("out")).run().assert_code(0);
    let kept = bytes_below(&shared.worker.state_dir());
    assert!(kept < 8 << 20, "{kept} bytes in the worker's state folder");
}

#[test]
fn a_package_outside_the_root_is_refused() {
    let shared = shared();
    let package = fixture("train_single.zip");
    let ended = shared.train(package, shared.root.join("out")).run_within(SOON);
    ended.assert_code(2).assert_says(&["train_single.zip", shared.root.to_str().unwrap()]);
}

#[test]
fn a_link_that_leaves_the_root_is_refused() {
    let shared = shared();
    let outside = unpacked(&shared.site, "train_single.zip");
    symlink(&outside, shared.root.join("link")).unwrap();
    let ended = shared.train(shared.root.join("link"), shared.root.join("out")).run_within(SOON);
    ended.assert_code(2);
    assert!(shared.worker.trainer_starts().is_empty());
    let before = files_below(&outside);
    symlink(&outside, shared.root.join("out-link")).unwrap();
    let package = shared.root.join("labels.pkg.zip");
    fs::copy(fixture("train_single.zip"), &package).unwrap();
    let ended = shared.train(package, shared.root.join("out-link/models")).run_within(SOON);
    ended.assert_code(2);
    assert_eq!(files_below(&outside), before, "written outside the root");
    shared.worker.wait_idle(&shared.site, &shared.server);
}

#[test]
fn a_folder_that_holds_anything_is_not_written_to() {
    let shared = shared();
    let package = shared.root.join("labels.pkg.zip");
    fs::copy(fixture("train_single.zip"), &package).unwrap();
    let model = shared.root.join("alice/single_instance/best.ckpt");
    fs::create_dir_all(model.parent().unwrap()).unwrap();
    fs::write(&model, "the model of three weeks").unwrap();
    let ended = shared.train(package, shared.root.join("alice")).run_within(SOON);
    ended.assert_says(&["alice", "not empty"]);
    assert_ne!(ended.code, 0);
    assert_eq!(fs::read_to_string(&model).unwrap(), "the model of three weeks");
    assert!(shared.worker.trainer_starts().is_empty());
    shared.worker.wait_idle(&shared.site, &shared.server);
}

#[test]
fn a_worker_without_shared_storage_says_so() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let root = site.folder("shared");
    let package = root.join("labels.pkg.zip");
    fs::copy(fixture("train_single.zip"), &package).unwrap();
    let client = site.client(&server).train(&package);
    let client = client.arguments(&["--shared-storage-root"]).argument(&root);
    let ended = client.session(worker.credentials()).run_within(SOON);
    assert_ne!(ended.code, 0);
    ended.assert_says(&["shared"]);
    worker.wait_idle(&site, &server);
}
