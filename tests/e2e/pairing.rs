//! Pairing by a code: laptops and workers that join, guesses that fail, and what is saved.

use crate::support::invitation::{codes, verification_words, wrong};
use crate::support::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn pair(site: &Site, server: &TestServer, code: &str) -> Ended {
    site.client(server).arguments(&["pair", code]).run_within(SOON)
}

/// Pairs a laptop with that home.
pub fn pair_in(site: &Site, server: &TestServer, home: &Path, code: &str) -> Ended {
    site.client(server).in_home(home).arguments(&["pair", code]).run_within(SOON)
}

fn rooms(site: &Site, server: &TestServer, home: &Path, arguments: &[&str]) -> Ended {
    let client = site.client(server).in_home(home).arguments(&["rooms"]);
    client.arguments(arguments).run_within(SOON)
}

fn saved_rooms(home: &Path) -> std::path::PathBuf {
    home.join(".local/share/sleap-rtc/client/rooms.json")
}

#[test]
fn a_laptop_pairs_and_both_sides_show_the_same_words() {
    let site = Site::new();
    let server = TestServer::verbose(&site);
    let setup = TestWorker::setup(&site, "worker").config("room_name = \"northlab\"\n");
    let worker = setup.start(&server);
    assert!(codes(&worker.stdout()).is_empty(), "a journal is no place for codes");
    let mut invitation = TestInvitation::of(&worker, &[]);
    let code = invitation.code().to_owned();

    let home = site.folder("laptop");
    let paired = pair_in(&site, &server, &home, &code.to_uppercase().replace('-', " "));
    paired.assert_code(0).assert_says(&["Paired with room \"northlab\"", "worker"]);
    assert_eq!(invitation.wait(), 0, "{}", invitation.text());
    assert_eq!(verification_words(&paired.stdout), verification_words(&invitation.text()));

    let mode = saved_rooms(&home).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let saved = fs::read_to_string(saved_rooms(&home)).unwrap();
    assert!(saved.contains(&worker.credentials().room_id), "{saved}");
    rooms(&site, &server, &home, &[]).assert_code(0).assert_says(&["northlab", "paired with"]);

    // The code is not logged anywhere.
    for text in [server.transcript(), worker.log()] {
        let (_, words) = code.split_once('-').unwrap();
        assert!(!text.contains(words), "{words} in {text}");
        assert!(!text.contains("mailbox"), "{text}");
    }
}

#[test]
fn a_worker_in_a_terminal_shows_a_code_at_its_start() {
    let site = Site::new();
    let server = site.server();
    let worker = site.client(&server).arguments(&["worker"]).on_terminal();
    let mut worker = worker.start_with_input();
    let code = worker.wait_stdout("a code", SOON, |text| codes(text).pop());
    let shown = worker.stdout();
    assert!(shown.contains("Pair a laptop (within 10 minutes)"), "{shown}");
    assert!(shown.contains("sleap-rtc pair --signaling ws://127.0.0.1:"), "{shown}");
    let paired = pair(&site, &server, &code);
    paired.assert_code(0);
    let shown = worker.wait_stdout("the same words", SOON, |text| {
        text.contains("room invite").then(|| verification_words(text))
    });
    assert_eq!(shown, verification_words(&paired.stdout));
}

#[test]
fn a_wrong_word_spends_the_code_and_the_worker_shows_another_one() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let mut invitation = TestInvitation::of(&worker, &[]);
    let first = invitation.code().to_owned();
    let guess = pair(&site, &server, &wrong(&first));
    guess.assert_code(3).assert_says(&["does not accept this code", "new one"]);
    let second = invitation.next_code().to_owned();
    assert_ne!(first, second);
    let late = pair(&site, &server, &first);
    late.assert_code(3);
    let says_why = ["no worker waits", "does not accept"];
    assert!(says_why.iter().any(|words| late.text().contains(words)), "{}", late.text());
    // The new code may have the same number. Then the old words have spent that one.
    let newest = match first.split_once('-').unwrap().0 == second.split_once('-').unwrap().0 {
        true => invitation.next_code().to_owned(),
        false => second,
    };
    pair(&site, &server, &newest).assert_code(0);
    assert_eq!(invitation.wait(), 0, "{}", invitation.text());
}

#[test]
fn a_code_works_once_and_not_after_it_was_withdrawn() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let mut invitation = TestInvitation::of(&worker, &[]);
    let code = invitation.code().to_owned();
    pair(&site, &server, &code).assert_code(0);
    assert_eq!(invitation.wait(), 0);
    let nobody = ["no worker waits for a code that begins with", "room invite"];
    pair(&site, &server, &code).assert_code(3).assert_says(&nobody);
    let mut invitation = TestInvitation::of(&worker, &[]);
    invitation.interrupt();
    wait_for("the end of the mailbox", SOON, || {
        let ended = pair(&site, &server, invitation.code());
        (ended.code == 3 && ended.text().contains("no worker waits")).then_some(())
    });
}

#[test]
fn a_code_expires() {
    let site = Site::new();
    let limits = "[signaling.limits]\npair_within = \"2 s\"\n";
    let server = TestServer::configured(&site, [127, 0, 0, 1].into(), limits);
    let worker = site.worker(&server);
    let mut invitation = TestInvitation::of(&worker, &[]);
    assert!(invitation.text().contains("within 2 seconds"), "{}", invitation.text());
    assert_eq!(invitation.wait(), 5, "{}", invitation.text());
    assert!(invitation.text().contains("has expired"), "{}", invitation.text());
    let late = pair(&site, &server, invitation.code());
    late.assert_code(3).assert_says(&["no worker waits", "expired"]);
}

#[test]
fn after_five_wrong_codes_the_worker_pauses_and_says_so() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let mut invitation = TestInvitation::of(&worker, &[]);
    for guess in 1..=5 {
        pair(&site, &server, &wrong(invitation.code())).assert_code(3);
        if guess < 5 {
            invitation.next_code();
        }
    }
    assert_eq!(invitation.wait(), 5, "{}", invitation.text());
    let mut refused = TestInvitation::start(&worker, &[]);
    assert_eq!(refused.wait(SOON), 5);
    assert!(refused.stderr().contains("makes no new one for 60 minutes"), "{}", refused.stderr());
}

#[test]
fn a_second_laptop_and_a_second_worker_pair_with_codes_of_their_own() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "first").config("room_name = \"northlab\"\n");
    let first = setup.start(&server);
    // A code for a laptop does not admit a worker, and vice versa.
    let mut for_laptop = TestInvitation::of(&first, &[]);
    let refused = site.client(&server).arguments(&["worker", "--pair", for_laptop.code()]);
    let refused = refused.run_within(SOON);
    refused.assert_code(3).assert_says(&["for a client, not for a worker", "room invite --worker"]);
    let mut for_worker = TestInvitation::of(&first, &["--worker"]);
    let refused = pair(&site, &server, for_worker.code());
    refused.assert_code(5).assert_says(&["for a worker, not for a client", "room invite"]);

    let setup = TestWorker::setup(&site, "second");
    let second = setup.arguments(&["--pair", for_worker.next_code()]).start(&server);
    let said = for_worker.text();
    assert!(said.contains("right code, but as a client: the code is for a worker"), "{said}");
    assert_eq!(for_worker.wait(), 0, "{}", for_worker.text());
    assert_eq!(second.credentials().room_id, first.credentials().room_id);
    assert!(second.stdout().contains("Paired with room \"northlab\""), "{}", second.stdout());
    assert_eq!(Observer::join(&server, first.credentials()).workers().len(), 2);

    // Two laptops, one paired with each worker, have the same room under the same name.
    let mut of_second = TestInvitation::of(&second, &[]);
    let homes = [site.folder("laptop"), site.folder("laptop")];
    pair_in(&site, &server, &homes[0], for_laptop.next_code()).assert_code(0);
    pair_in(&site, &server, &homes[1], of_second.code()).assert_code(0);
    assert_eq!((for_laptop.wait(), of_second.wait()), (0, 0));
    for home in &homes {
        rooms(&site, &server, home, &["list"]).assert_says(&["northlab"]);
    }
    // The room keeps its name when the second worker restarts.
    let second = second.restart(&[]);
    let again = TestInvitation::of(&second, &[]);
    pair_in(&site, &server, &homes[0], again.code()).assert_says(&["room \"northlab\""]);
    let listed = rooms(&site, &server, &homes[0], &[]);
    assert_eq!(listed.stdout.lines().count(), 1, "{}", listed.stdout);
}

#[test]
fn rooms_are_renamed_and_forgotten() {
    let site = Site::new();
    let server = site.server();
    let home = site.folder("laptop");
    rooms(&site, &server, &home, &[])
        .assert_code(0)
        .assert_says(&["not paired with any room", "sleap-rtc pair"]);
    let workers = [site.worker(&server), site.worker(&server)];
    for worker in &workers {
        let invitation = TestInvitation::of(worker, &[]);
        pair_in(&site, &server, &home, invitation.code()).assert_code(0);
    }
    let listed = rooms(&site, &server, &home, &[]).stdout;
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split("  ").next()).collect();
    assert_eq!(names[1], format!("{}-2", names[0]), "both workers run on this host");
    let taken = rooms(&site, &server, &home, &["rename", names[0], names[1]]);
    taken.assert_code(2).assert_says(&["is already called"]);
    rooms(&site, &server, &home, &["rename", names[0], "north"]).assert_code(0);
    let unknown = rooms(&site, &server, &home, &["forget", names[0]]);
    unknown.assert_code(2).assert_says(&["knows no room", "north"]);
    rooms(&site, &server, &home, &["forget", "north"]).assert_code(0);
    let saved = fs::read_to_string(saved_rooms(&home)).unwrap();
    assert!(!saved.contains(&workers[0].credentials().room_id), "{saved}");
    assert!(saved.contains(&workers[1].credentials().room_id), "{saved}");
    let bad = rooms(&site, &server, &home, &["rename", names[1], "two words"]);
    bad.assert_code(2).assert_says(&["a room's name"]);
}

#[test]
fn an_invalid_code_is_refused_before_any_connection() {
    let site = Site::new();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    nobody.set_nonblocking(true).unwrap();
    let address = nobody.local_addr().unwrap();
    for (code, words) in [
        ("harbor-violin", "a number and two words"),
        ("4-harbour-violin", "is it \"harbor\"?"),
        ("4-harbor", "a number and two words"),
    ] {
        let pair = TestClient::new(&site, address).arguments(&["pair", code]);
        pair.run_within(SOON).assert_code(2).assert_says(&[words]);
        let worker = TestClient::new(&site, address).arguments(&["worker", "--pair", code]);
        worker.run_within(SOON).assert_code(2).assert_says(&[words]);
    }
    assert!(nobody.accept().is_err(), "a socket was opened");
}

#[test]
fn pairing_without_a_worker_or_a_capable_server_says_why() {
    let site = Site::new();
    let server = site.server();
    let nobody = pair(&site, &server, "4-harbor-violin");
    nobody.assert_code(3).assert_says(&["no worker waits", "begins with 4"]);
    let mut worker = site.worker(&server);
    worker.stop();
    let mut invitation = TestInvitation::start(&worker, &[]);
    assert_eq!(invitation.wait(SOON), 2);
    let said = invitation.stderr();
    assert!(said.contains("no running worker on this machine"), "{said}");
    // The Python server accepts any WebSocket, but has no mailboxes.
    let Some(old) = TestServer::old(&site, &[]) else { return };
    let refused = pair(&site, &old, "4-harbor-violin");
    refused.assert_code(3).assert_says(&["does not pair devices", "--room-id"]);
}

#[test]
fn a_laptop_written_from_the_documentation_alone_pairs() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let mut invitation = TestInvitation::of(&worker, &[]);
    // The receiving side refuses anything that a server in between has changed. The laptop that
    // refuses the second message has proven nothing, so the code is still valid.
    for message in ["1", "3", "2"] {
        let code = invitation.code().to_owned();
        let Some((exit, said)) = python_laptop(&site, &server, &[&code, "--spoil", message]) else {
            return;
        };
        assert_eq!(exit, 3, "{said}");
        if message != "2" || !said.contains("none of SPAKE2") {
            invitation.next_code();
        }
    }
    let code = invitation.code().to_owned();
    let (exit, said) = python_laptop(&site, &server, &[&code]).unwrap();
    assert_eq!(exit, 0, "{said}");
    assert_eq!(invitation.wait(), 0, "{}", invitation.text());
    let met: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(met["words"], verification_words(&invitation.text()));
    assert!(invitation.text().contains("Paired with python@tests (client)"));
    let granted = &met["reply"]["granted"];
    assert_eq!(granted["room_id"], worker.credentials().room_id);
    // The granted credentials open the room.
    let token = granted["token"].as_str().unwrap();
    let room = ["room", "list", "--room-id", &worker.credentials().room_id, "--token", token];
    site.client(&server).arguments(&room).run_within(SOON).assert_code(0);
    // A code for the other role does not admit it.
    let invitation = TestInvitation::of(&worker, &["--worker"]);
    let (exit, said) = python_laptop(&site, &server, &[invitation.code()]).unwrap();
    assert_eq!((exit, said.contains("only_for")), (0, true), "{said}");
}

#[test]
fn a_paired_room_is_chosen_by_name_or_as_the_only_one() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").config("room_name = \"northlab\"\n");
    let worker = setup.start(&server);
    let home = site.folder("laptop");
    pair_in(&site, &server, &home, TestInvitation::of(&worker, &[]).code()).assert_code(0);
    let train = |output| {
        let client = site.client(&server).in_home(&home);
        client.train_to(&fixture("train_single.zip"), output).arguments(&["--auto-select"])
    };
    train("by-name").arguments(&["--room", "northlab"]).run().assert_code(0);
    // The room's own server is used, regardless of the environment.
    let elsewhere = train("alone").env("SLEAP_RTC_SIGNALING_WS", "ws://127.0.0.1:1");
    elsewhere.env("SLEAP_RTC_SIGNALING_HTTP", "http://127.0.0.1:1").run().assert_code(0);
    for command in [&["why"][..], &["room", "list"]] {
        let client = site.client(&server).in_home(&home).arguments(command);
        client.run_within(SOON).assert_code(0).assert_says(&[worker.peer_id()]);
    }
    let unknown = train("unknown").arguments(&["--room", "southlab"]).run_within(SOON);
    unknown.assert_code(2).assert_says(&["knows no room southlab", "northlab", "sleap-rtc pair"]);
    let both = train("both").arguments(&["--room", "northlab"]).room(worker.credentials());
    both.run_within(SOON).assert_code(2).assert_says(&["--room", "--room-id"]);

    // With a second room, one of them must be named, by an option or by the configuration.
    let other = site.worker(&server);
    pair_in(&site, &server, &home, TestInvitation::of(&other, &[]).code()).assert_code(0);
    let unclear = train("unclear").run_within(SOON);
    unclear.assert_code(2).assert_says(&["several rooms", "northlab", "--room NAME"]);
    let listed = |arguments: &[&str]| {
        let client = site.client(&server).in_home(&home).arguments(&["room", "list"]);
        client.arguments(arguments).run_within(SOON)
    };
    fs::write(home.join("sleap-rtc.toml"), "[client]\nroom = \"northlab\"\n").unwrap();
    listed(&[]).assert_code(0).assert_says(&[worker.peer_id()]);
    let session = ["--session-string", &other.credentials().session_string];
    listed(&session).assert_code(0).assert_says(&[other.peer_id()]);
}
