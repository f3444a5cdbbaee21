//! SLEAP's loss viewer beside the client. It owns the sockets, and the client connects.

use crate::support::*;
use serde_json::{Value, json};
use std::time::Instant;
use zmq::{Context, PUB, SUB, Socket};

/// The sockets that SLEAP opens to show a training.
struct Viewer {
    progress: Socket,
    control: Socket,
}

impl Viewer {
    fn open() -> Self {
        let context = Context::new();
        let bind = |kind| {
            let socket = context.socket(kind).unwrap();
            socket.bind("tcp://127.0.0.1:*").unwrap();
            socket
        };
        let (progress, control) = (bind(SUB), bind(PUB));
        progress.set_subscribe(b"").unwrap();
        progress.set_rcvtimeo(100).unwrap();
        Self { progress, control }
    }

    fn port(socket: &Socket) -> String {
        let endpoint = socket.get_last_endpoint().unwrap().unwrap();
        endpoint.rsplit(':').next().unwrap().to_owned()
    }

    fn arguments(&self) -> Vec<String> {
        let (publish, control) = (Self::port(&self.progress), Self::port(&self.control));
        ["--gui", "--publish-port", &publish, "--controller-port", &control]
            .map(str::to_owned)
            .to_vec()
    }

    /// Everything that arrives until the monitor is told to close.
    fn events(&self) -> Vec<Value> {
        let (start, mut events) = (Instant::now(), Vec::new());
        while start.elapsed() < A_WHILE {
            let Ok(Ok(text)) = self.progress.recv_string(0) else { continue };
            let event: Value = serde_json::from_str(&text).unwrap();
            let closing = event["event"] == "rtc_close_monitor";
            events.push(event);
            if closing {
                return events;
            }
        }
        panic!("no rtc_close_monitor in {events:#?}");
    }
}

fn train(site: &Site, server: &TestServer, worker: &TestWorker, viewer: &Viewer) -> Process {
    let arguments = viewer.arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let client = site.client(server).train(&fixture("train_single.zip"));
    client.auto(worker.credentials()).arguments(&arguments).start()
}

#[test]
fn the_viewer_sees_the_trainers_progress() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").env("FAKE_SLEAP_BATCH_S", "0.2");
    let worker = setup.start(&server);
    let viewer = Viewer::open();
    let mut client = train(&site, &server, &worker, &viewer);
    let events = viewer.events();
    assert_eq!(client.wait(A_WHILE), 0, "{}", client.transcript());
    let kinds: Vec<_> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(kinds.first(), Some(&"rtc_reset_monitor"), "{kinds:?}");
    let inner = events.iter().filter_map(|event| event["rtc_msg"].as_str());
    let inner: Vec<Value> = inner.map(|text| serde_json::from_str(text).unwrap()).collect();
    for wanted in ["train_begin", "epoch_end", "train_end"] {
        assert!(inner.iter().any(|message| message["event"] == wanted), "no {wanted}: {inner:?}");
    }
}

#[test]
fn the_viewers_stop_button_ends_the_training_early_and_keeps_the_model() {
    let site = Site::new();
    let server = site.server();
    // So slow that the job ends in time only if it is stopped.
    let setup = TestWorker::setup(&site, "worker").env("FAKE_SLEAP_BATCH_S", "1");
    let worker = setup.env("FAKE_SLEAP_STEPS", "1000").start(&server);
    let viewer = Viewer::open();
    let mut client = train(&site, &server, &worker, &viewer);
    wait_for("the first progress report", SOON, || viewer.progress.recv_bytes(0).ok());
    wait_for("the end after `stop`", A_WHILE, || {
        viewer.control.send(json!({"command": "stop"}).to_string().as_str(), 0).unwrap();
        client.try_wait()
    });
    assert_eq!(client.wait(SOON), 0, "{}", client.transcript());
    worker.wait_idle(&site, &server);
}
