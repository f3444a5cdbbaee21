//! No member of a room can lock out the others, neither by holding slots and connections nor by
//! posing as a worker.

mod chaos;
mod hostile;
mod tricks;

use crate::support::*;
use hostile::{ATTACKS, Attacker, FalseWorker, Lure};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How soon an honest client must get its turn. The test prints the actual time.
const TURN: Duration = Duration::from_secs(10);

/// Sets the flag at the end of the test, even if it fails, so that its threads end.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn train(site: &Site, server: &TestServer, worker: &TestWorker) -> TestClient {
    site.client(server).train(&fixture("train_single.zip")).auto(worker.credentials())
}

/// Runs a client to its end, and returns how long it took until `worker` had started its trainer.
#[track_caller]
fn started_after(client: TestClient, worker: &TestWorker) -> Duration {
    let (start, before) = (Instant::now(), worker.trainer_starts().len());
    let mut client = client.start();
    let mut took = None;
    let code = wait_for("the end of an honest client", A_WHILE, || {
        if took.is_none() && worker.trainer_starts().len() > before {
            took = Some(start.elapsed());
        }
        client.try_wait()
    });
    assert!(code.success(), "{}", client.transcript());
    took.expect("the trainer has started")
}

#[test]
fn eight_hostile_peers_do_not_keep_an_honest_client_waiting() {
    let site = Site::new();
    let server = site.server();
    // The last hostile client may be gone in the middle of its upload.
    let setup = TestWorker::setup(&site, "worker").config("resume_within = \"5 s\"\n");
    let worker = setup.start(&server);
    let data = site.folder("data");
    let client = || train(&site, &server, &worker).env("XDG_DATA_HOME", data.to_str().unwrap());
    client().run().assert_code(0);
    let listed = site.client(&server).env("XDG_DATA_HOME", data.to_str().unwrap());
    let listed = listed.arguments(&["jobs"]).run().assert_code(0).text();
    let job = listed.split_whitespace().find(|word| word.starts_with("job-")).unwrap().to_owned();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        for number in 0..8 {
            let attacker = Attacker::join(&server, worker.credentials(), worker.peer_id());
            let stop = &stop;
            scope.spawn(move || attacker.attack(ATTACKS[number % ATTACKS.len()], stop));
        }
        // Whoever connects and then says nothing has half a minute.
        wait_for("the first reservation to lapse", A_WHILE, || {
            worker.log().contains("the reservation has expired").then_some(())
        });
        for _ in 0..2 {
            let took = started_after(client(), &worker);
            println!("an honest client had its turn after {:.1} s", took.as_secs_f64());
            assert!(took < TURN, "after {:.1} s", took.as_secs_f64());
        }
        let logs = site.client(&server).env("XDG_DATA_HOME", data.to_str().unwrap());
        let logs = logs.arguments(&["logs", &job]).run_within(TURN);
        logs.assert_code(0).assert_says(&["Finished training at"]);
    });
    worker.wait_idle(&site, &server);
}

#[test]
fn a_refusal_says_who_has_the_slot_and_since_when() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").env("FAKE_SLEAP_BATCH_S", "2");
    let worker = setup.start(&server);
    let mut first = train(&site, &server, &worker).env("USER", "ada").start();
    let mut observer = Observer::join(&server, worker.credentials());
    observer.wait_status(worker.peer_id(), "busy", SOON);
    let second = site.client(&server).train(&fixture("train_single.zip"));
    let ended = second.session(worker.credentials()).run_within(SOON);
    ended.assert_code(5).assert_says(&["ada runs a job (for ", " s"]);
    first.kill();
}

/// Starts `lures` above a real worker, and returns how long an honest client took until its job ran there.
fn start_beside(lures: &[Lure], runs: usize) -> (Vec<Duration>, u32) {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let home = site.folder("home");
    let (stop, asked) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        for lure in lures {
            let false_worker = FalseWorker::join(&server, worker.credentials(), *lure);
            let (stop, asked) = (&stop, &asked);
            scope.spawn(move || false_worker.serve(stop, asked));
        }
        let client = |run: usize| {
            let client = site.client(&server).in_home(&home);
            let client = client.train_to(&fixture("train_single.zip"), &format!("models-{run}"));
            started_after(client.auto(worker.credentials()), &worker)
        };
        let took: Vec<Duration> = (0..runs).map(client).collect();
        for took in &took {
            println!("beside {lures:?} a job ran after {:.1} s", took.as_secs_f64());
        }
        (took, asked.load(Ordering::Relaxed))
    })
}

#[test]
fn five_silent_workers_delay_a_job_by_seconds_and_only_once() {
    let (took, asked) = start_beside(&[Lure::Silence; 5], 2);
    assert!(took.iter().all(|took| *took < TURN), "{took:?}");
    // The second client asks the worker that works first, and the others only if that is slow.
    assert!((5..10).contains(&asked), "{asked}");
}

#[test]
fn a_job_goes_to_the_next_worker_when_the_first_is_mute_or_refuses_it_late() {
    let (took, _) = start_beside(&[Lure::Refuse, Lure::Mute], 1);
    assert!(took[0] < TURN + Duration::from_secs(10), "{took:?}");
}
