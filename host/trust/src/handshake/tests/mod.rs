//! The handshake, undisturbed and under attack.

mod attacks;
mod members;

use super::*;
use attacks::{ATTACKS, Attack, cast, changed, on_hello, on_proof, scenes};
use proptest::prelude::*;

const NOW_S: u64 = 1_000_000;

/// A room with one worker and one client.
struct TestRoom {
    id: &'static str,
    part: PeerPart,
    worker: Identity,
    client: Identity,
}

fn key(seed: u8) -> DeviceKey {
    DeviceKey::from_bytes([seed; 32])
}

fn room(id: &'static str, seed: u8) -> TestRoom {
    let part = PeerPart::from_random([seed; 48]);
    let worker = Identity::worker(key(seed + 1), part.clone(), "gpu2", NOW_S);
    let client = Identity::new(key(seed + 2), part.for_clients(), None);
    TestRoom { id, part, worker, client }
}

fn scene(room: &TestRoom, attempt: u64, client_end: u8, worker_end: u8) -> Scene {
    let binding = Binding {
        transport: ConnectionKind::Webrtc,
        client: [client_end; 32],
        worker: [worker_end; 32],
    };
    let id = |text: &str| text.parse().unwrap();
    Scene::new(&room.id.parse().unwrap(), attempt, &id("client"), &id("worker"), binding)
}

/// How a conversation ended on both sides. `None` for a worker that heard no proof.
type Ends = (Result<Proven, ProofError>, Option<Result<Proven, ProofError>>);

/// A conversation between these two, in which `between` changes what is said.
fn converse(
    client: &Identity,
    worker: &Identity,
    scenes: (Scene, Scene),
    nonces: (u8, u8),
    on_hello: impl FnOnce(&ClientHello, WorkerHello) -> WorkerHello,
    on_proof: impl FnOnce(ClientProof) -> ClientProof,
) -> Ends {
    let (asking, hello) = ClientHandshake::begin(client.clone(), scenes.0, [nonces.0; 32]);
    let (answering, answer) =
        WorkerHandshake::answer(worker.clone(), scenes.1, &hello, [nonces.1; 32]);
    let answer = on_hello(&hello, answer);
    match asking.conclude(&answer, NOW_S) {
        Ok((proof, proven)) => {
            let heard = answering.conclude(&on_proof(proof), Admits::Members, NOW_S);
            (Ok(proven), Some(heard))
        }
        Err(error) => (Err(error), None),
    }
}

fn honest(room: &TestRoom, nonces: (u8, u8)) -> Ends {
    let scenes = (scene(room, 1, 1, 2), scene(room, 1, 1, 2));
    converse(&room.client, &room.worker, scenes, nonces, |_, hello| hello, |proof| proof)
}

/// What the worker and the client of `room` say in another conversation.
fn overheard(room: &TestRoom, nonces: (u8, u8)) -> (WorkerHello, ClientProof) {
    let scenes = (scene(room, 1, 1, 2), scene(room, 1, 1, 2));
    let (mut hello, mut proof) = (None, None);
    let ends = converse(
        &room.client,
        &room.worker,
        scenes,
        nonces,
        |_, said| hello.insert(said).clone(),
        |said| proof.insert(said).clone(),
    );
    ends.0.unwrap();
    (hello.unwrap(), proof.unwrap())
}

#[test]
fn two_members_believe_each_other_and_agree() {
    let room = room("room", 1);
    let (worker, client) = honest(&room, (5, 6));
    let (worker, client) = (worker.unwrap(), client.unwrap().unwrap());
    assert_eq!((worker.certification, worker.name.as_str()), (Certification::Certified, "gpu2"));
    assert_eq!(worker.device, key(2).id());
    assert_eq!((client.certification, client.device), (Certification::Uncertified, key(3).id()));
    assert_eq!(worker.transcript, client.transcript);
}

#[test]
fn a_certificate_admits_a_client_that_has_another_secret() {
    let room = room("room", 1);
    let subject = Subject::new(key(3).id(), MemberRole::Client, "alice's laptop", NOW_S);
    let certificate = Certificate::issue(room.part.authority_key().unwrap(), subject);
    let (answering, proof) = {
        let client = Identity { certificate: Some(certificate), ..room.client.clone() };
        let (asking, hello) = ClientHandshake::begin(client, scene(&room, 1, 1, 2), [5; 32]);
        let (answering, answer) =
            WorkerHandshake::answer(room.worker.clone(), scene(&room, 1, 1, 2), &hello, [6; 32]);
        let (mut proof, _) = asking.conclude(&answer, NOW_S).unwrap();
        proof.seal.mac = changed(proof.seal.mac, 0);
        (answering, proof)
    };
    let proven = answering.conclude(&proof, Admits::Members, NOW_S).unwrap();
    assert_eq!(
        (proven.certification, proven.name.as_str()),
        (Certification::Certified, "alice's laptop")
    );
}

#[test]
fn messages_survive_the_wire_and_frames_of_a_conversation_are_none() {
    let room = room("room", 1);
    let (hello, proof) = overheard(&room, (8, 9));
    let (hello, proof) = (WorkerMessage::Hello(hello), ClientMessage::Proof(proof));
    assert_eq!(WorkerMessage::decode(&hello.encode()), Some(hello));
    assert_eq!(ClientMessage::decode(&proof.encode()), Some(proof));
    for frame in [r#"{"frame":"stop","all":true}"#, r#"{"frame":"hello"}"#, "", "{}"] {
        assert_eq!(ClientMessage::decode(frame), None, "{frame}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Whatever is done, no side believes what is not so. Of a fake worker with a client's token, the
    /// client learns that nobody has certified it.
    #[test]
    fn no_attack_is_believed(
        attack in prop::sample::select(&ATTACKS[..]),
        at in 0..512usize,
        // Fresh: not those of the conversations that are overheard.
        nonces in (100..=255u8, 100..=255u8),
    ) {
        let room = room("room", 1);
        let (own_client, own_worker) = cast(attack, &room);
        let (client, worker) = converse(
            &own_client,
            &own_worker,
            scenes(attack, &room),
            nonces,
            |hello, said| on_hello(attack, &room, at, hello, said),
            |said| on_proof(attack, &room, at, said),
        );
        let heard = match attack.is_on_worker() {
            true => worker.unwrap(),
            false => client,
        };
        match heard {
            // Its certificate alone says who it is.
            Ok(proven) if attack == Attack::ChangeMac => {
                prop_assert_eq!((proven.certification, proven.device), (Certification::Certified, key(2).id()));
            }
            Ok(proven) => {
                prop_assert!([Attack::StripCertificate, Attack::MemberAsWorker].contains(&attack));
                prop_assert_eq!(proven.certification, Certification::Uncertified);
            }
            Err(error) => {
                let said = error.to_string();
                prop_assert!(attack.words().is_none_or(|words| said.contains(words)), "{attack:?}: {said}");
            }
        }
    }
}
