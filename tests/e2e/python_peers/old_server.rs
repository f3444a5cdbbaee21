//! The core of the matrix, on a server that behaves like the Python one.

use super::*;

fn pair(worker: Side, setup: Setup<'_>) -> Option<Pair> {
    let site = Site::new();
    let server = TestServer::old(&site, &[])?;
    Pair::on(site, server, worker, setup)
}

/// One client after another, found in the room and by session string: the worker's tags and status
/// survive each update.
fn works(client: Side, worker: Side) {
    let setup = Setup { python: &["--sends-predictions"], ..Setup::default() };
    let Some(mut pair) = pair(worker, setup) else { return };
    pair.client_config = "[client]\npython_tracking = true\n";
    let package = fixture("train_single.zip");
    for how in [Room, Session] {
        let mut running = pair.train(client, how, &package, &[]).unwrap();
        running.assert_code(0);
        assert_eq!(running.models(), 1);
        pair.wait_idle();
    }
    let mut tracking = pair.track(client, Room).unwrap();
    tracking.assert_code(0);
    assert!(!tracking.predictions().is_empty());
    pair.wait_idle();
}

#[test]
fn our_client_works_with_our_worker() {
    works(Native, Native);
}

#[test]
fn our_client_works_with_a_python_worker() {
    works(Native, PYTHON);
}

#[test]
fn a_python_client_works_with_our_worker() {
    works(PYTHON, Native);
}

#[test]
fn a_python_client_works_with_a_python_worker() {
    works(PYTHON, PYTHON);
}

/// The refusal arrives although `error` frames do not. (A Python client waits forever, because it
/// only listens for a frame that this server does not know.)
#[test]
fn our_client_is_refused_by_our_busy_worker() {
    let setup = Setup { env: &[("FAKE_SLEAP_BATCH_S", "2")], ..Setup::default() };
    let Some(pair) = pair(Native, setup) else { return };
    let package = fixture("train_single.zip");
    let mut first = pair.train(Native, Session, &package, &[]).unwrap();
    pair.wait_status("busy");
    let text = pair.train(Native, Session, &package, &[]).unwrap().assert_code(5);
    assert!(text.contains("busy"), "{text}");
    first.process.kill();
    assert!(pair.server.transcript().contains("dropped"), "no error frame was dropped");
}

#[test]
fn our_client_gives_up_on_a_busy_python_worker() {
    let setup = Setup { env: &[("FAKE_SLEAP_BATCH_S", "2")], ..Setup::default() };
    let Some(pair) = pair(PYTHON, setup) else { return };
    let package = fixture("train_single.zip");
    let mut first = pair.train(Native, Session, &package, &[]).unwrap();
    pair.wait_status("reserved");
    let text = pair.train(Native, Session, &package, &[]).unwrap().assert_code(5);
    assert!(text.contains("is busy: it is a Python worker"), "{text}");
    first.process.kill();
}

/// Unsolicited errors in each of the three shapes.
#[test]
fn a_servers_error_ends_neither_our_worker_nor_our_client() {
    let site = Site::new();
    let Some(server) = TestServer::old(&site, &["--errors"]) else { return };
    let pair = Pair::on(site, server, Native, Setup::default()).unwrap();
    for how in [Room, Session] {
        let mut client = pair.train(Native, how, &fixture("train_single.zip"), &[]).unwrap();
        client.assert_code(0);
        pair.wait_idle();
    }
}

/// It renews nothing, so the earlier credentials are useless, and the worker says so.
#[test]
fn our_worker_that_is_started_again_gets_a_new_room_and_says_so() {
    let site = Site::new();
    let Some(server) = TestServer::old(&site, &[]) else { return };
    let worker = site.worker(&server);
    let before = worker.credentials().clone();
    assert!(!worker.log().contains("a new worker in a new room"), "{}", worker.log());
    let worker = worker.restart(&[]);
    let now = worker.credentials();
    assert!(now.peer_id != before.peer_id && now.room_id != before.room_id);
    let log = worker.log();
    for word in ["a new worker in a new room", &before.peer_id, &now.peer_id] {
        assert!(log.contains(word), "no {word:?} in the log:\n{log}");
    }
    let pair = Pair { worker: Worker::Native(worker), server, site, client_config: "" };
    pair.train(Native, Session, &fixture("train_single.zip"), &[]).unwrap().assert_code(0);
    pair.wait_idle();
}
