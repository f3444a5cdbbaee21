//! Jobs that wait for a slot.

use crate::support::*;
use rustix::process::Signal;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Trainings last until somebody stops them.
pub fn endless(setup: WorkerSetup) -> WorkerSetup {
    setup.env("FAKE_SLEAP_BATCH_S", "0.1").env("FAKE_SLEAP_EPOCHS", "100000")
}

/// A client that waits for its turn.
pub struct Waiting {
    pub process: Process,
    home: PathBuf,
    pub job: String,
}

impl Waiting {
    /// Starts `client` and waits until its job has an id.
    pub fn start(client: TestClient) -> Self {
        let home = client.home().to_owned();
        let mut process = client.start();
        let job = process.wait_stderr("the job's id", SOON, |text| {
            let (_, rest) = text.split_once("sleap-rtc attach ")?;
            Some(rest.split_once('`')?.0.to_owned())
        });
        Self { process, home, job }
    }

    /// Waits until the client shows `text`.
    #[track_caller]
    pub fn sees(&mut self, text: &str) -> &mut Self {
        self.process.wait_stderr(text, SOON, |all| all.contains(text).then_some(()));
        self
    }

    /// Runs a command about the job, from the client's machine.
    pub fn command(&self, site: &Site, server: &TestServer, word: &str) -> Ended {
        site.client(server).in_home(&self.home).arguments(&[word, &self.job]).run_within(SOON)
    }
}

/// The ids of the jobs whose trainers have started, in order.
pub fn started(worker: &TestWorker) -> Vec<String> {
    let id = |start: &Value| {
        let cwd = Path::new(start["cwd"].as_str().unwrap());
        let jobs = cwd.ancestors().find(|path| path.parent().is_some_and(|p| p.ends_with("jobs")));
        jobs.unwrap().file_name().unwrap().to_str().unwrap().to_owned()
    };
    worker.trainer_starts().iter().map(id).collect()
}

fn train(site: &Site, server: &TestServer, worker: &TestWorker) -> TestClient {
    site.client(server).train(&fixture("train_single.zip")).session(worker.credentials())
}

#[test]
fn a_job_waits_for_its_turn_and_runs_once() {
    let site = Site::new();
    let server = site.server();
    let worker = endless(TestWorker::setup(&site, "worker")).start(&server);
    let mut first = Waiting::start(train(&site, &server, &worker));
    first.process.wait_stderr("its start", SOON, |t| t.contains("started on").then_some(()));
    let mut second = Waiting::start(train(&site, &server, &worker).arguments(&["--wait"]));
    second.sees("1st in line").sees("you").sees("Ctrl-C detaches");
    let mut third = Waiting::start(train(&site, &server, &worker).arguments(&["--wait"]));
    third.sees("2nd in line");
    let mut observer = Observer::join(&server, worker.credentials());
    let seen = observer.properties(worker.peer_id());
    assert_eq!((&seen["status"], &seen["queue-length"]), (&"busy".into(), &2.into()));
    first.command(&site, &server, "stop").assert_code(0);
    second.sees("The job starts").sees("started on");
    third.sees("1st in line");
    for waiting in [&mut first, &mut second, &mut third] {
        if waiting.process.try_wait().is_none() {
            waiting.sees("started on");
            waiting.command(&site, &server, "stop").assert_code(0);
        }
        assert_eq!(waiting.process.wait(A_WHILE), 0, "{}", waiting.process.transcript());
    }
    assert_eq!(started(&worker), [first.job.clone(), second.job.clone(), third.job.clone()]);
    worker.wait_idle(&site, &server);
}

#[test]
fn a_job_waits_while_its_client_is_away_and_its_worker_is_killed() {
    let site = Site::new();
    let server = TestServer::persistent(&site);
    let worker = endless(TestWorker::setup(&site, "worker")).start(&server);
    let mut first = Waiting::start(train(&site, &server, &worker));
    first.sees("started on");
    let mut second = Waiting::start(train(&site, &server, &worker).arguments(&["--wait"]));
    second.sees("1st in line");
    second.process.signal(Signal::INT);
    assert_eq!(second.process.wait(SOON), 8, "{}", second.process.transcript());
    let said = second.process.stderr();
    assert!(
        said.contains("Detached; the job keeps its place.") && !said.contains("error:"),
        "{said}"
    );
    let listed = site.client(&server).in_home(&second.home).arguments(&["jobs"]).run_within(SOON);
    listed.assert_code(0).assert_says(&["waiting (1st in line"]);

    let worker = worker.start_again("");
    first.command(&site, &server, "stop").assert_code(0);
    let back = site.client(&server).in_home(&second.home).arguments(&["attach", &second.job]);
    let mut back = back.start();
    back.wait_stderr("its start", SOON, |text| text.contains("started on").then_some(()));
    second.command(&site, &server, "stop").assert_code(0);
    assert_eq!(back.wait(A_WHILE), 0, "{}", back.transcript());
    assert_eq!(first.process.wait(A_WHILE), 0, "{}", first.process.transcript());
    assert_eq!(started(&worker), [first.job.clone(), second.job.clone()]);
}

#[test]
fn a_job_starts_in_its_turn_while_the_server_is_gone() {
    let site = Site::new();
    let mut server = TestServer::persistent(&site);
    let worker = endless(TestWorker::setup(&site, "worker")).start(&server);
    let mut first = Waiting::start(train(&site, &server, &worker));
    first.sees("started on");
    let mut second = Waiting::start(train(&site, &server, &worker).arguments(&["--wait"]));
    second.sees("1st in line");
    let mut third = Waiting::start(train(&site, &server, &worker).arguments(&["--wait"]));
    third.sees("2nd in line");
    server.kill();
    for _ in 0..2 {
        first.process.signal(Signal::INT);
        first.sees("Ctrl-C again");
    }
    assert_eq!(first.process.wait(SOON), 130, "{}", first.process.transcript());
    second.sees("started on");
    third.sees("1st in line");
    server.restart();
    Observer::join(&server, worker.credentials()).wait_status(worker.peer_id(), "busy", A_WHILE);
    for job in [&mut second, &mut third] {
        job.sees("started on").command(&site, &server, "stop").assert_code(0);
        assert_eq!(job.process.wait(A_WHILE), 0, "{}", job.process.transcript());
    }
    assert_eq!(started(&worker), [first.job.clone(), second.job.clone(), third.job.clone()]);
}

#[test]
fn a_job_that_waits_is_withdrawn_by_its_user_and_when_its_time_is_over() {
    let site = Site::new();
    let server = site.server();
    let worker = endless(TestWorker::setup(&site, "worker")).start(&server);
    let mut first = Waiting::start(train(&site, &server, &worker));
    first.sees("started on");
    let mut second = Waiting::start(train(&site, &server, &worker).arguments(&["--wait"]));
    second.sees("1st in line");
    let mut third = Waiting::start(train(&site, &server, &worker).arguments(&["--wait"]));
    third.sees("2nd in line");
    second.command(&site, &server, "cancel").assert_code(0).assert_says(&["cancelled"]);
    assert_eq!(second.process.wait(SOON), 130, "{}", second.process.transcript());
    third.sees("1st in line");
    // Ctrl-C twice.
    third.process.signal(Signal::INT);
    third.sees("press Ctrl-C again");
    third.process.signal(Signal::INT);
    assert_eq!(third.process.wait(SOON), 130, "{}", third.process.transcript());
    let fourth = train(&site, &server, &worker).arguments(&["--wait", "1 s"]).run_within(SOON);
    fourth.assert_code(5).assert_says(&["did not start", "withdrawn"]);
    let mut observer = Observer::join(&server, worker.credentials());
    observer.wait_properties(worker.peer_id(), "an empty queue", |seen| seen["queue-length"] == 0);
    first.command(&site, &server, "stop").assert_code(0);
    assert_eq!(first.process.wait(A_WHILE), 0, "{}", first.process.transcript());
    assert_eq!(started(&worker), [first.job.clone()]);
    worker.wait_idle(&site, &server);
}

#[test]
fn a_full_queue_refuses_and_says_why() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").config("queue = 2\nqueue_per_user = 1\n");
    let worker = endless(setup).start(&server);
    let named = |user: &str| {
        let client = train(&site, &server, &worker).arguments(&["--wait"]);
        std::fs::write(
            client.home().join("sleap-rtc.toml"),
            format!("[client]\nuser = '{user}'\n"),
        )
        .unwrap();
        client
    };
    let mut first = Waiting::start(named("ada"));
    first.sees("started on");
    let mut second = Waiting::start(named("ben"));
    second.sees("1st in line");
    let again = named("ben").run_within(SOON);
    again.assert_code(5).assert_says(&["takes no more of your jobs", "queue_per_user"]);
    let mut third = Waiting::start(named("cleo"));
    third.sees("2nd in line");
    let full = named("dora").run_within(SOON);
    full.assert_code(5).assert_says(&["busy", "its limit is 2", "`queue`"]);
    // Without --wait the refusal is as ever, and the advice names it.
    let refused = train(&site, &server, &worker).run_within(SOON);
    refused.assert_code(5).assert_says(&["busy", "--room-id", "--token", "--wait"]);
}

#[test]
fn a_worker_without_a_queue_refuses_as_before() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").config("queue = 0\n");
    let worker = endless(setup).start(&server);
    let mut first = Waiting::start(train(&site, &server, &worker));
    first.sees("started on");
    let second = train(&site, &server, &worker).arguments(&["--wait"]).run_within(SOON);
    second.assert_code(5).assert_says(&["busy", "no queue"]);
}

/// `queue --local` and its decisions, as the worker's user.
fn operator(worker: &TestWorker, words: &[&str]) -> (i32, String) {
    operate(worker, &["queue"], words)
}

/// `command --local`, as the worker's user.
fn operate(worker: &TestWorker, command: &[&str], words: &[&str]) -> (i32, String) {
    let mut program = Site::binary(worker.home(), Path::new("/nonexistent"));
    program.args(command).args(["--local", "--state-dir"]).arg(worker.state_dir()).args(words);
    let done = program.output().unwrap();
    let text = [done.stdout, done.stderr].map(|out| String::from_utf8(out).unwrap()).concat();
    (done.status.code().unwrap(), text)
}

#[test]
fn the_operator_holds_releases_moves_and_removes_jobs() {
    let site = Site::new();
    let server = site.server();
    let worker = endless(TestWorker::setup(&site, "worker")).start(&server);
    let mut first = Waiting::start(train(&site, &server, &worker));
    first.sees("started on");
    let mut waiting: Vec<Waiting> = Vec::new();
    for place in ["1st", "2nd", "3rd", "4th"] {
        let client = train(&site, &server, &worker).arguments(&["--wait"]);
        waiting.push(Waiting::start(client));
        waiting.last_mut().unwrap().sees(&format!("{place} in line"));
    }
    let decide = |word: &str, of: usize| operator(&worker, &[word, &waiting[of].job]);
    let (code, text) = operator(&worker, &[]);
    assert_eq!(code, 0, "{text}");
    assert!(waiting.iter().all(|job| text.contains(&job.job)), "{text}");
    assert_eq!(decide("hold", 0).0, 0);
    assert_eq!(decide("front", 2).0, 0);
    assert_eq!(decide("remove", 3).0, 0);
    assert_eq!(operator(&worker, &["hold", &first.job]).0, 5, "it runs");
    let (_, text) = operator(&worker, &[]);
    let places = [2, 1, 0].map(|job| text.find(&waiting[job].job).unwrap());
    assert!(places.is_sorted() && text.contains("held"), "{text}");
    waiting[0].sees("held back by the worker's operator");
    waiting[2].sees("1st in line");
    assert_eq!(waiting[3].process.wait(SOON), 130);
    let seen = waiting[3].process.transcript();
    assert!(!seen.contains("The job starts"), "it was withdrawn: {seen}");
    let why = waiting[2].command(&site, &server, "why");
    why.assert_code(0).assert_says(&["1st in line", "moved it to the front", "operator-front"]);
    // What the operator has decided survives the worker.
    let worker = worker.start_again("");
    first.command(&site, &server, "stop").assert_code(0);
    waiting[2].sees("started on").command(&site, &server, "stop").assert_code(0);
    waiting[1].sees("started on").command(&site, &server, "stop").assert_code(0);
    assert_eq!(waiting[1].process.wait(A_WHILE), 0);
    // Nobody else waits, and still it does not start.
    let mut observer = Observer::join(&server, worker.credentials());
    observer.wait_status(worker.peer_id(), "available", SOON);
    assert_eq!(operator(&worker, &["release", &waiting[0].job]).0, 0);
    waiting[0].sees("started on").command(&site, &server, "stop").assert_code(0);
    assert_eq!(waiting[0].process.wait(A_WHILE), 0);
    let order = [&first, &waiting[2], &waiting[1], &waiting[0]].map(|job| job.job.clone());
    assert_eq!(started(&worker), order);
}

#[test]
fn the_operator_ends_any_job_by_the_beginning_of_its_id() {
    let site = Site::new();
    let server = site.server();
    let worker = endless(TestWorker::setup(&site, "worker")).start(&server);
    let mut jobs: Vec<Waiting> = Vec::new();
    for seen in ["started on", "1st in line", "2nd in line"] {
        jobs.push(Waiting::start(train(&site, &server, &worker).arguments(&["--wait"])));
        jobs.last_mut().unwrap().sees(seen);
    }
    let end = |command: &str, job: &Waiting| {
        let (code, text) = operate(&worker, &[command], &[&job.job[..12]]);
        assert_eq!(code, 0, "{command}: {text}");
    };
    let (code, text) = operate(&worker, &["cancel"], &["job-nothing"]);
    assert!(code == 2 && text.contains("jobs --local"), "{text}");
    end("cancel", &jobs[1]);
    assert_eq!(jobs[1].process.wait(SOON), 130, "{}", jobs[1].process.transcript());
    end("cancel", &jobs[0]);
    assert_eq!(jobs[0].process.wait(A_WHILE), 130, "{}", jobs[0].process.transcript());
    let (code, text) = operate(&worker, &["cancel"], &[&jobs[0].job]);
    assert!(code == 5 && text.contains("already finished"), "{text}");
    jobs[2].sees("started on");
    end("stop", &jobs[2]);
    assert_eq!(jobs[2].process.wait(A_WHILE), 0, "{}", jobs[2].process.transcript());
}

#[test]
fn the_operator_cancels_a_job_whose_package_is_arriving() {
    let site = Site::new();
    let server = site.server();
    let worker = TestWorker::setup(&site, "worker").start(&server);
    let package = large_package(&site, 20_000_000);
    let client = site.client(&server).train(&package).session(worker.credentials());
    let mut client = client.arguments(&["--bwlimit", "1 MB/s"]).start();
    let job = wait_for("the job that arrives", SOON, || {
        let (_, jobs) = operate(&worker, &["jobs"], &[]);
        let line = jobs.lines().find(|line| line.contains("arriving"))?;
        Some(line.split_whitespace().next()?.to_owned())
    });
    let (code, text) = operate(&worker, &["stop"], &[&job]);
    assert!(code == 5 && text.contains("cancel JOB --local"), "{text}");
    let (code, text) = operate(&worker, &["cancel"], &[&job[..12]]);
    assert!(code == 0 && text.contains("is cancelled"), "{text}");
    assert_eq!(client.wait(SOON), 5, "{}", client.transcript());
    let seen = client.transcript();
    assert!(seen.contains("the worker's operator has cancelled the job"), "{seen}");
    // Nothing is left, and the slot is free.
    let (code, text) = operate(&worker, &["cancel"], &[&job]);
    assert!(code == 2 && text.contains("no job"), "{text}");
    let mut observer = Observer::join(&server, worker.credentials());
    observer.wait_status(worker.peer_id(), "available", SOON);
    assert_eq!(worker.trainer_starts().len(), 0);
}

#[test]
fn only_the_operator_decides_and_a_job_that_runs_does_not_wait() {
    let site = Site::new();
    let server = site.server();
    let worker = endless(TestWorker::setup(&site, "worker")).start(&server);
    let mut first = Waiting::start(train(&site, &server, &worker));
    first.sees("started on");
    let client = site.client(&server).arguments(&["queue"]).room(worker.credentials());
    let away = client.arguments(&["hold", &first.job]).run_within(SOON);
    away.assert_code(2).assert_says(&["--local"]);
    let why = first.command(&site, &server, "why");
    why.assert_code(5).assert_says(&["has begun"]);
}

#[test]
fn a_room_shows_what_runs_and_what_waits() {
    let site = Site::new();
    let server = site.server();
    let first = endless(TestWorker::setup(&site, "one")).start(&server);
    let second = TestWorker::setup(&site, "two").config("queue = 0\n").join(first.credentials());
    let second = second.start(&server);
    let mut runs = Waiting::start(train(&site, &server, &first));
    runs.sees("started on");
    let mut waits = Waiting::start(train(&site, &server, &first).arguments(&["--wait"]));
    waits.sees("1st in line");
    let client = site.client(&server).arguments(&["queue"]).room(first.credentials());
    let shown = client.run_within(SOON);
    shown.assert_code(0).assert_says(&["busy; 1 job waits", "now", "1st", "no job can wait there"]);
    let (one, two) = (shown.stdout.find(first.peer_id()), shown.stdout.find(second.peer_id()));
    assert!(one.is_some() && two.is_some(), "{}", shown.stdout);
    assert!(!shown.stdout.contains("train_single"), "names are for those who wait there");
}

#[test]
fn five_clients_wait_for_two_workers_and_each_job_runs_once() {
    let site = Site::new();
    let server = site.server();
    let first = endless(TestWorker::setup(&site, "one")).start(&server);
    let second = endless(TestWorker::setup(&site, "two")).join(first.credentials());
    let second = second.start(&server);
    let client = || {
        let client = site.client(&server).train(&fixture("train_single.zip"));
        Waiting::start(client.auto(first.credentials()).arguments(&["--wait"]))
    };
    let mut jobs: Vec<Waiting> = Vec::new();
    for number in 0..5 {
        jobs.push(client());
        let state = if number < 2 { "started on" } else { "in line" };
        jobs.last_mut().unwrap().sees(state);
    }
    // Those that wait are divided: nobody waits behind two where one waits elsewhere.
    let mut observer = Observer::join(&server, first.credentials());
    let mut lengths = [first.peer_id(), second.peer_id()]
        .map(|worker| observer.properties(worker)["queue-length"].as_u64().expect("a queue"));
    lengths.sort_unstable();
    assert_eq!(lengths, [1, 2]);
    // A time that is over is over at every worker.
    let sixth = site.client(&server).train(&fixture("train_single.zip")).auto(first.credentials());
    let sixth = sixth.arguments(&["--wait", "1 s"]).run_within(SOON);
    sixth.assert_code(5).assert_says(&["did not start", "withdrawn"]);
    assert_eq!(sixth.stderr.matches("to reattach").count(), 1, "{}", sixth.stderr);
    for job in &mut jobs {
        job.sees("started on").command(&site, &server, "stop").assert_code(0);
        assert_eq!(job.process.wait(A_WHILE), 0, "{}", job.process.transcript());
    }
    let mut all: Vec<String> = [started(&first), started(&second)].concat();
    all.sort_unstable();
    let mut expected: Vec<String> = jobs.iter().map(|job| job.job.clone()).collect();
    // On each worker in the order in which they came.
    for worker in [&first, &second] {
        let order = started(worker);
        let places = order.iter().map(|job| expected.iter().position(|other| other == job));
        assert!(places.is_sorted(), "{order:?} of {expected:?}");
    }
    println!("{}", jobs.last().unwrap().process.stderr());
    expected.sort_unstable();
    assert_eq!(all, expected);
}

/// A client of `user` that waits.
pub fn waiting_user(site: &Site, server: &TestServer, worker: &TestWorker, user: &str) -> Waiting {
    let client = train(site, server, worker).arguments(&["--wait"]);
    let config = format!("[client]\nuser = '{user}'\n");
    std::fs::write(client.home().join("sleap-rtc.toml"), config).unwrap();
    Waiting::start(client)
}

/// What `why` says about a job.
pub fn reason(site: &Site, server: &TestServer, job: &Waiting) -> String {
    job.command(site, server, "why").assert_code(0).stdout.clone()
}

#[test]
fn users_with_the_fewest_running_jobs_start_first() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").gpus_mib(&[8000, 8000]).config("slots = 2\n");
    let worker = endless(setup).start(&server);
    let mut jobs: Vec<Waiting> = Vec::new();
    for (user, state) in [
        ("ada", "started on"),
        ("ada", "started on"),
        ("ada", "1st in line"),
        ("ada", "2nd in line"),
        ("ben", "1st in line"),
    ] {
        jobs.push(waiting_user(&site, &server, &worker, user));
        jobs.last_mut().unwrap().sees(state);
    }
    let why = reason(&site, &server, &jobs[4]);
    assert!(why.contains("no other job of its user will run then (fewest-running)"), "{why}");
    let why = reason(&site, &server, &jobs[2]);
    assert!(why.contains("2nd in line"), "{why}");
    let order = [0, 1, 4, 2, 3];
    for (place, job) in order.into_iter().enumerate() {
        jobs[job].sees("started on").command(&site, &server, "stop").assert_code(0);
        assert_eq!(jobs[job].process.wait(A_WHILE), 0, "{}", jobs[job].process.transcript());
        if let Some(next) = order.get(place + 2) {
            jobs[*next].sees("started on");
        }
    }
    assert_eq!(started(&worker), order.map(|job| jobs[job].job.clone()));
}

/// A worker whose queueing plugin does `deed`, with one job that runs and two that wait.
fn two_in_line(site: &Site, server: &TestServer, deed: &str) -> (TestWorker, [Waiting; 3]) {
    let guest = test_guests::dir().join("hostile-guest.wasm");
    let policy = format!(
        "[policy.queueing]\nplugin = {guest:?}\nsettings = {{ do = '{deed}' }}\ntimeout = '20 s'\n"
    );
    let worker = endless(TestWorker::setup(site, "worker").config(&policy)).start(server);
    let jobs = ["ada", "ben", "cleo"].map(|user| {
        let mut job = waiting_user(site, server, &worker, user);
        job.sees(if user == "ada" { "started on" } else { "in line" });
        job
    });
    (worker, jobs)
}

#[test]
fn a_plugin_orders_the_jobs_that_wait() {
    let site = Site::new();
    let server = site.server();
    // Who came last is first.
    let (worker, mut jobs) = two_in_line(&site, &server, "");
    jobs[1].sees("2nd in line");
    let why = reason(&site, &server, &jobs[2]);
    assert!(why.contains("1st in line") && why.contains("because (hostile-guest)"), "{why}");
    for job in [0, 2, 1] {
        jobs[job].sees("started on").command(&site, &server, "stop").assert_code(0);
        assert_eq!(jobs[job].process.wait(A_WHILE), 0, "{}", jobs[job].process.transcript());
    }
    assert_eq!(started(&worker), [0, 2, 1].map(|job| jobs[job].job.clone()));
}

#[test]
fn where_the_plugin_fails_who_came_first_is_first_and_is_told_why() {
    let site = Site::new();
    let server = site.server();
    let (worker, mut jobs) = two_in_line(&site, &server, "panic");
    let why = reason(&site, &server, &jobs[2]);
    let said = "first in, first out, because the queueing plugin hostile-guest failed";
    assert!(why.contains("2nd in line") && why.contains(said), "{why}");
    assert!(worker.log().contains("the queueing plugin hostile-guest failed: it panicked"));
    let (code, text) = operator(&worker, &[]);
    assert!(code == 0 && text.contains(said), "{text}");
    for job in &mut jobs {
        job.sees("started on").command(&site, &server, "stop").assert_code(0);
        assert_eq!(job.process.wait(A_WHILE), 0, "{}", job.process.transcript());
    }
    assert_eq!(started(&worker), [0, 1, 2].map(|job| jobs[job].job.clone()));
}
