//! What an attacker does to a conversation.

use super::*;

/// What somebody between client and worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attack {
    /// Connections of its own to both sides, over either transport; everything said is passed on.
    SwapEnds,
    SwapEndpoints,
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
    /// The server is a member by a token of its own, and shows what another member has shown.
    OthersCertificate,
    /// A member whose time is over, or that was removed, with what it still has.
    ExpiredMember,
    RemovedMember,
    RemovedWithFreshKey,
    OldToken,
}

pub(super) const ATTACKS: [Attack; 27] = [
    Attack::SwapEnds,
    Attack::SwapEndpoints,
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
    Attack::OthersCertificate,
    Attack::ExpiredMember,
    Attack::RemovedMember,
    Attack::RemovedWithFreshKey,
    Attack::OldToken,
];

impl Attack {
    /// What the side says that is lied to; `None` where the worker turns out to be uncertified, or more than
    /// one thing can be said.
    pub(super) fn words(self) -> Option<&'static str> {
        Some(match self {
            Self::SwapEnds | Self::SwapEndpoints | Self::SwapAttempt | Self::SwapPeers => {
                "intercepts this connection"
            }
            Self::ReplayHello | Self::ReplayProof | Self::ReorderHellos | Self::ReorderProofs => {
                "replays an earlier proof"
            }
            Self::OtherRoomHello | Self::OtherRoomProof | Self::ServerAsClient => {
                "signed a different connection"
            }
            Self::ServerAsWorker | Self::MemberAsCertifiedWorker => {
                "not signed by this room's authority"
            }
            Self::ClientsCertificate => "certificate is for a client",
            Self::WorkersCertificate | Self::OthersCertificate => "belongs to another device",
            Self::ExpiredMember => "has expired",
            Self::RemovedMember => "was removed",
            Self::RemovedWithFreshKey => "does not know this room's secret",
            Self::OldToken => "it changed when a member was removed",
            _ => return None,
        })
    }

    /// Whether the worker is lied to, and not the client.
    pub(super) fn is_on_worker(self) -> bool {
        [
            Self::ReplayProof,
            Self::ReorderProofs,
            Self::OtherRoomProof,
            Self::ServerAsClient,
            Self::WorkersCertificate,
            Self::OthersCertificate,
            Self::ExpiredMember,
            Self::RemovedMember,
            Self::RemovedWithFreshKey,
            Self::OldToken,
        ]
        .contains(&self)
    }
}

/// The client and the worker that meet.
pub(super) fn cast(attack: Attack, room: &TestRoom) -> (Identity, Identity) {
    let paired = |seed, until_s| members::paired(room, seed, NOW_S - 10, until_s);
    let removal = members::removal(room, key(7).id(), NOW_S - 5, 1);
    let removals = Removals::of(&room.part.authority(), &[removal]);
    let (client, worker) = (room.client.clone(), room.worker.clone());
    match attack {
        Attack::ExpiredMember => (paired(7, Some(NOW_S - 1)), worker),
        Attack::RemovedMember => (paired(7, None), worker.knowing(removals)),
        Attack::RemovedWithFreshKey => {
            let fresh = Identity::new(key(77), room.part.for_members(), None);
            (fresh, worker.knowing(removals))
        }
        Attack::OldToken => (client, worker.knowing(removals)),
        _ => (client, worker),
    }
}

pub(super) fn changed<const N: usize>(mut bytes: Fixed<N>, at: usize) -> Fixed<N> {
    bytes.0[at % N] ^= 1 << (at % 8);
    bytes
}

/// What the client hears instead of `said`.
pub(super) fn on_hello(
    attack: Attack,
    room: &TestRoom,
    at: usize,
    hello: &ClientHello,
    said: WorkerHello,
) -> WorkerHello {
    let other = super::room("other", 100);
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
pub(super) fn on_proof(
    attack: Attack,
    room: &TestRoom,
    at: usize,
    said: ClientProof,
) -> ClientProof {
    let other = super::room("other", 100);
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
        Attack::OthersCertificate => {
            let certificate = members::paired(room, 7, NOW_S, None).certificate;
            ClientProof { certificate, ..said }
        }
        _ => said,
    }
}

pub(super) fn scenes(attack: Attack, room: &TestRoom) -> (Scene, Scene) {
    let honest = scene(room, 1, 1, 2);
    let iroh = |client, worker| {
        let binding =
            Binding { transport: ConnectionKind::Iroh, client: [client; 32], worker: [worker; 32] };
        let id = |text: &str| text.parse().unwrap();
        Scene::new(&room.id.parse().unwrap(), 1, &id("client"), &id("worker"), binding)
    };
    if attack == Attack::SwapEndpoints {
        return (iroh(1, 3), iroh(4, 2));
    }
    let at_worker = match attack {
        Attack::SwapEnds => scene(room, 1, 3, 2),
        Attack::SwapAttempt => scene(room, 2, 1, 2),
        Attack::SwapPeers => {
            let binding =
                Binding { transport: ConnectionKind::Webrtc, client: [1; 32], worker: [2; 32] };
            let id = |text: &str| text.parse().unwrap();
            Scene::new(&room.id.parse().unwrap(), 1, &id("client"), &id("worker-2"), binding)
        }
        _ => honest.clone(),
    };
    (honest, at_worker)
}
