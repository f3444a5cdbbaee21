//! A signaling server that lies, and impostors in a room. No peer is trusted before it has proven
//! its identity, and nothing is sent to it.

mod middle;
mod relay;
mod server;

use crate::support::*;
pub use server::{EvilServer, Plot};
use std::time::Duration;

/// A client must detect a lie within this time.
const LIMIT: Duration = Duration::from_secs(10);

/// A client that trains on `worker` through a lying server.
fn train(site: &Site, evil: &EvilServer, credentials: &Credentials, more: &[&str]) -> Ended {
    let client = TestClient::new(site, evil.address()).train(&fixture("train_single.zip"));
    let output = client.output();
    let ended = client.session(credentials).arguments(more).run();
    assert!(!output.exists(), "something has arrived: {:?}", files_below(&output));
    ended
}

/// Fails unless the client soon prints `words`, and has sent nothing of a job.
#[track_caller]
fn assert_refused(ended: &Ended, evil: &EvilServer, worker: &TestWorker, words: &[&str]) {
    ended.assert_code(9).assert_says(words);
    assert!(ended.took < LIMIT, "it took {:?}", ended.took);
    for text in evil.overheard() {
        let proof = text.contains(r#""frame":"hello""#) || text.contains(r#""frame":"refused""#);
        assert!(proof, "said to the one in the middle: {text}");
    }
    assert!(worker.jobs().is_empty(), "{:?}", worker.jobs());
}

#[test]
fn a_server_that_swaps_fingerprints_is_found_out() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let evil = EvilServer::before(server.address(), Plot::SwapsFingerprints);
    let ended = train(&site, &evil, worker.credentials(), &["--transport", "webrtc"]);
    assert_refused(&ended, &evil, &worker, &["the signaling server", "intercepts this connection"]);
    assert_eq!(evil.overheard().len(), 2, "both hellos: {:?}", evil.overheard());
    // The same with room credentials and a chosen worker.
    let client = TestClient::new(&site, evil.address()).train(&fixture("train_single.zip"));
    let client = client.auto(worker.credentials()).arguments(&["--transport", "webrtc"]);
    assert_refused(&client.run(), &evil, &worker, &["intercepts this connection"]);
}

#[test]
fn a_server_that_swaps_endpoints_is_found_out() {
    let site = Site::new();
    let server = site.server();
    let worker = TestWorker::setup(&site, "worker").arguments(&["--transport", "iroh"]);
    let worker = worker.start(&server);
    let evil = EvilServer::before(server.address(), Plot::SwapsEndpoints);
    let ended = train(&site, &evil, worker.credentials(), &["--transport", "iroh"]);
    assert_refused(&ended, &evil, &worker, &["the signaling server", "intercepts this connection"]);
    assert_eq!(evil.overheard().len(), 2, "both hellos: {:?}", evil.overheard());
}

#[test]
fn a_server_that_strips_the_marks_of_our_programs_is_refused_by_name() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let evil = EvilServer::before(server.address(), Plot::StripsMarks);
    let ended = train(&site, &evil, worker.credentials(), &["--transport", "webrtc"]);
    assert_refused(&ended, &evil, &worker, &["shows no key", "--python-worker"]);
}

#[test]
fn a_server_that_strips_one_mark_gains_nothing() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    for (plot, words) in [
        (Plot::StripsMark("protocols"), "shows no key"),
        (Plot::StripsMark("attempt"), "signed a different connection"),
        (Plot::RenumbersOffers, "signed a different connection"),
    ] {
        let evil = EvilServer::before(server.address(), plot);
        let ended = train(&site, &evil, worker.credentials(), &["--transport", "webrtc"]);
        assert_refused(&ended, &evil, &worker, &[words]);
    }
    // Over iroh a call about another offer is not even answered.
    for plot in [Plot::StripsMark("attempt"), Plot::RenumbersOffers] {
        let evil = EvilServer::before(server.address(), plot);
        let ended = train(&site, &evil, worker.credentials(), &["--transport", "iroh"]);
        assert_refused(&ended, &evil, &worker, &[worker.peer_id()]);
    }
    // Without these there is another transport, or another wish, and the same proof.
    for mark in ["iroh", "purpose"] {
        let evil = EvilServer::before(server.address(), Plot::StripsMark(mark));
        let client = TestClient::new(&site, evil.address()).train(&fixture("train_single.zip"));
        let ended = client.session(worker.credentials()).run();
        ended.assert_code(0);
        assert!(worker.log().contains("the client has proven who it is"), "{}", worker.log());
    }
}

#[test]
fn a_server_that_repeats_offers_starts_nothing_twice() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    for transport in ["webrtc", "iroh"] {
        let evil = EvilServer::before(server.address(), Plot::RepeatsOffers);
        let before = worker.jobs().len();
        let client = TestClient::new(&site, evil.address()).train(&fixture("train_single.zip"));
        let client = client.arguments(&["--transport", transport]);
        client.session(worker.credentials()).run().assert_code(0);
        assert_eq!(worker.jobs().len(), before + 1, "{transport}");
    }
}

#[test]
fn a_server_that_plays_the_worker_is_refused() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let overheard = {
        let evil = EvilServer::before(server.address(), Plot::SwapsFingerprints);
        train(&site, &evil, worker.credentials(), &["--transport", "webrtc"]).assert_code(9);
        let hello = evil
            .overheard()
            .iter()
            .find_map(|text| text.strip_prefix("worker: ").map(str::to_owned));
        hello.expect("the worker's hello")
    };
    let accepted = r#"{"frame":"accepted","job":"j","last_event":0,"has_package":false}"#;
    let plays = [
        (accepted.to_owned(), "shows no key"),
        (
            r#"{"frame":"refused","refusal":{"code":"busy","message":"no keys here"}}"#.into(),
            "no keys here",
        ),
        ("nonsense".into(), "shows no key"),
        // A message of the worker itself, from another connection.
        (overheard, "replays an earlier proof"),
    ];
    for (words, said) in plays {
        let evil = EvilServer::before(server.address(), Plot::PlaysWorker(words));
        let ended = train(&site, &evil, worker.credentials(), &["--transport", "webrtc"]);
        assert_refused(&ended, &evil, &worker, &[said]);
    }
}

#[test]
fn a_server_that_hands_the_offer_to_another_worker_of_the_room_is_found_out() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let second = TestWorker::setup(&site, "second").join(worker.credentials()).start(&server);
    // A worker of its own, with a token that it has as a member.
    let Credentials { room_id, token, .. } = worker.credentials();
    let own = TestWorker::setup(&site, "own").arguments(&["--room-id", room_id, "--token", token]);
    let own = own.start(&server);
    for other in [&second, &own] {
        let evil = EvilServer::before(server.address(), Plot::Diverts(other.peer_id().to_owned()));
        let ended = train(&site, &evil, worker.credentials(), &[]);
        assert_refused(&ended, &evil, &worker, &["signed a different connection"]);
        assert!(other.jobs().is_empty());
    }
}

#[test]
fn a_server_that_puts_a_client_into_another_room_is_found_out() {
    let site = Site::new();
    let server = site.server();
    let (worker, other) = (site.worker(&server), site.worker(&server));
    let room_id = other.credentials().room_id.clone();
    let token = other.credentials().server_token().to_owned();
    let evil = EvilServer::before(server.address(), Plot::SwapsRooms { room_id, token });
    let client = TestClient::new(&site, evil.address()).train(&fixture("train_single.zip"));
    let ended = client.auto(worker.credentials()).run();
    // Both call the room by its own id, and so sign different conversations.
    assert_refused(&ended, &evil, &worker, &["signed a different connection"]);
    assert!(other.jobs().is_empty());
}

#[test]
fn a_server_gets_no_job_to_a_worker_that_wants_proof() {
    let site = Site::new();
    let server = site.server();
    let worker = TestWorker::setup(&site, "worker").config("python_clients = false\n");
    let worker = worker.start(&server);
    let evil = EvilServer::before(server.address(), Plot::SkipsTheProof);
    assert_ne!(train(&site, &evil, worker.credentials(), &["--transport", "webrtc"]).code, 0);
    let overheard = evil.overheard();
    assert!(overheard.iter().any(|text| text.contains("prove who they are")), "{overheard:?}");
    assert!(worker.jobs().is_empty());
    // A client that knows only what the server knows is refused as well, with an explanation.
    let client = site.client(&server).train(&fixture("train_single.zip"));
    let ended = client.session(&worker.credentials().keyless()).run();
    ended.assert_code(5).assert_says(&["prove who they are"]);
}

#[test]
fn the_server_never_sees_what_peers_share() {
    let site = Site::new();
    let mut server = TestServer::persistent(&site);
    let evil = EvilServer::before(server.address(), Plot::Listens);
    let worker = TestWorker::setup(&site, "worker").start_at(evil.address());
    let client = TestClient::new(&site, evil.address()).train(&fixture("train_single.zip"));
    client.auto(worker.credentials()).run().assert_code(0);
    let Credentials { token, worker_token, .. } = worker.credentials();
    server.stop();
    let heard = String::from_utf8_lossy(&evil.heard()).into_owned();
    assert!(heard.contains(worker.credentials().server_token()), "the server's part is heard");
    let files = files_below(server.home());
    assert!(files.iter().any(|file| file.ends_with("signaling.sqlite")), "{files:?}");
    for token in [token, worker_token] {
        let (_, peers) = token.split_once('.').expect("a part for peers");
        // Neither the secret nor the authority, not even their beginnings.
        for part in [peers, &peers[..22], &peers[24..60]] {
            assert!(!heard.contains(part), "the server was sent the peers' part");
            for file in &files {
                let bytes = std::fs::read(server.home().join(file)).unwrap();
                let found = bytes.windows(part.len()).any(|window| window == part.as_bytes());
                assert!(!found, "{file:?} holds the peers' part");
            }
        }
    }
}

#[test]
fn a_fake_worker_with_a_clients_token_is_passed_over_and_asked_about_on_a_terminal() {
    let site = Site::new();
    let server = site.server();
    let mut honest = site.worker(&server);
    let Credentials { room_id, token, .. } = honest.credentials().clone();
    honest.stop();
    // Joined as a client could: it claims more GPU memory than the other.
    let fake = TestWorker::setup(&site, "fake").gpu_mib(80_000);
    let fake = fake.arguments(&["--room-id", &room_id, "--token", &token]).start(&server);
    // Before it has tried its trainer, a busy machine may answer a request too late.
    let is_ready = || fake.log().contains("sleap-nn found").then_some(());
    wait_for("the fake worker's trainer", SOON, is_ready);
    let client = site.client(&server).train(&fixture("train_single.zip"));
    let ended = client.auto(honest.credentials()).run();
    ended.assert_code(9).assert_says(&["is not certified", fake.peer_id()]);
    // The other one gets the job, whichever of them answers first.
    let honest = honest.restart(&[]);
    let client = site.client(&server).train(&fixture("train_single.zip"));
    client.auto(honest.credentials()).run().assert_code(0);
    assert!(fake.jobs().is_empty() && honest.jobs().len() == 1);

    let named = |client: TestClient| {
        let client = client.room(honest.credentials());
        client.arguments(&["--worker-id", fake.peer_id()])
    };
    let client = site.client(&server).train(&fixture("train_single.zip"));
    named(client).run().assert_code(9).assert_says(&["is not certified"]);

    let client = site.client(&server).train(&fixture("train_single.zip")).on_terminal();
    let home = client.home().to_owned();
    let mut asked = named(client).start_with_input();
    asked.wait_stdout("the question", SOON, |text| text.contains("Trust it").then_some(()));
    asked.type_line("n");
    assert_eq!(asked.wait(SOON), 9, "{}", asked.transcript());
    let client = site.client(&server).in_home(&home).train(&fixture("train_single.zip"));
    let mut asked = named(client.on_terminal()).start_with_input();
    asked.wait_stdout("the question", SOON, |text| text.contains("Trust it").then_some(()));
    asked.type_line("y");
    assert_eq!(asked.wait(A_WHILE), 0, "{}", asked.transcript());
    // Once it is accepted, the user is not asked again.
    let client =
        site.client(&server).in_home(&home).train_to(&fixture("train_single.zip"), "again");
    named(client).run().assert_code(0);
    // Its session string names its device.
    let client = site.client(&server).train(&fixture("train_single.zip"));
    client.session(fake.credentials()).run().assert_code(0);
}

#[test]
fn a_worker_with_another_key_than_before_is_refused() {
    let site = Site::new();
    let server = site.server();
    let mut worker = site.worker(&server);
    let before = worker.credentials().clone();
    worker.stop();
    std::fs::remove_file(worker.state_dir().join("device.key")).unwrap();
    let worker = worker.start_again("");
    let client = site.client(&server).train(&fixture("train_single.zip"));
    client.session(&before).run().assert_code(9).assert_says(&["has another key"]);
    // It is certified by its room, so a client without an expected device trusts it.
    let client = site.client(&server).train(&fixture("train_single.zip"));
    client.auto(worker.credentials()).run().assert_code(0);
}
