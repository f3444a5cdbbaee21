//! Each combination of clients and workers, on our server. The other modules test our own programs
//! with each other.

use super::*;
use rustix::process::Signal;

/// The models of the package are trained and downloaded.
pub(super) fn trains(client: Side, worker: Side, how: How) {
    let Some(pair) = Pair::new(worker) else { return };
    // A Python worker cannot train current exports of SLEAP, unless our client rewrites them.
    let both_python = client != Native && worker != Native;
    let (package, models) = if both_python { ("single", 1) } else { ("topdown", 2) };
    let package = fixture(&format!("train_{package}.zip"));
    let Some(mut client) = pair.train(client, how, &package, &[]) else { return };
    client.assert_code(0);
    assert_eq!(client.models(), models);
    pair.wait_idle();
}

pub(super) fn tracks(client: Side, worker: Side) {
    let setup = Setup { python: &["--sends-predictions"], ..Setup::default() };
    let Some(mut pair) = Pair::with(worker, setup) else { return };
    pair.client_config = "[client]\npython_tracking = true\n";
    let Some(mut client) = pair.track(client, Room) else { return };
    client.assert_code(0);
    let (labels, _) = labels_and_models(&pair.site);
    assert!(client.predictions() == fs::read(labels).unwrap(), "other predictions came");
    pair.wait_idle();
}

/// A training that fails in its first epoch is reported as failed, with the reason.
pub(super) fn fails(client: Side, worker: Side) {
    let setup = Setup { env: &[("FAKE_SLEAP_FAIL_EPOCH", "0")], ..Setup::default() };
    let Some(pair) = Pair::with(worker, setup) else { return };
    let package = fixture("train_single.zip");
    let Some(mut client) = pair.train(client, Session, &package, &[]) else { return };
    let text = client.assert_code(6);
    assert!(text.contains("fake failure in training"), "{text}");
    pair.wait_idle();
}

/// A second client is refused while the first one's job runs.
pub(super) fn refuses_when_busy(client: Side, worker: Side) {
    let env = [("FAKE_SLEAP_BATCH_S", "2"), ("FAKE_SLEAP_EPOCHS", "1000")];
    let Some(pair) = Pair::with(worker, Setup { env: &env, ..Setup::default() }) else { return };
    let package = fixture("train_single.zip");
    let mut first = pair.train(Native, Session, &package, &[]).unwrap();
    pair.wait_status(if worker == Native { "busy" } else { "reserved" });
    let Some(mut second) = pair.train(client, Session, &package, &[]) else { return };
    let text = second.assert_code(5);
    assert!(!text.contains("TURN"), "{text}");
    assert!(text.contains(if client == Native { "busy" } else { "quit" }), "{text}");
    let listed = pair.train(client, Room, &package, &[]).unwrap().end();
    assert!([4, 5].contains(&listed.0), "{}", listed.1);
    first.process.kill();
}

/// Files at the zip's root, in a folder with the zip's name, and in one with another name.
pub(super) fn takes_every_layout(client: Side, worker: Side) {
    let setup = Setup { python: &["--named-folder-only"], ..Setup::default() };
    // A Python client sends its zip unchanged, which the first Python worker could not handle.
    let setup = if client == Native { setup } else { Setup::default() };
    let Some(pair) = Pair::with(worker, setup) else { return };
    for top in ["", "p/", "another/"] {
        let package = Zip::new(&pair.site, "p.zip").fixture("train_single.zip", top, &[]).finish();
        let Some(mut client) = pair.train(client, Session, &package, &[]) else { return };
        client.assert_code(0);
        assert_eq!(client.models(), 1, "with {top:?}");
        pair.wait_idle();
    }
}

/// A large package is uploaded, and a large result is downloaded.
pub(super) fn moves_50_mb_each_way(client: Side, worker: Side) {
    const MIB: usize = 48;
    let setup = Setup { env: &[("FAKE_SLEAP_CKPT_MIB", "48")], ..Setup::default() };
    let Some(pair) = Pair::with(worker, setup) else { return };
    let package = large_package(&pair.site, (MIB as u64) << 20);
    let start = std::time::Instant::now();
    let Some(mut running) = pair.train(client, Session, &package, &[]) else { return };
    running.assert_code(0);
    println!(
        "{client:?} client, {worker:?} worker: 50 MB there and back in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    assert!(bytes_below(&running.output) > (MIB as u64) << 20);
    pair.wait_idle();
}

/// Progress reaches the client, and its user's `stop` ends the training early with a model.
pub(super) fn shows_progress_and_stops(client: Side, worker: Side) {
    // It would take half an hour.
    let env = [("FAKE_SLEAP_BATCH_S", "0.02"), ("FAKE_SLEAP_EPOCHS", "10000")];
    let Some(pair) = Pair::with(worker, Setup { env: &env, ..Setup::default() }) else { return };
    let package = fixture("train_single.zip");
    let text = if client != Native {
        let gui = ["--gui", "--stop"];
        let Some(mut client) = pair.train(client, Session, &package, &gui) else { return };
        let text = client.assert_code(0);
        assert_eq!(client.models(), 1);
        text
    } else {
        let Some(mut viewer) = python_program(&pair.site, "viewer.py", &["--stop"]) else { return };
        let ports = viewer.wait_stdout("its ports", SOON, |text| {
            let line = text.lines().find_map(|line| line.strip_prefix("PORTS "))?;
            line.split_once(' ').map(|(control, publish)| [control.to_owned(), publish.to_owned()])
        });
        let gui = ["--gui", "--controller-port", &ports[0], "--publish-port", &ports[1]];
        let mut client = pair.train(client, Session, &package, &gui).unwrap();
        client.assert_code(0);
        assert_eq!(client.models(), 1);
        assert_eq!(viewer.wait(SOON), 0, "{}", viewer.transcript());
        let text = viewer.stdout();
        let first = text.lines().nth(1).unwrap_or_default();
        assert!(first.contains("rtc_reset_monitor"), "{text}");
        assert!(text.trim_end().ends_with(r#"{"event": "rtc_close_monitor"}"#), "{text}");
        text
    };
    assert!(text.contains("epoch_end"), "{text}");
    pair.wait_idle();
}

/// Paths are sent instead of files. A worker without the storage refuses.
pub(super) fn shares_storage(client: Side, worker: Side) {
    let root = tempfile::tempdir().unwrap();
    let at = root.path().to_str().unwrap();
    let package = root.path().join("p.zip");
    fs::copy(fixture("train_single.zip"), &package).unwrap();
    let job = |pair: &Pair| match client {
        Native => {
            let client = pair.site.client(&pair.server);
            let client = client.arguments(&["client-train", "--pkg-path"]).argument(&package);
            let client = client.arguments(&["--output"]).argument(root.path().join("out"));
            Some(pair.native(client, Session, &["--shared-storage-root", at]))
        }
        Python(aiortc) => {
            let paths = ["--shared-input", "p.zip", "--shared-output", "out"];
            pair.python(aiortc, Session, &[&["--job", "train"], &paths[..]].concat())
        }
    };
    let python = ["--shared-root", at];
    let setup = Setup { python: &python, native: &["--shared-storage-root", at], env: &[] };
    let Some(pair) = Pair::with(worker, setup) else { return };
    let Some(mut running) = job(&pair) else { return };
    running.assert_code(0);
    let models = files_below(&root.path().join("out"));
    assert!(models.iter().any(|file| file.ends_with("best.ckpt")), "{models:?}");
    pair.wait_idle();
    let Some(without) = Pair::new(worker) else { return };
    let text = job(&without).unwrap().assert_code(if client == Native { 5 } else { 6 });
    assert!(text.contains("storage"), "{text}");
}

#[test]
fn our_client_trains_with_room_credentials_on_a_python_worker() {
    trains(Native, PYTHON, Room);
}

#[test]
fn our_client_trains_by_session_string_on_a_python_worker() {
    trains(Native, PYTHON, Session);
}

/// No real Python worker sends predictions. The user learns that before the upload.
#[test]
fn our_client_hears_at_once_that_a_python_worker_sends_no_predictions() {
    let Some(pair) = Pair::new(PYTHON) else { return };
    for how in [Room, Session] {
        let mut client = pair.track(Native, how).unwrap();
        let text = client.assert_code(5);
        assert!(text.contains("no known version sends predictions back"), "{text}");
        assert!(!text.contains(" B sent") && !text.contains("package"), "{text}");
    }
    pair.wait_idle();
}

/// The script uses SLEAP's latest command, a folder and settings. Python workers understand none of
/// these.
#[test]
fn our_client_rewrites_the_script_for_a_python_worker_and_says_what_is_lost() {
    let Some(pair) = Pair::new(PYTHON) else { return };
    let script = "#!/bin/bash\nsleap train --config-name single_instance.yaml \\\n --config-dir . \
                  'trainer_config.run_name=\"mice (2)\"' trainer_config.max_epochs=1\n";
    let zip = Zip::new(&pair.site, "p.zip").fixture("train_single.zip", "", &["train-script.sh"]);
    let package = zip.file("train-script.sh", script.as_bytes()).finish();
    let mut client = pair.train(Native, Session, &package, &[]).unwrap();
    let text = client.assert_code(0);
    assert_eq!(client.models(), 1);
    assert!(text.contains("trainer_config.max_epochs"), "{text}");
}

/// A Python worker silently ignores anything that is missing in a package.
#[test]
fn our_client_hears_at_once_that_a_python_worker_has_run_nothing() {
    let root = tempfile::tempdir().unwrap();
    let at = root.path().to_str().unwrap();
    let setup = Setup { python: &["--shared-root", at], ..Setup::default() };
    let Some(pair) = Pair::with(PYTHON, setup) else { return };
    let package = root.path().join("p.zip");
    fs::copy(fixture("train_topdown.zip"), &package).unwrap();
    let client = pair.site.client(&pair.server);
    let client = client.arguments(&["client-train", "--pkg-path"]).argument(&package);
    let client = client.arguments(&["--output"]).argument(root.path().join("out"));
    let text = pair.native(client, Session, &["--shared-storage-root", at]).assert_code(7);
    assert!(text.contains("has run nothing"), "{text}");
}

#[test]
fn our_client_that_is_cancelled_says_that_a_python_worker_keeps_running() {
    let setup = Setup { env: &[("FAKE_SLEAP_BATCH_S", "2")], ..Setup::default() };
    let Some(pair) = Pair::with(PYTHON, setup) else { return };
    let mut client = pair.train(Native, Session, &fixture("train_single.zip"), &[]).unwrap();
    wait_for("the training", A_WHILE, || {
        client.process.stderr().contains("started on").then_some(())
    });
    client.process.signal(Signal::INT);
    let text = client.assert_code(130);
    assert!(text.contains("keeps the GPU until it ends"), "{text}");
}

#[test]
fn our_client_names_what_is_wrong_when_no_channel_opens() {
    let setup = Setup { python: &["--no-association"], ..Setup::default() };
    let Some(pair) = Pair::with(PYTHON, setup) else { return };
    let mut client = pair.train(Native, Session, &fixture("train_single.zip"), &[]).unwrap();
    let text = client.assert_code(3);
    assert!(text.contains("no data channel opened") && !text.contains("TURN"), "{text}");
}

#[test]
fn our_client_hears_that_a_python_worker_wants_a_secret() {
    let setup = Setup { python: &["--secret"], ..Setup::default() };
    let Some(pair) = Pair::with(PYTHON, setup) else { return };
    let mut client = pair.train(Native, Session, &fixture("train_single.zip"), &[]).unwrap();
    let text = client.assert_code(5);
    assert!(text.contains("asks for its room's secret"), "{text}");
}

#[test]
fn our_client_tracks_on_a_python_worker() {
    tracks(Native, PYTHON);
}

#[test]
fn our_client_hears_of_a_failing_job_on_a_python_worker() {
    fails(Native, PYTHON);
}

#[test]
fn our_client_is_refused_by_a_python_busy_worker() {
    refuses_when_busy(Native, PYTHON);
}

#[test]
fn our_client_brings_a_package_of_any_layout_to_a_python_worker() {
    takes_every_layout(Native, PYTHON);
}

#[test]
fn our_client_moves_50_mb_each_way_with_a_python_worker() {
    moves_50_mb_each_way(Native, PYTHON);
}

#[test]
fn our_client_sees_progress_and_stops_on_a_python_worker() {
    shows_progress_and_stops(Native, PYTHON);
}

#[test]
fn our_client_shares_storage_with_a_python_worker() {
    shares_storage(Native, PYTHON);
}

#[test]
fn a_python_client_trains_with_room_credentials_on_our_worker() {
    trains(PYTHON, Native, Room);
}

#[test]
fn a_python_client_trains_by_session_string_on_our_worker() {
    trains(PYTHON, Native, Session);
}

#[test]
fn a_python_client_tracks_on_our_worker() {
    tracks(PYTHON, Native);
}

#[test]
fn a_python_client_hears_of_a_failing_job_on_our_worker() {
    fails(PYTHON, Native);
}

#[test]
fn a_python_client_is_refused_by_our_busy_worker() {
    refuses_when_busy(PYTHON, Native);
}

#[test]
fn a_python_client_brings_a_package_of_any_layout_to_our_worker() {
    takes_every_layout(PYTHON, Native);
}

#[test]
fn a_python_client_moves_50_mb_each_way_with_our_worker() {
    moves_50_mb_each_way(PYTHON, Native);
}

#[test]
fn a_python_client_sees_progress_and_stops_on_our_worker() {
    shows_progress_and_stops(PYTHON, Native);
}

#[test]
fn a_python_client_shares_storage_with_our_worker() {
    shares_storage(PYTHON, Native);
}

#[test]
fn a_python_client_trains_with_room_credentials_on_a_python_worker() {
    trains(PYTHON, PYTHON, Room);
}

#[test]
fn a_python_client_trains_by_session_string_on_a_python_worker() {
    trains(PYTHON, PYTHON, Session);
}

#[test]
fn a_python_client_tracks_on_a_python_worker() {
    tracks(PYTHON, PYTHON);
}

#[test]
fn our_client_feeds_a_viewer_from_our_worker() {
    shows_progress_and_stops(Native, Native);
}

#[test]
fn our_client_is_refused_shared_storage_by_our_worker_without() {
    shares_storage(Native, Native);
}
