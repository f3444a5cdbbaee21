//! A job with a frozen process delays only its own client.

use crate::support::*;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sleap_rtc_base::ice::IceConfig;
use sleap_rtc_net::python::{PythonClientEnd, PythonMessage};
use sleap_rtc_net::rtc::{self, RtcOptions};
use sleap_rtc_protocol::job::JobType;
use sleap_rtc_protocol::python::{ClientText, FileMeta, MAX_MESSAGE_BYTES, WorkerText};
use sleap_rtc_protocol::signaling::IceServers;
use tokio::fs::File;
use tokio::runtime::Runtime;

/// Connects to `worker` as a Python client and sends it a training. Returns once the trainer runs.
async fn train(owner: &mut Observer, worker: &TestWorker) -> (rtc::Connection, PythonClientEnd) {
    let bind = vec![std::net::Ipv4Addr::LOCALHOST.into()];
    let ice = IceConfig { servers: Vec::new(), bind, ..IceConfig::default() };
    let options = RtcOptions::new(&ice, &IceServers::default());
    let (offering, sdp) = rtc::offer(&options).await.unwrap();
    owner.send(&json!({
        "type": "offer", "sender": owner.peer_id(), "target": worker.peer_id(), "sdp": sdp,
    }));
    let answer = serde_json::from_value(owner.receive("answer")["sdp"].clone()).unwrap();
    let (connection, channel) = offering.accept(&answer).await.unwrap();
    let mut link = PythonClientEnd::new(channel);
    let mut package = File::open(fixture("train_single.zip")).await.unwrap();
    let size = package.metadata().await.unwrap().len();
    link.send(&ClientText::PackageType(JobType::Training)).await.unwrap();
    let meta = FileMeta { name: "train_single.zip".into(), size, rest: "False".into() };
    link.send(&ClientText::FileMeta(meta)).await.unwrap();
    link.send_content(&mut package, MAX_MESSAGE_BYTES, |_| {}).await.unwrap();
    loop {
        if let PythonMessage::Text(WorkerText::TrainJobStart(_)) = link.recv().await.unwrap() {
            return (connection, link);
        }
    }
}

fn peer_message(owner: &Observer, worker: &TestWorker, payload: &Value) -> Value {
    json!({
        "type": "peer_message", "from_peer_id": owner.peer_id(), "to_peer_id": worker.peer_id(),
        "payload": payload,
    })
}

/// Whether all threads of the process are stopped.
fn is_stopped(pid: Pid) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()));
    let status = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("status"));
    let mut statuses = tasks.into_iter().flatten().flatten().map(status);
    statuses.all(|status| status.is_ok_and(|status| status.contains("State:\tT")))
}

#[test]
fn a_frozen_job_that_its_owner_cancels_does_not_delay_admission() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").env("FAKE_SLEAP_BATCH_S", "2");
    let worker = setup.start(&server);
    let mut owner = Observer::join(&server, worker.credentials());
    let runtime = Runtime::new().unwrap();
    let _connection = runtime.block_on(train(&mut owner, &worker));
    let processes = processes_in(&worker.state_dir());
    let job = processes.iter().filter(|process| process.command.contains(" run-job "));
    let job: Vec<Pid> = job.map(|process| Pid::from_raw(process.pid).unwrap()).collect();
    let signal = |signal| job.iter().for_each(|pid| kill_process(*pid, signal).unwrap());

    signal(Signal::STOP);
    wait_for("the job to be frozen", SOON, || job.iter().all(|pid| is_stopped(*pid)).then_some(()));
    let cancel = json!({"app_message_type": "job_cancel", "job_id": "any", "reason": "enough"});
    owner.send(&peer_message(&owner, &worker, &cancel));
    let request = json!({
        "app_message_type": "job_request", "job_id": "next", "job_type": "training",
    });
    owner.send(&peer_message(&owner, &worker, &request));
    // The worker answers each request when it is done, so the cancellation answers after the frozen
    // job's timeout.
    let answer = owner.receive("peer_message");
    assert_eq!(answer["payload"]["app_message_type"], "job_response", "{answer}");
    assert_eq!(answer["payload"]["reason"], "busy", "{answer}");

    signal(Signal::CONT);
    let answer = owner.receive("peer_message");
    assert_eq!(answer["payload"]["app_message_type"], "job_cancelled", "{answer}");
    owner.wait_status(worker.peer_id(), "available", A_WHILE);
}
