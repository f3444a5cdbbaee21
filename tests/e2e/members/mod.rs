//! Members of a room: who they are, for how long, and what is left to them once they are removed.

mod removed;
mod stolen;

use crate::support::*;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Within a second of the start, where the machine is not busy.
const AT_ONCE: Duration = Duration::from_secs(10);

/// A laptop that has paired.
pub struct Laptop {
    pub home: PathBuf,
    user: String,
    trainings: u32,
}

impl Laptop {
    /// Pairs with `worker` under the name of `user`, by an invitation with these arguments.
    pub fn pair(site: &Site, worker: &TestWorker, user: &str, invite: &[&str]) -> Self {
        let laptop = Self { home: site.folder(user), user: user.to_owned(), trainings: 0 };
        let config = format!("[client]\nuser = \"{user}\"\n");
        std::fs::write(laptop.home.join("sleap-rtc.toml"), config).unwrap();
        laptop.pair_again(site, worker, invite);
        laptop
    }

    /// The same device once more.
    pub fn pair_again(&self, site: &Site, worker: &TestWorker, invite: &[&str]) {
        let mut invitation = TestInvitation::of(worker, invite);
        let code = invitation.code().to_owned();
        let client = TestClient::new(site, worker.server()).in_home(&self.home);
        client.arguments(&["pair", &code]).run_within(SOON).assert_code(0);
        assert_eq!(invitation.wait(), 0, "{}", invitation.text());
    }

    /// A training on `worker` in the only room that this laptop knows.
    pub fn train(&mut self, site: &Site, worker: &TestWorker) -> TestClient {
        self.trainings += 1;
        let output = format!("models-{}", self.trainings);
        let client = TestClient::new(site, worker.server()).in_home(&self.home);
        let client = client.train_to(&fixture("train_single.zip"), &output);
        client.arguments(&["--worker-id", worker.peer_id()])
    }

    /// The client's state folder.
    pub fn state_dir(&self) -> PathBuf {
        self.home.join(".local/share/sleap-rtc/client")
    }

    /// What this device is called in the room.
    pub fn name(&self) -> String {
        format!("{}@{}", self.user, host())
    }
}

fn host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.split('.').next().unwrap().to_owned()
}

/// `sleap-rtc room …` beside a running worker.
pub fn room(worker: &TestWorker, arguments: &[&str]) -> Ended {
    let mut command = Site::binary(worker.home(), Path::new("/nonexistent"));
    command.arg("room").args(arguments).arg("--state-dir").arg(worker.state_dir());
    let mut process = Process::start("room", &mut command);
    let (start, code) = (std::time::Instant::now(), process.wait(SOON));
    Ended { code, stdout: process.stdout(), stderr: process.stderr(), took: start.elapsed() }
}

/// The row of `room members` that begins with `name`.
pub fn row(worker: &TestWorker, name: &str) -> Option<String> {
    let listed = room(worker, &["members"]);
    listed.assert_code(0);
    listed.stdout.lines().find(|line| line.starts_with(name)).map(str::to_owned)
}

#[test]
fn those_who_have_paired_are_members_and_listed_on_each_worker() {
    let site = Site::new();
    let server = site.server();
    let first = site.worker(&server);
    let mut ada = Laptop::pair(&site, &first, "ada", &[]);
    let bob = Laptop::pair(&site, &first, "bob", &["--for", "90d"]);
    ada.train(&site, &first).run().assert_code(0);
    // Nobody who has paired knows the room's secret.
    let saved = std::fs::read_to_string(ada.state_dir().join("rooms.json")).unwrap();
    let (_, peers) = first.credentials().token.split_once('.').unwrap();
    assert!(!saved.contains(&peers[2..22]), "the secret is in {saved}");

    let second = TestWorker::setup(&site, "second").join(first.credentials()).start(&server);
    for worker in [&first, &second] {
        let known = wait_for("the other worker's members", SOON, || row(worker, &bob.name()));
        assert!(known.contains("client") && known.contains("just now"), "{known}");
        let known = row(worker, &ada.name()).unwrap();
        assert!(known.contains("just now"), "{known}");
        let workers = room(worker, &["members"]).stdout.matches("  worker  ").count();
        assert_eq!(workers, 2, "{}", room(worker, &["members"]).stdout);
    }
    // They are members there without having been there.
    ada.train(&site, &second).run().assert_code(0);
    // Those with the token are listed by their keys.
    let client = site.client(&server).train(&fixture("train_single.zip"));
    client.auto(first.credentials()).run().assert_code(0);
    let keys = [&first, &second].map(|worker| row(worker, "(by the token)"));
    assert!(keys.iter().any(Option::is_some), "{keys:?}");
    assert!(ada.state_dir().join("rooms.json").exists());
    let rooms = TestClient::new(&site, server.address()).in_home(&bob.home).arguments(&["rooms"]);
    rooms.run_within(SOON).assert_code(0).assert_says(&["until 20"]);
}

#[test]
fn a_membership_that_has_expired_admits_nobody_until_the_device_pairs_again() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let mut student = Laptop::pair(&site, &worker, "student", &["--for", "1s"]);
    wait_for("the end of the membership", SOON, || {
        row(&worker, &student.name())?.contains("expired").then_some(())
    });
    let refused = student.train(&site, &worker).run();
    refused.assert_code(9).assert_says(&["membership of the room has expired", "room invite"]);
    let home = student.home.clone();
    let client = TestClient::new(&site, server.address()).in_home(&home);
    let client =
        client.train_to(&fixture("train_single.zip"), "auto").arguments(&["--auto-select"]);
    client.run().assert_code(9).assert_says(&["has expired"]);
    let checked = TestClient::new(&site, server.address()).in_home(&home);
    let checked = checked.arguments(&["netcheck", "--worker-id", worker.peer_id()]);
    checked.run_within(SOON).assert_code(1).assert_says(&["has expired", "for a new code"]);
    assert!(worker.jobs().is_empty());
    student.pair_again(&site, &worker, &["--for", "1h"]);
    student.train(&site, &worker).run().assert_code(0);
    // A worker would certify itself: a limit for it would be for show.
    let refused = TestInvitation::start(&worker, &["--worker", "--for", "1h"]).wait(SOON);
    assert_eq!(refused, 2);
}

#[test]
fn what_a_laptop_has_lets_nobody_pose_as_a_worker() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let (mut ada, eve) =
        (Laptop::pair(&site, &worker, "ada", &[]), Laptop::pair(&site, &worker, "eve", &[]));
    let saved = std::fs::read_to_string(eve.state_dir().join("rooms.json")).unwrap();
    let saved: serde_json::Value = serde_json::from_str(&saved).unwrap();
    let (room_id, token) = (&worker.credentials().room_id, saved[0]["token"].as_str().unwrap());
    let fake = TestWorker::setup(&site, "fake").gpu_mib(80_000);
    let fake = fake.arguments(&["--room-id", room_id, "--token", token]).start(&server);
    // With its own device's certificate, which is a client's.
    ada.train(&site, &fake).run().assert_code(9).assert_says(&["is not certified"]);
    assert!(fake.jobs().is_empty());
}

#[test]
fn a_stranger_and_a_member_of_another_room_are_refused_at_once_and_told_why() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").config("python_clients = false\n");
    let (worker, other) = (setup.start(&server), site.worker(&server));
    let right = worker.credentials().clone();
    let stranger = Credentials { token: "0".repeat(32), ..right.clone() };
    let knows_servers_part = right.keyless();
    let named = |room: &Credentials| {
        let client = site.client(&server).train(&fixture("train_single.zip")).room(room);
        client.arguments(&["--worker-id", worker.peer_id()]).run()
    };
    let refusals = [
        ("a stranger", named(&stranger), 3, "token"),
        ("a member of another room", named(other.credentials()), 4, worker.peer_id()),
        ("who has the server's part alone", named(&knows_servers_part), 5, "prove who they are"),
    ];
    for (who, ended, code, words) in refusals {
        println!("{who}: refused {:.1} s after the start", ended.took.as_secs_f64());
        ended.assert_code(code).assert_says(&[words]);
        assert!(ended.took < AT_ONCE, "{who}: {:?}", ended.took);
    }
    assert!(worker.jobs().is_empty());
}
