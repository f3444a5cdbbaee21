//! The handshake, undisturbed and under attack.

use super::*;

use proptest::prelude::*;

const NOW_S: u64 = 1_000_000;

/// A room with one worker and one client.
struct Room {
    id: &'static str,
    part: PeerPart,
    worker: Identity,
    client: Identity,
}

fn key(seed: u8) -> DeviceKey {
    DeviceKey::from_bytes([seed; 32])
}

fn room(id: &'static str, seed: u8) -> Room {
    let part = PeerPart::from_random([seed; 48]);
    let worker = Identity::worker(key(seed + 1), part.clone(), "gpu2", NOW_S);
    let client = Identity::new(key(seed + 2), part.for_clients(), None);
    Room { id, part, worker, client }
}

fn scene(room: &Room, attempt: u64, client_end: u8, worker_end: u8) -> Scene {
    let binding = Binding {
        transport: Transport::Webrtc,
        client: [client_end; 32],
        worker: [worker_end; 32],
    };
    let id = |text: &str| text.parse().unwrap();
    Scene::new(&room.id.parse().unwrap(), attempt, &id("client"), &id("worker"), binding)
}

/// What somebody between client and worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attack {
    /// Connections of its own to both sides; everything said is passed on.
    SwapEnds,
    /// Another offer than the client's is shown to the worker.
    SwapAttempt,
    /// The offer goes to a worker of another name.
    SwapPeers,
    /// What was said in an earlier conversation of the same devices.
    ReplayHello,
    ReplayProof,
    /// What was said in a conversation that goes on beside this one.
    ReorderHellos,
    ReorderProofs,
    /// What peers of another room say.
    OtherRoomHello,
    OtherRoomProof,
    /// A part is missing, or changed.
    StripCertificate,
    ChangeName,
    ChangeDevice,
    ChangeNonce,
    ChangeSignature,
    ChangeMac,
    /// The server plays the worker, or the client, with keys of its own.
    ServerAsWorker,
    ServerAsClient,
    /// A member plays the worker, with or without a certificate of its own making.
    MemberAsWorker,
    MemberAsCertifiedWorker,
    /// A client's certificate is shown by a worker, and the other way round.
    ClientsCertificate,
    WorkersCertificate,
}

const ATTACKS: [Attack; 21] = [
    Attack::SwapEnds,
    Attack::SwapAttempt,
    Attack::SwapPeers,
    Attack::ReplayHello,
    Attack::ReplayProof,
    Attack::ReorderHellos,
    Attack::ReorderProofs,
    Attack::OtherRoomHello,
    Attack::OtherRoomProof,
    Attack::StripCertificate,
    Attack::ChangeName,
    Attack::ChangeDevice,
    Attack::ChangeNonce,
    Attack::ChangeSignature,
    Attack::ChangeMac,
    Attack::ServerAsWorker,
    Attack::ServerAsClient,
    Attack::MemberAsWorker,
    Attack::MemberAsCertifiedWorker,
    Attack::ClientsCertificate,
    Attack::WorkersCertificate,
];

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
        Ok((proof, proven)) => (Ok(proven), Some(answering.conclude(&on_proof(proof), NOW_S))),
        Err(error) => (Err(error), None),
    }
}

fn honest(room: &Room, nonces: (u8, u8)) -> Ends {
    let scenes = (scene(room, 1, 1, 2), scene(room, 1, 1, 2));
    converse(&room.client, &room.worker, scenes, nonces, |_, hello| hello, |proof| proof)
}

/// What the worker and the client of `room` say in another conversation.
fn overheard(room: &Room, nonces: (u8, u8)) -> (WorkerHello, ClientProof) {
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

fn changed<const N: usize>(mut bytes: Fixed<N>, at: usize) -> Fixed<N> {
    bytes.0[at % N] ^= 1 << (at % 8);
    bytes
}

/// What the client hears instead of `said`.
fn on_hello(
    attack: Attack,
    room: &Room,
    at: usize,
    hello: &ClientHello,
    said: WorkerHello,
) -> WorkerHello {
    let other = self::room("other", 100);
    let impostor = |identity: Identity| {
        let scene = scene(room, 1, 1, 2);
        WorkerHandshake::answer(identity, scene, hello, [7; 32]).1
    };
    let stranger = || PeerPart::from_random([66; 48]);
    match attack {
        Attack::ReplayHello => overheard(room, (8, 9)).0,
        Attack::ReorderHellos => overheard(room, (10, 11)).0,
        Attack::OtherRoomHello => overheard(&other, (8, 9)).0,
        Attack::StripCertificate => WorkerHello { certificate: None, ..said },
        Attack::ChangeName => WorkerHello { name: "gpu1".into(), ..said },
        Attack::ChangeDevice => WorkerHello { device: key(77).id(), ..said },
        Attack::ChangeNonce => WorkerHello { nonce: changed(said.nonce, at), ..said },
        Attack::ChangeSignature => {
            let seal = Seal { signature: changed(said.seal.signature, at), ..said.seal };
            WorkerHello { seal, ..said }
        }
        Attack::ChangeMac => {
            let seal = Seal { mac: changed(said.seal.mac, at), ..said.seal };
            WorkerHello { seal, ..said }
        }
        Attack::ServerAsWorker => impostor(Identity::worker(key(66), stranger(), "gpu2", NOW_S)),
        Attack::MemberAsWorker => impostor(Identity::new(key(66), room.part.for_clients(), None)),
        Attack::MemberAsCertifiedWorker => {
            let own = Identity::worker(key(66), stranger(), "gpu2", NOW_S).certificate;
            impostor(Identity::new(key(66), room.part.for_clients(), own))
        }
        Attack::ClientsCertificate => {
            let subject = Subject::new(key(66).id(), MemberRole::Client, "alice", NOW_S);
            let own = Certificate::issue(room.part.authority_key().unwrap(), subject);
            impostor(Identity::new(key(66), room.part.for_clients(), Some(own)))
        }
        _ => said,
    }
}

/// What the worker hears instead of `said`.
fn on_proof(attack: Attack, room: &Room, at: usize, said: ClientProof) -> ClientProof {
    let other = self::room("other", 100);
    match attack {
        Attack::ReplayProof => overheard(room, (8, 9)).1,
        Attack::ReorderProofs => overheard(room, (10, 11)).1,
        Attack::OtherRoomProof => overheard(&other, (8, 9)).1,
        Attack::ServerAsClient => {
            let (_, mut proof) = overheard(&other, (8, 9));
            proof.seal.mac = changed(proof.seal.mac, at);
            proof
        }
        Attack::WorkersCertificate => {
            let certificate = room.worker.certificate.clone();
            ClientProof { certificate, ..said }
        }
        _ => said,
    }
}

fn scenes(attack: Attack, room: &Room) -> (Scene, Scene) {
    let honest = scene(room, 1, 1, 2);
    let at_worker = match attack {
        Attack::SwapEnds => scene(room, 1, 3, 2),
        Attack::SwapAttempt => scene(room, 2, 1, 2),
        Attack::SwapPeers => {
            let binding =
                Binding { transport: Transport::Webrtc, client: [1; 32], worker: [2; 32] };
            let id = |text: &str| text.parse().unwrap();
            Scene::new(&room.id.parse().unwrap(), 1, &id("client"), &id("worker-2"), binding)
        }
        _ => honest.clone(),
    };
    (honest, at_worker)
}

#[test]
fn two_members_believe_each_other_and_agree() {
    let room = room("room", 1);
    let (worker, client) = honest(&room, (5, 6));
    let (worker, client) = (worker.unwrap(), client.unwrap().unwrap());
    assert_eq!((worker.standing, worker.name.as_str()), (Standing::Certified, "gpu2"));
    assert_eq!(worker.device, key(2).id());
    assert_eq!((client.standing, client.device), (Standing::Uncertified, key(3).id()));
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
    let proven = answering.conclude(&proof, NOW_S).unwrap();
    assert_eq!((proven.standing, proven.name.as_str()), (Standing::Certified, "alice's laptop"));
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
        let (client, worker) = converse(
            &room.client,
            &room.worker,
            scenes(attack, &room),
            nonces,
            |hello, said| on_hello(attack, &room, at, hello, said),
            |said| on_proof(attack, &room, at, said),
        );
        let at_client = [
            Attack::ReplayProof, Attack::ReorderProofs, Attack::OtherRoomProof,
            Attack::ServerAsClient, Attack::WorkersCertificate,
        ];
        if at_client.contains(&attack) {
            prop_assert!(worker.unwrap().is_err(), "{attack:?}");
            return Ok(());
        }
        match client {
            Ok(proven) => {
                prop_assert!([Attack::StripCertificate, Attack::MemberAsWorker].contains(&attack));
                prop_assert_eq!(proven.standing, Standing::Uncertified);
            }
            Err(error) => {
                let swapped = [Attack::SwapEnds, Attack::SwapAttempt, Attack::SwapPeers];
                if swapped.contains(&attack) {
                    prop_assert_eq!(error, ProofError::OtherConnection);
                }
            }
        }
    }
}
