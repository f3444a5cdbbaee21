//! A room with honest clients, hostile clients and false workers, all active at once.

use super::StopAtEnd;
use super::hostile::{ATTACKS, Attacker, FalseWorker, Lure};
use crate::support::*;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The peers in the room, and the duration.
struct Scene {
    workers: usize,
    /// The fewest honest jobs. As many run at once as there are workers.
    jobs: u32,
    most_jobs: u32,
    hostile: usize,
    lasts: Duration,
    /// The longest time until a job has started.
    start_within: Duration,
}

const LURES: [Lure; 3] = [Lure::Silence, Lure::Mute, Lure::Refuse];

/// Every fifth hostile peer is a false worker.
fn is_false_worker(number: usize) -> bool {
    number % 5 == 4
}

/// Runs an honest job to its end. Returns how long it took to start.
#[track_caller]
fn honest_job(client: TestClient) -> Duration {
    let start = Instant::now();
    let mut client = client.start();
    let mut started = None;
    let code = wait_for("the end of an honest job", A_WHILE, || {
        if started.is_none() && client.stdout().contains("Starting training loop") {
            started = Some(start.elapsed());
        }
        client.try_wait()
    });
    assert!(code.success(), "an honest job failed:\n{}", client.transcript());
    started.unwrap_or_else(|| start.elapsed())
}

fn play(scene: &Scene) {
    let site = Site::new();
    let server = site.server();
    let first = TestWorker::setup(&site, "worker-0").start(&server);
    let room = first.credentials().clone();
    let others = (1..scene.workers).map(|number| {
        TestWorker::setup(&site, &format!("worker-{number}")).join(&room).start(&server)
    });
    let others: Vec<TestWorker> = others.collect();
    let workers: Vec<&TestWorker> = std::iter::once(&first).chain(&others).collect();
    let (stop, done, asked) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    let clients = (0..scene.most_jobs)
        .map(|_| site.client(&server).train(&fixture("train_single.zip")).auto(&room));
    let clients: Mutex<Vec<TestClient>> = Mutex::new(clients.collect());
    let begun = Instant::now();
    let starts = thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        let (stop, asked, done, clients) = (&stop, &asked, &done, &clients);
        for number in 0..scene.hostile {
            if is_false_worker(number) {
                let lure = LURES[number / 5 % LURES.len()];
                let false_worker = FalseWorker::join(&server, &room, lure);
                scope.spawn(move || false_worker.serve(stop, asked));
                continue;
            }
            let victim = workers[number % workers.len()].peer_id();
            let attacker = Attacker::join(&server, &room, victim);
            scope.spawn(move || attacker.attack(ATTACKS[number % ATTACKS.len()], stop));
        }
        let honest: Vec<_> = (0..scene.workers)
            .map(|_| {
                scope.spawn(move || {
                    let mut starts = Vec::new();
                    while begun.elapsed() < scene.lasts || done.load(Ordering::Relaxed) < scene.jobs
                    {
                        let Some(client) = clients.lock().unwrap().pop() else { break };
                        starts.push(honest_job(client));
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    starts
                })
            })
            .collect();
        honest.into_iter().flat_map(|honest| honest.join().unwrap()).collect::<Vec<Duration>>()
    });
    let slowest = starts.iter().max().unwrap();
    println!(
        "{} workers, {} hostile peers, {:.0} s: {} honest jobs ended well; the slowest start took {:.1} s",
        scene.workers,
        scene.hostile,
        begun.elapsed().as_secs_f64(),
        starts.len(),
        slowest.as_secs_f64()
    );
    assert!(*slowest < scene.start_within, "{starts:?}");
    for worker in workers {
        let mut observer = Observer::join(&server, &room);
        // An upload whose client has left waits two minutes for it.
        observer.wait_status(worker.peer_id(), "available", 2 * A_WHILE);
    }
}

#[test]
fn honest_jobs_end_well_in_a_room_of_hostile_peers() {
    play(&Scene {
        workers: 2,
        jobs: 4,
        most_jobs: 50,
        hostile: 10,
        lasts: Duration::from_secs(20),
        start_within: Duration::from_secs(30),
    });
}

#[test]
#[ignore = "takes five minutes; tests/README.md says how to run it"]
fn twenty_honest_clients_among_thirty_hostile_peers_for_five_minutes() {
    play(&Scene {
        workers: 4,
        jobs: 20,
        most_jobs: 1_000,
        hostile: 30,
        lasts: Duration::from_secs(300),
        start_within: Duration::from_secs(60),
    });
}
