//! A relay that does what it likes with the packets that it carries.

use super::LIMIT;
use super::server::{EvilServer, Plot};
use crate::support::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What the relay does to every packet whose number is divisible by `every`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spoiling {
    pub how: Spoil,
    pub every: u64,
}

/// How it does so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoil {
    /// One bit of it differs.
    Alters,
    /// It is lost.
    Drops,
    /// It comes once more, behind this many later ones.
    Replays(usize),
    /// Later ones overtake it, this many.
    Reorders(usize),
    /// It says that another endpoint has sent it, or is to get it.
    Misdirects,
}

/// The frames of iroh's relay protocol that hold packets: from and to an endpoint, alone and several.
const PACKETS: std::ops::RangeInclusive<u8> = 4..=7;
/// Their kind and the key of an endpoint come first.
const KEY: std::ops::Range<usize> = 1..33;
/// Behind the key stand marks of the packet and its size.
const CONTENT: usize = 36;

/// One direction of one connection to the relay.
pub struct Spoiler {
    spoiling: Spoiling,
    count: u64,
    /// Frames that are kept, each with the number of frames before it.
    held: VecDeque<(usize, Vec<u8>)>,
}

impl Spoiler {
    pub fn new(spoiling: Spoiling) -> Self {
        Self { spoiling, count: 0, held: VecDeque::new() }
    }

    /// The frames that go on in place of `frame`.
    pub fn pass(&mut self, mut frame: Vec<u8>, spoilt: &AtomicU64) -> Vec<Vec<u8>> {
        let is_packet = frame.first().is_some_and(|kind| PACKETS.contains(kind));
        if !is_packet || frame.len() <= CONTENT {
            return vec![frame];
        }
        self.count += 1;
        let mut due: Vec<Vec<u8>> = Vec::new();
        for (left, _) in &mut self.held {
            *left -= 1;
        }
        while self.held.front().is_some_and(|(left, _)| *left == 0) {
            due.extend(self.held.pop_front().map(|(_, frame)| frame));
        }
        if !self.count.is_multiple_of(self.spoiling.every) {
            due.insert(0, frame);
            return due;
        }
        spoilt.fetch_add(1, Relaxed);
        match self.spoiling.how {
            Spoil::Alters => {
                let at = CONTENT + self.count as usize * 7919 % (frame.len() - CONTENT);
                frame[at] ^= 1 << (self.count % 8);
                due.insert(0, frame);
            }
            Spoil::Drops => {}
            Spoil::Replays(later) => {
                self.held.push_back((later, frame.clone()));
                due.insert(0, frame);
            }
            Spoil::Reorders(later) => self.held.push_back((later, frame)),
            Spoil::Misdirects => {
                frame[KEY].rotate_left(1);
                due.insert(0, frame);
            }
        }
        due
    }
}

/// A worker that has no path to the clients of [`train`] but the relay: it has IPv4 alone, and they IPv6.
fn worker_apart(site: &Site, server: &TestServer) -> TestWorker {
    let setup = TestWorker::setup(site, "worker").gpus_mib(&[16_000; 4]);
    let setup = setup.arguments(&["--transport", "iroh"]);
    setup.config("[ice]\nbind = [\"127.0.0.1\"]\n").start(server)
}

/// A training through the relay of `evil`.
fn train(site: &Site, evil: &EvilServer) -> TestClient {
    let client = TestClient::new(site, evil.address()).train(&fixture("train_single.zip"));
    fs::write(client.home().join("sleap-rtc.toml"), "[ice]\nbind = [\"::1\"]\n").unwrap();
    client.arguments(&["--transport", "iroh"])
}

/// What the client has is what the worker has made, or nothing. Returns whether it has it.
#[track_caller]
fn assert_whole_or_nothing(ended: &Ended, output: &Path, worker: &TestWorker, plot: &str) -> bool {
    if ended.code != 0 {
        assert!(ended.stderr.contains("error: "), "{plot}: no reason in\n{}", ended.text());
        assert!(!output.exists(), "{plot}: something has arrived: {:?}", files_below(output));
        return false;
    }
    let jobs = fs::read_dir(worker.state_dir().join("jobs")).unwrap().flatten();
    let newest = jobs.max_by_key(|job| job.metadata().unwrap().modified().unwrap()).unwrap();
    let made = newest.path().join("results");
    let files = files_below(output);
    assert_eq!(files, files_below(&made), "{plot}");
    for file in files {
        assert!(fs::read(output.join(&file)).unwrap() == fs::read(made.join(&file)).unwrap());
    }
    true
}

/// A training through a relay that spoils packets.
struct Run {
    plot: String,
    ended: Ended,
    has_arrived: bool,
}

/// One training through a relay with the plot of that number.
fn run(site: &Site, server: &TestServer, worker: &TestWorker, number: u64) -> Run {
    let mut random = StdRng::seed_from_u64(number);
    let how = match random.random_range(0..5) {
        0 => Spoil::Alters,
        1 => Spoil::Drops,
        2 => Spoil::Replays(random.random_range(1..50)),
        3 => Spoil::Reorders(random.random_range(1..50)),
        _ => Spoil::Misdirects,
    };
    // A small job has few packets.
    let every = if random.random_ratio(1, 4) { 1 } else { random.random_range(3..10) };
    let spoiling = Spoiling { how, every };
    let evil = EvilServer::before(server.address(), Plot::SpoilsPackets(spoiling));
    let client = train(site, &evil).session(worker.credentials());
    let (home, output) = (client.home().to_owned(), client.output());
    let ended = client.run();
    let plot = format!("run {number}, {spoiling:?}");
    let has_arrived = assert_whole_or_nothing(&ended, &output, worker, &plot);
    assert!(evil.spoilt() > 0, "{plot}: nothing was spoilt:\n{}", ended.text());
    println!("{plot}: {} spoilt, {:?}, exit {}", evil.spoilt(), ended.took, ended.code);
    fs::remove_dir_all(home).unwrap();
    Run { plot, ended, has_arrived }
}

/// Whoever gets nothing is told so in time. Judged at the end, so that a busy moment hides no other failure.
fn runs(numbers: std::ops::Range<u64>) {
    let site = Site::new();
    let server = site.server();
    // A client that has found no path leaves its slot reserved for some seconds more, and one address may hold few
    // slots in this way: the next client goes to another worker.
    let workers = [(); 2].map(|()| worker_apart(&site, &server));
    let worker = |number| &workers[usize::from(number % 2 == 0)];
    let all: Vec<Run> = numbers.map(|number| run(&site, &server, worker(number), number)).collect();
    let (arrived, refused): (Vec<&Run>, Vec<&Run>) = all.iter().partition(|run| run.has_arrived);
    let slowest = refused.iter().max_by_key(|run| run.ended.took);
    let [arrivals, all] = [arrived.len(), all.len()];
    println!("{arrivals} of {all} trainings came through whole, the others ended with a reason");
    assert!(arrivals > 0 || all < 5, "no training came through");
    if let Some(Run { plot, ended, .. }) = slowest {
        println!("the slowest that did not, {plot}, took {:?}", ended.took);
        assert!(ended.took < LIMIT, "{plot}: it took {:?}:\n{}", ended.took, ended.text());
    }
}

#[test]
fn a_relay_that_spoils_packets_gets_nothing_accepted() {
    runs(0..8);
}

#[test]
#[ignore = "a thousand trainings take a quarter of an hour"]
fn a_thousand_relays_that_spoil_packets() {
    std::thread::scope(|scope| {
        for first in [0, 250, 500, 750] {
            scope.spawn(move || runs(first..first + 250));
        }
    });
}

#[test]
fn a_relay_that_joins_two_rooms_is_found_out() {
    let site = Site::new();
    let server = site.server();
    let (worker, other) = (worker_apart(&site, &server), worker_apart(&site, &server));
    let room_id = other.credentials().room_id.clone();
    let token = other.credentials().server_token().to_owned();
    let evil = EvilServer::before(server.address(), Plot::SwapsRooms { room_id, token });
    let client = train(&site, &evil).auto(worker.credentials());
    let output = client.output();
    let ended = client.run();
    ended.assert_code(9).assert_says(&["signed a different connection"]);
    assert!(ended.took < LIMIT && !output.exists(), "{:?}", ended.took);
    assert!(worker.jobs().is_empty() && other.jobs().is_empty());
}
