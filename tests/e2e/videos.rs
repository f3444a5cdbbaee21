//! Videos that labels name but do not contain: on a worker's mount, or sent along.

use crate::support::*;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The name of the one video in `outside.slp`.
const NAME: &str = "C:/data/mice.mp4";

/// Labels of a video at `path`. The list of videos keeps its length in the file.
fn labels_of(site: &Site, path: &str) -> PathBuf {
    let mut bytes = fs::read(fixture("outside.slp")).unwrap();
    let start = format!("{{\"filename\":\"{NAME}\"");
    let at = bytes.windows(start.len()).position(|window| window == start.as_bytes()).unwrap();
    let length = bytes[at..].windows(2).position(|window| window == b"}}").unwrap() + 2;
    let json = format!(
        "{{\"filename\":\"{path}\",\"backend\":{{\"type\":\"MediaVideo\",\"shape\":[100,48,48,1]}}}}"
    );
    let padded = format!("{json:<length$}");
    assert_eq!(padded.len(), length, "{path} is too long");
    bytes[at..at + length].copy_from_slice(padded.as_bytes());
    let labels = site.folder("labels").join("mice.slp");
    fs::write(&labels, bytes).unwrap();
    labels
}

/// A folder that contains `name`, as a worker's mount.
fn video(site: &Site, name: &str) -> PathBuf {
    let path = site.folder("lab").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // As MPEG-4 begins.
    fs::write(&path, b"\0\0\0\x18ftypmp42").unwrap();
    path
}

fn mount(label: &str, path: &Path) -> String {
    format!("mounts = [{{ label = \"{label}\", path = \"{}\" }}]\n", path.display())
}

fn is_sent(worker: &TestWorker) -> bool {
    files_below(&worker.state_dir()).iter().any(|path| path.ends_with("mice.mp4"))
}

#[test]
fn videos_that_a_worker_sees_are_not_sent() {
    let site = Site::new();
    let server = site.server();
    let file = video(&site, "mice.mp4");
    let setup = TestWorker::setup(&site, "worker").config(&mount("lab", file.parent().unwrap()));
    let (worker, other) = (setup.start(&server), site.worker(&server));
    let (_, models) = labels_and_models(&site);
    let labels = labels_of(&site, file.to_str().unwrap());
    let client = |worker: &TestWorker| {
        site.client(&server).track(&labels, &models).session(worker.credentials())
    };
    client(&worker).run().assert_code(0).assert_says(&["the worker reads", "mice.mp4 from"]);
    assert!(!is_sent(&worker));
    // For a worker without the mount, it is sent.
    client(&other).run().assert_code(0).assert_says(&["mice.mp4 is sent along"]);
    assert!(is_sent(&other));
}

#[test]
fn a_job_goes_to_the_worker_that_sees_its_video() {
    let site = Site::new();
    let server = site.server();
    let file = video(&site, "mice.mp4");
    let large = TestWorker::setup(&site, "large").gpu_mib(80_000).start(&server);
    let setup = TestWorker::setup(&site, "worker").config(&mount("lab", file.parent().unwrap()));
    let worker = setup.join(large.credentials()).start(&server);
    let (_, models) = labels_and_models(&site);
    let labels = labels_of(&site, file.to_str().unwrap());
    let client = site.client(&server).track(&labels, &models).auto(worker.credentials());
    client.run().assert_code(0).assert_says(&["the worker reads"]);
    assert_eq!((large.trainer_starts().len(), worker.trainer_starts().len()), (0, 1));
}

#[test]
fn a_path_map_leads_to_videos_here_and_on_the_worker() {
    let site = Site::new();
    let server = site.server();
    let Some(trainer) = stand_in_with_hdf5(&site) else { return };
    let file = video(&site, "day1/mice.mp4");
    let (day, lab) = (file.parent().unwrap(), file.parent().and_then(Path::parent).unwrap());
    let setup = TestWorker::setup(&site, "worker").config(&mount("lab", lab));
    let worker = setup.trainers_in(&trainer).start(&server);
    let other = TestWorker::setup(&site, "other").trainers_in(&trainer).start(&server);
    let (_, models) = labels_and_models(&site);
    let labels = labels_of(&site, NAME);
    let client = |worker: &TestWorker, map: &str| {
        let client = site.client(&server).track(&labels, &models).session(worker.credentials());
        client.arguments(&["--path-map", map])
    };
    let named = client(&worker, "C:/data=lab:day1");
    let predictions = named.predictions();
    named.run().assert_code(0).assert_says(&["the worker reads C:/data/mice.mp4 from"]);
    assert!(!is_sent(&worker));
    // The tracker read it by its path on the worker, and the predictions name it like the labels.
    assert_names_video(&predictions);
    let here = client(&other, &format!("C:\\data={}", day.display()));
    let predictions = here.predictions();
    here.run().assert_code(0).assert_says(&["mice.mp4 is sent along"]);
    assert_names_video(&predictions);
    let nowhere = client(&other, "C:/data=lab:day1").run_within(SOON);
    nowhere.assert_code(2).assert_says(&[NAME]);
}

/// Fails unless these labels name the video like the user's labels.
#[track_caller]
fn assert_names_video(predictions: &Path) {
    let labels =
        sleap_rtc_package::Labels::read(Box::new(std::fs::File::open(predictions).unwrap()))
            .unwrap();
    assert_eq!(labels.videos[0].files, [NAME]);
}

#[test]
fn a_training_reads_videos_from_a_mount_and_from_the_client() {
    let site = Site::new();
    let server = site.server();
    let file = video(&site, "mice.mp4");
    let lab = file.parent().unwrap().to_owned();
    let setup = TestWorker::setup(&site, "worker").config(&mount("lab", &lab));
    let (worker, other) = (setup.start(&server), site.worker(&server));
    let package = unpacked(&site, "train_single.zip");
    fs::copy(labels_of(&site, NAME), package.join("one.pkg.slp")).unwrap();
    let client = |worker: &TestWorker, map: &str| {
        let client = site.client(&server).train(&package).session(worker.credentials());
        client.arguments(&["--path-map", map])
    };
    client(&worker, "C:/data=lab:").run().assert_code(0).assert_says(&["the worker reads"]);
    assert!(!is_sent(&worker));
    let arguments = worker.trainer_starts()[0]["argv"].to_string();
    let map = format!("\"--video-path-map\",\"{NAME}\",\"{}\"", file.display());
    assert!(arguments.replace("\", \"", "\",\"").contains(&map), "{arguments}");
    let here = format!("C:/data={}", lab.display());
    client(&other, &here).run().assert_code(0).assert_says(&["mice.mp4 is sent along"]);
    assert!(is_sent(&other));
}

#[test]
fn a_video_on_a_mount_is_predicted_where_it_is() {
    let site = Site::new();
    let server = site.server();
    let file = video(&site, "mice.mp4");
    let setup = TestWorker::setup(&site, "worker").config(&mount("lab", file.parent().unwrap()));
    let worker = setup.start(&server);
    let (_, models) = labels_and_models(&site);
    let client = site.client(&server).track(&file, &models).session(worker.credentials());
    client.run().assert_code(0).assert_says(&["the worker reads"]);
    let arguments = worker.trainer_starts()[0]["argv"].to_string();
    assert!(arguments.contains(file.to_str().unwrap()), "{arguments}");
    assert!(!is_sent(&worker));
}

#[test]
fn a_file_outside_the_mounts_is_not_found() {
    let site = Site::new();
    let server = site.server();
    let file = video(&site, "secret.mp4");
    let lab = site.folder("mount");
    std::os::unix::fs::symlink(&file, lab.join("mice.mp4")).unwrap();
    let setup = TestWorker::setup(&site, "worker").config(&mount("lab", &lab));
    let worker = setup.start(&server);
    let (_, models) = labels_and_models(&site);
    let labels = labels_of(&site, NAME);
    for map in ["C:/data=lab:", "C:/data/mice.mp4=lab:../secret.mp4", "C:/=lab:/"] {
        let client = site.client(&server).track(&labels, &models).session(worker.credentials());
        let ended = client.arguments(&["--path-map", map]).run_within(SOON);
        ended.assert_code(2).assert_says(&[NAME]);
    }
    assert!(worker.trainer_starts().is_empty());
}
