//! Python peers that request forbidden things, cancel, or send broken data.

use crate::support::*;
use std::{fs, path::Path};

/// A Python client's job with our worker. Returns the exit code and the output.
fn python_client(
    site: &Site,
    server: &TestServer,
    worker: &TestWorker,
    arguments: &[&str],
) -> Option<(i32, String)> {
    let session = &worker.credentials().session_string;
    let mut all = arguments.to_vec();
    all.extend(["--session-string", session]);
    let mut client = python_peer(Aiortc::Newest, site, server, "client.py", &all)?;
    let code = client.wait(A_WHILE);
    Some((code, client.transcript()))
}

#[test]
fn a_python_client_cancels_its_running_job() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").env("FAKE_SLEAP_EPOCHS", "10000");
    let worker = setup.start(&server);
    let (package, output) = (fixture("train_single.zip"), site.folder("output"));
    let paths = ["--package", package.to_str().unwrap(), "--output", output.to_str().unwrap()];
    let arguments = [&["--job", "train", "--cancel"][..], &paths[..]].concat();
    let Some((code, text)) = python_client(&site, &server, &worker, &arguments) else { return };
    assert_eq!(code, 6, "{text}");
    assert!(text.contains("TRAIN_JOB_ERROR::"), "{text}");
    worker.wait_idle(&site, &server);
}

#[test]
fn a_python_worker_that_fails_ends_our_client_with_code_6() {
    let site = Site::new();
    let server = site.server();
    let worker = python_worker(Aiortc::Newest, &site, &server, &[]);
    let Some((mut worker, credentials)) = worker else { return };
    let script = "sleap-nn train --config-name nowhere.yaml --config-dir .\n";
    let zip = Zip::new(&site, "p.zip").fixture("train_single.zip", "", &["train-script.sh"]);
    let config = "model_config:\n  backbone_config:\n    unet: {filters: 4}\n  head_configs:\n    \
        single_instance:\n      confmaps: {sigma: 2.5}\ndata_config:\n  train_labels_path: one.pkg.slp\n\
        trainer_config:\n  trainer_strategy: nowhere\n";
    let zip = zip.file("train-script.sh", script.as_bytes());
    let zip = zip.file("nowhere.yaml", config.as_bytes());
    let client = site.client(&server).train(&zip.finish()).session(&credentials);
    client.run().assert_code(6).assert_says(&["nowhere"]);
    worker.kill();
}

/// Asserts that our worker neither writes outside its folder nor fails, whatever a Python client
/// sends.
fn hostile_client(hostile: impl Fn(&Site) -> Vec<String>) {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let output = site.folder("output");
    let mut arguments = vec!["--job".into(), "train".into(), "--output".into()];
    arguments.push(output.display().to_string());
    arguments.extend(hostile(&site));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let Some(_) = python_client(&site, &server, &worker, &arguments) else { return };
    worker.wait_idle(&site, &server);
    // The result, with the requested name and folder, has not escaped.
    let escaped: Vec<_> = files_below(site.path())
        .into_iter()
        .filter(|file| file.to_string_lossy().contains("escaped"))
        .filter(|file| !site.path().join(file).starts_with(&output))
        .collect();
    assert!(escaped.is_empty(), "written: {escaped:?}");
    let next = site.client(&server).train(&fixture("train_single.zip"));
    next.session(worker.credentials()).run().assert_code(0);
}

fn package(path: &Path) -> Vec<String> {
    vec!["--package".into(), path.display().to_string()]
}

#[test]
fn a_python_package_name_that_leaves_the_folder_writes_nothing_outside() {
    for name in ["../../escaped.zip", "/tmp/escaped.zip", r"..\..\escaped.zip"] {
        hostile_client(|_| {
            let mut arguments = package(&fixture("train_single.zip"));
            arguments.extend(["--announce".into(), name.into()]);
            arguments
        });
    }
}

#[test]
fn a_python_output_folder_that_leaves_the_folder_writes_nothing_outside() {
    hostile_client(|_| {
        let mut arguments = package(&fixture("train_single.zip"));
        arguments.extend(["--output-dir".into(), "../../escaped".into()]);
        arguments
    });
}

#[test]
fn python_zips_that_are_hostile_are_refused() {
    hostile_client(|site| {
        let zip = Zip::new(site, "p.zip").fixture("train_single.zip", "", &[]);
        package(&zip.file("../../escaped", b"boo").finish())
    });
    hostile_client(|site| {
        let zip = Zip::new(site, "p.zip").fixture("train_single.zip", "", &[]);
        package(&zip.stream("zeros.bin", std::io::repeat(0), 256 << 20, true).finish())
    });
    hostile_client(|site| {
        let path = site.folder("zip").join("cut.zip");
        let whole = fs::read(fixture("train_single.zip")).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        package(&path)
    });
}

#[test]
fn a_python_package_of_another_size_than_announced_is_refused() {
    hostile_client(|_| {
        let mut arguments = package(&fixture("train_single.zip"));
        arguments.extend(["--announce-size".into(), "1000".into()]);
        arguments
    });
}

#[test]
fn a_python_result_name_that_leaves_the_folder_writes_nothing_outside() {
    for name in ["../../escaped.zip", "/tmp/escaped.zip"] {
        let site = Site::new();
        let server = site.server();
        let hostile = ["--result-name", name];
        let worker = python_worker(Aiortc::Newest, &site, &server, &hostile);
        let Some((_worker, credentials)) = worker else { return };
        let client = site.client(&server).train(&fixture("train_single.zip"));
        let home = client.home().to_owned();
        client.session(&credentials).run();
        let outside = |file: &std::path::PathBuf| {
            file.to_string_lossy().contains("escaped") && !site.path().join(file).starts_with(&home)
        };
        let written: Vec<_> = files_below(site.path()).into_iter().filter(outside).collect();
        assert!(written.is_empty(), "written: {written:?}");
        assert!(!Path::new("/tmp/escaped.zip").exists());
    }
}

#[test]
fn a_python_client_runs_a_shared_storage_job_on_our_worker() {
    let site = Site::new();
    let server = site.server();
    let root = site.folder("shared");
    fs::copy(fixture("train_single.zip"), root.join("p.zip")).unwrap();
    let setup = TestWorker::setup(&site, "worker");
    let worker = setup.arguments(&["--shared-storage-root", root.to_str().unwrap()]).start(&server);
    let output = site.folder("output");
    let run = |input: &str, out: &str| {
        let shared = ["--job", "train", "--shared-input", input, "--shared-output", out];
        let arguments = [&shared[..], &["--output", output.to_str().unwrap()]].concat();
        python_client(&site, &server, &worker, &arguments)
    };
    let Some((code, text)) = run("p.zip", "out") else { return };
    assert_eq!(code, 0, "{text}");
    assert!(files_below(&root.join("out")).iter().any(|file| file.ends_with("best.ckpt")));
    worker.wait_idle(&site, &server);
    for (input, out) in [("../p.zip", "out"), ("p.zip", "../../escaped"), ("/etc/passwd", "out")] {
        let (code, text) = run(input, out).unwrap();
        assert_ne!(code, 0, "{text}");
        assert!(text.contains("PATH_ERROR::"), "{text}");
        worker.wait_idle(&site, &server);
    }
}
