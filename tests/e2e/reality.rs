//! What a simulation says about jobs that have really run, beside what happened.

use crate::estimates::training;
use crate::queue::{Waiting, started};
use crate::support::plugins::ended as says;
use crate::support::*;
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the whole queue may take.
const LIMIT: Duration = Duration::from_secs(600);
/// Beside the ten per cent, in milliseconds: what a start takes after the worker has decided it.
const ALLOWANCE_MS: f64 = 500.0;
const USERS: [&str; 5] = ["ada", "ben", "cleo", "dan", "eve"];

/// Estimates of seven minutes for every job, so that a real worker cannot know better than a simulated one
/// where a job would start first.
fn policy() -> String {
    let guest = test_guests::dir().join("hostile-guest.wasm");
    format!("[policy.estimate]\nplugin = {guest:?}\ntimeout = '20 s'\n")
}

/// Three workers: a large GPU, a medium one, and two small ones with a slot for each.
struct Lab {
    server: TestServer,
    workers: [TestWorker; 3],
    observer: Observer,
}

impl Lab {
    fn open(site: &Site) -> Self {
        let server = site.server();
        let setup = |name: &str, gpus: &[u64]| {
            let queue = format!("queue = 100\nqueue_per_user = 100\nslots = {}\n", gpus.len());
            let setup = TestWorker::setup(site, name).gpus_mib(gpus);
            let setup = setup.config(&format!("{queue}{}", policy()));
            setup.env("FAKE_SLEAP_BATCH_S", "0.1").env("FAKE_SLEAP_STEPS", "10")
        };
        let first = setup("large", &[24_000]).start(&server).ready();
        let second = setup("medium", &[16_000]).join(first.credentials()).start(&server).ready();
        let third =
            setup("small", &[8_000, 8_000]).join(first.credentials()).start(&server).ready();
        let observer = Observer::join(&server, first.credentials());
        Self { server, workers: [first, second, third], observer }
    }

    /// A job of `user`, at whichever worker the policies choose. Comes back when the room shows that
    /// `waiting` jobs wait.
    fn submit(
        &mut self,
        site: &Site,
        user: &str,
        package: &Path,
        more: &[&str],
        waiting: u64,
    ) -> Waiting {
        let client = site.client(&self.server).train(package).auto(self.workers[0].credentials());
        let config = format!("[client]\nuser = '{user}'\n");
        fs::write(client.home().join("sleap-rtc.toml"), config).unwrap();
        let mut job = Waiting::start(client.arguments(&["--wait"]).arguments(more));
        job.sees(if waiting == 0 { "started on" } else { "in line" });
        wait_for("the job's place in the room", SOON, || (self.waiting() == waiting).then_some(()));
        job
    }

    /// What each worker tells the room.
    fn told(&mut self) -> [Value; 3] {
        let Self { workers, observer, .. } = self;
        workers.each_ref().map(|worker| observer.properties(worker.peer_id()))
    }

    /// How many jobs wait.
    fn waiting(&mut self) -> u64 {
        self.told().iter().map(|told| told["queue-length"].as_u64().expect("a queue")).sum()
    }

    /// How many jobs run.
    fn running(&mut self) -> usize {
        self.told().iter().map(|told| told["jobs"].as_array().map_or(0, Vec::len)).sum()
    }

    /// The room, as `room snapshot` records it.
    fn room(&self, site: &Site) -> PathBuf {
        let client = site.client(&self.server).arguments(&["room", "snapshot"]);
        let shown = client.room(self.workers[0].credentials()).run_within(SOON);
        let path = site.path().join("room.json");
        fs::write(&path, &shown.assert_code(0).stdout).unwrap();
        path
    }
}

/// A job as it really ran; times in milliseconds since 1970.
struct Real {
    created_ms: f64,
    began_ms: f64,
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The jobs in the folders of a worker.
fn real_jobs(worker: &TestWorker) -> BTreeMap<String, Real> {
    let folders = fs::read_dir(worker.state_dir().join("jobs")).unwrap();
    let real = folders.map(|folder| {
        let folder = folder.unwrap().path();
        let record = json(&fs::read_to_string(folder.join("job.json")).unwrap());
        let events = fs::read_to_string(folder.join("events.jsonl")).unwrap();
        let first = json(events.lines().next().expect("an event"));
        let real = Real {
            created_ms: record["created_ms"].as_f64().unwrap(),
            began_ms: first["at_ms"].as_f64().unwrap(),
        };
        (folder.file_name().unwrap().to_str().unwrap().to_owned(), real)
    });
    real.collect()
}

/// Lets `count` jobs of five users run on three workers: four that hold all slots until the others are in line,
/// and those. Then simulates the trace of what has happened, and compares.
fn compare(count: usize) {
    let site = Site::new();
    let mut lab = Lab::open(&site);
    let room = lab.room(&site);
    let packages: Vec<PathBuf> = (2..=5)
        .map(|epochs| training(&site, &format!("trainer_config.max_epochs={epochs}")))
        .collect();
    let user = |number: usize| USERS[(number * 7 + number / 3) % USERS.len()];
    // A training of two models: while it runs, its worker expects what its policy has estimated.
    let long = endless_topdown(&site);
    let mut holders: Vec<Waiting> =
        (0..4).map(|number| lab.submit(&site, user(number), &long, &[], 0)).collect();
    for number in 4..count {
        // Some need a larger GPU than others.
        let needs: &[&str] = match number % 6 {
            0 => &["--min-gpu-memory", "20000"],
            1 | 2 => &["--min-gpu-memory", "12000"],
            _ => &[],
        };
        let package = &packages[number * 5 % packages.len()];
        let waiting = u64::try_from(number - 3).unwrap();
        let mut job = lab.submit(&site, user(number), package, needs, waiting);
        // The job keeps its place, and so many clients would only cost time.
        job.process.signal(Signal::INT);
        assert_eq!(job.process.wait(SOON), 8, "{}", job.process.transcript());
    }
    for holder in &mut holders {
        holder.command(&site, &lab.server, "cancel").assert_code(0);
        assert_eq!(holder.process.wait(A_WHILE), 130, "{}", holder.process.transcript());
    }
    wait_for("the end of all jobs", LIMIT, || {
        (lab.waiting() == 0 && lab.running() == 0).then_some(())
    });
    check(&site, &lab, &room, count);
}

/// A training of two models that goes on until it is cancelled.
fn endless_topdown(site: &Site) -> PathBuf {
    let train = |model: &str| {
        format!(
            "sleap-nn train --config-name {model}.yaml --config-dir . trainer_config.max_epochs=100000 \
             trainer_config.ckpt_dir=models trainer_config.run_name={model}\n"
        )
    };
    let script = ["centroid", "centered_instance"].map(train).concat();
    let zip = Zip::new(site, "topdown.pkg.zip");
    let zip = zip.fixture("train_topdown.zip", "", &["train-script.sh"]);
    zip.file("train-script.sh", script.as_bytes()).finish()
}

/// Simulates what the folders of the workers have, and compares it with them.
fn check(site: &Site, lab: &Lab, room: &Path, count: usize) {
    fs::write(site.path().join("lab.toml"), policy()).unwrap();
    let mut command = Site::binary(site.path(), Path::new("/nonexistent"));
    command.args(["plugin", "simulate", "--policy=lab.toml", "--schedule=schedule.jsonl"]);
    command.args(["--save=trace.jsonl", "--room"]).arg(room);
    for worker in &lab.workers {
        command.arg("--jobs-of").arg(worker.state_dir());
    }
    let head = format!("{count} jobs, 3 workers with 4 slots");
    println!("{}", says(&command.output().unwrap(), 0, &[&head]));
    let schedule = fs::read_to_string(site.path().join("schedule.jsonl")).unwrap();
    let mut simulated: Vec<Value> = schedule.lines().map(json).collect();
    simulated.sort_by_key(|line| line["start_ms"].as_u64());
    let trace = fs::read_to_string(site.path().join("trace.jsonl")).unwrap();
    let arrived: BTreeMap<String, f64> = trace
        .lines()
        .map(json)
        .filter_map(|line| {
            Some((line["job"]["id"].as_str()?.to_owned(), line["job"]["at_s"].as_f64()?))
        })
        .collect();
    let (mut jobs, mut waits) = (0, Vec::new());
    println!("worker                    job       waited   simulated");
    for worker in &lab.workers {
        let there = simulated.iter().filter(|line| line["worker"] == worker.peer_id());
        let there: Vec<&Value> = there.collect();
        let order: Vec<&str> = there.iter().filter_map(|line| line["id"].as_str()).collect();
        assert_eq!(started(worker), order, "the order of starts on {}", worker.peer_id());
        jobs += order.len();
        let real = real_jobs(worker);
        for line in there {
            let id = line["id"].as_str().unwrap();
            let waited_ms = real[id].began_ms - real[id].created_ms;
            let expected_ms = line["start_ms"].as_f64().unwrap() - arrived[id] * 1000.0;
            println!(
                "{:24}  {:8}  {waited_ms:6.0} ms  {expected_ms:6.0} ms",
                worker.peer_id(),
                &id[..8]
            );
            waits.push((waited_ms, expected_ms));
        }
    }
    assert_eq!(jobs, count);
    for (waited_ms, expected_ms) in &waits {
        let off_ms = (waited_ms - expected_ms).abs();
        assert!(
            off_ms <= waited_ms * 0.1 + ALLOWANCE_MS,
            "{waited_ms} ms, simulated {expected_ms} ms"
        );
    }
    let sums = waits.iter().fold((0.0, 0.0), |sums, wait| (sums.0 + wait.0, sums.1 + wait.1));
    let off = (sums.1 / sums.0 - 1.0) * 100.0;
    println!("{count} jobs in the same order; all waiting times together differ by {off:.1} %");
    assert!(off.abs() <= 10.0);
}

#[test]
fn a_simulation_starts_the_jobs_in_the_order_in_which_they_really_started() {
    compare(12);
}

#[test]
#[ignore = "takes some minutes; `tests/README.md` has the command"]
fn forty_jobs_on_three_workers_ran_as_a_simulation_says() {
    compare(40);
}
