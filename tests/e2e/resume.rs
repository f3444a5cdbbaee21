//! SIGKILL of client or worker during an upload or a download: the transfer resumes, and verified
//! content is not sent again.
//!
//! By default with 100 MB, and a kill at one point of each way. `SLEAP_RTC_RESUME_MB=1000` kills at
//! 1 %, 50 % and 99 % of a gigabyte, each directly, relayed and over WebRTC.

use crate::network::made;
use crate::reconnect::Desk;
use crate::support::*;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The longest time to decide what is still to be sent.
const DECIDE: Duration = Duration::from_secs(2);
/// The time for a gigabyte on a busy machine.
const LONG: Duration = Duration::from_secs(300);
/// Logs details of transfers, and of nothing else.
const LOG: (&str, &str) =
    ("SLEAP_RTC_LOG", "warn,rtc=error,sleap_rtc=info,sleap_rtc_transfer=debug");

/// How client and worker are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Direct,
    /// UDP is blocked.
    Relayed,
    Webrtc,
}

/// Runs `test` for each way and percentage at which a process is killed. A short transfer would
/// be over before it is killed at 99 %.
fn each(test: impl Fn(Scene, u64)) {
    let (bytes, cases) = match std::env::var("SLEAP_RTC_RESUME_MB") {
        Ok(megabytes) => {
            let points = [1, 50, 99];
            let at = |way| points.map(|percent| (way, percent));
            let cases = [Way::Direct, Way::Relayed, Way::Webrtc].map(at).concat();
            (megabytes.parse::<u64>().unwrap() * 1_000_000, cases)
        }
        Err(_) => (100_000_000, vec![(Way::Direct, 50), (Way::Relayed, 1), (Way::Webrtc, 90)]),
    };
    for (way, percent) in cases {
        if let Some(scene) = Scene::new(bytes, way) {
            test(scene, percent);
        }
    }
}

/// The bytes of long files that the receivers below `folder` have recorded as verified.
pub fn verified_bytes(folder: &Path) -> u64 {
    let files = files_below(folder);
    let journals = files.iter().filter(|path| path.ends_with(".sleap-rtc-partial/journal"));
    let texts = journals.filter_map(|path| std::fs::read_to_string(folder.join(path)).ok());
    let bytes = |line: &str| -> Option<u64> {
        let mut words = line.strip_prefix("piece ")?.split(' ');
        words.nth(3)?.parse().ok()
    };
    texts.map(|text| text.lines().filter_map(bytes).sum::<u64>()).sum()
}

#[track_caller]
pub fn wait_verified(what: &str, folder: &Path, bytes: u64) {
    let verified = || (verified_bytes(folder) >= bytes).then_some(());
    wait_for(what, LONG, verified);
}

/// A tracking job with large labels. The stand-in's predictions are a copy of them.
struct Scene {
    // Dropped in this order.
    worker: TestWorker,
    server: TestServer,
    network: Option<Network>,
    site: Site,
    way: Way,
    labels: PathBuf,
    models: Vec<PathBuf>,
    bytes: u64,
}

impl Scene {
    /// `None` where this user cannot make the networks for it.
    fn new(bytes: u64, way: Way) -> Option<Self> {
        let (site, mut network) = (Site::new(), None);
        if way == Way::Relayed {
            let made = made(Network::new())?;
            made.block_udp().unwrap();
            network = Some(made);
        }
        let setup = TestWorker::setup(&site, "worker").env(LOG.0, LOG.1);
        let (server, worker) = match &network {
            None => {
                let server = site.server();
                let worker = setup.start(&server);
                (server, worker)
            }
            Some(network) => {
                let address = network.server_address();
                let server = network.on(Machine::Server, || TestServer::on(&site, address));
                let worker = network.on(Machine::Worker, || setup.start(&server));
                (server, worker)
            }
        };
        let (labels, models) = (large_labels(&site, bytes), labels_and_models(&site).1);
        Some(Self { worker, server, network, site, way, labels, models, bytes })
    }

    fn on<T>(&self, machine: Machine, work: impl FnOnce() -> T) -> T {
        match &self.network {
            Some(network) => network.on(machine, work),
            None => work(),
        }
    }

    fn start(&self, client: TestClient) -> Process {
        self.on(Machine::Client, || client.start())
    }

    fn run(&self, client: TestClient) -> Ended {
        self.on(Machine::Client, || client.run_within(LONG))
    }

    /// Starts the worker again, which was killed.
    fn restart_worker(mut self) -> Self {
        let worker = self.worker;
        self.worker = match &self.network {
            Some(network) => network.on(Machine::Worker, || worker.start_again("")),
            None => worker.start_again(""),
        };
        self
    }

    fn client(&self, desk: &Desk<'_>) -> TestClient {
        self.complete(desk.client())
    }

    fn complete(&self, client: TestClient) -> TestClient {
        let client = client.env(LOG.0, LOG.1).track(&self.labels, &self.models);
        let client = client.session(self.worker.credentials());
        match self.way {
            Way::Webrtc => client.arguments(&["--transport", "webrtc"]),
            Way::Direct | Way::Relayed => client,
        }
    }

    #[track_caller]
    fn assert_arrived(&self, predictions: &Path) {
        let hash = |path: &Path| {
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(std::fs::File::open(path).unwrap()).unwrap();
            hasher.finalize()
        };
        assert_eq!(hash(predictions), hash(&self.labels), "the result is not what was sent");
    }

    /// Checks and prints the receivers' log lines, from one process or two.
    #[track_caller]
    fn assert_resumed(&self, what: &str, percent: u64, verified_bytes: u64, receiver_log: &str) {
        let tries = self.tries(receiver_log);
        let last = tries.last().expect("a second try");
        let verified_again = verified_bytes.saturating_sub(last.already_bytes);
        // A killed receiver cannot report its incomplete pieces.
        let twice = match &tries[..] {
            [only] => only.arrived_bytes.saturating_sub(only.total_bytes - only.already_bytes),
            all => {
                let arrived: u64 = all.iter().map(|one| one.arrived_bytes).sum();
                arrived.saturating_sub(last.total_bytes - all[0].already_bytes)
            }
        };
        let mb = |bytes: u64| bytes as f64 / 1e6;
        println!(
            "{:?}: {what} killed at {percent} % of {:.0} MB: {:.1} MB were verified, {:.1} MB were there when \
             it went on (decided in {} ms); {verified_again} verified bytes were sent again, and of \
             what {} saw {:.2} MB came twice",
            self.way,
            mb(self.bytes),
            mb(verified_bytes),
            mb(last.already_bytes),
            last.took.as_millis(),
            if tries.len() > 1 { "the receiver" } else { "the second receiver" },
            mb(twice),
        );
        assert!(last.took < DECIDE, "it took {:?} to decide", last.took);
        assert_eq!(verified_again, 0, "what was verified was sent again");
        // This many pieces may be incomplete at a time, each of at most 2 MiB.
        assert!(twice <= 8 << 21, "{twice} bytes came twice");
    }

    /// The transfers of the labels or the predictions.
    fn tries(&self, receiver_log: &str) -> Vec<Try> {
        let number = |line: &str, name: &str| -> Option<u64> {
            let (_, rest) = line.split_once(&format!("{name}="))?;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        let begun = |line: &str| {
            Some(Try {
                already_bytes: number(line, "already_bytes")?,
                total_bytes: number(line, "total_bytes").filter(|total| *total >= self.bytes)?,
                took: Duration::from_millis(number(line, "took_ms")?),
                arrived_bytes: 0,
            })
        };
        let mut tries: Vec<Try> = Vec::new();
        for line in receiver_log.lines() {
            tries.extend(begun(line));
            if let (Some(last), Some(arrived)) = (tries.last_mut(), number(line, "arrived_bytes")) {
                last.arrived_bytes = arrived;
            }
        }
        tries
    }
}

/// A receiver's log line.
struct Try {
    already_bytes: u64,
    total_bytes: u64,
    /// How long it took to find existing content.
    took: Duration,
    arrived_bytes: u64,
}

#[test]
fn the_client_is_killed_in_an_upload() {
    each(|scene, percent| {
        let desk = Desk::new(&scene.site, &scene.server);
        let client = scene.client(&desk);
        let home = client.home().to_owned();
        let mut client = scene.start(client);
        wait_verified("the upload", &scene.worker.state_dir(), scene.bytes * percent / 100);
        client.kill();
        let verified = verified_bytes(&scene.worker.state_dir());
        let start = Instant::now();
        // The same command again, at once.
        let client = scene.complete(desk.client().in_home(&home));
        let predictions = client.predictions();
        let ended = scene.run(client);
        ended.assert_code(0).assert_says(&["Resuming the upload of job-"]);
        println!("the same command went through in {:.1} s", start.elapsed().as_secs_f64());
        assert_eq!(scene.worker.jobs().len(), 1, "it is the same job");
        scene.assert_arrived(&predictions);
        scene.assert_resumed("client, uploading,", percent, verified, &scene.worker.log());
    });
}

#[test]
fn the_worker_is_killed_in_an_upload() {
    each(|mut scene, percent| {
        let client = scene.client(&Desk::new(&scene.site, &scene.server));
        let predictions = client.predictions();
        let mut client = scene.start(client);
        wait_verified("the upload", &scene.worker.state_dir(), scene.bytes * percent / 100);
        scene.worker.kill();
        let verified = verified_bytes(&scene.worker.state_dir());
        let scene = scene.restart_worker();
        assert_eq!(client.wait(LONG), 0, "{}", client.transcript());
        scene.assert_arrived(&predictions);
        scene.assert_resumed("worker, receiving,", percent, verified, &scene.worker.log());
    });
}

#[test]
fn the_client_is_killed_in_a_download() {
    each(|scene, percent| {
        let desk = Desk::new(&scene.site, &scene.server);
        let client = scene.client(&desk);
        let (home, predictions) = (client.home().to_owned(), client.predictions());
        let mut client = scene.start(client);
        wait_verified("the download", &home, scene.bytes * percent / 100);
        client.kill();
        let verified = verified_bytes(&home);
        let job = job_of(&client.stderr());
        let fetch = desk.client().env(LOG.0, LOG.1).arguments(&["fetch", &job]);
        let fetched = scene.run(fetch);
        fetched.assert_code(0);
        scene.assert_arrived(&predictions);
        scene.assert_resumed("client, downloading,", percent, verified, &fetched.stderr);
        let left = std::fs::read_dir(&home).unwrap().flatten();
        let hidden = |name: &std::ffi::OsString| name.to_string_lossy().starts_with(".sleap-rtc-");
        let left: Vec<_> = left.map(|entry| entry.file_name()).filter(hidden).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    });
}

#[test]
fn the_worker_is_killed_in_a_download() {
    each(|mut scene, percent| {
        let client = scene.client(&Desk::new(&scene.site, &scene.server));
        let (home, predictions) = (client.home().to_owned(), client.predictions());
        let mut client = scene.start(client);
        wait_verified("the download", &home, scene.bytes * percent / 100);
        scene.worker.kill();
        let verified = verified_bytes(&home);
        let scene = scene.restart_worker();
        assert_eq!(client.wait(LONG), 0, "{}", client.transcript());
        scene.assert_arrived(&predictions);
        scene.assert_resumed("worker, sending,", percent, verified, &client.stderr());
    });
}

/// The job's id that the client printed.
pub fn job_of(said: &str) -> String {
    let (_, rest) = said.split_once("Job job-").expect("the job's id");
    format!("job-{}", rest.split(':').next().unwrap())
}
