//! Members that enter by their certificates, for as long as those count.

use super::*;
use crate::removal::{JobsLeft, Removal};

fn authority(room: &TestRoom) -> DeviceKey {
    room.part.authority_key().unwrap().clone()
}

pub(super) fn removal(
    room: &TestRoom,
    device: DeviceId,
    at_s: u64,
    token_number: u32,
) -> RemovalNote {
    let jobs = JobsLeft::Continue;
    RemovalNote::issue(&authority(room), Removal { at_s, token_number, jobs, device })
}

/// A client that has paired at `issued_s` and knows no secret of the room.
pub(super) fn paired(room: &TestRoom, seed: u8, issued_s: u64, until_s: Option<u64>) -> Identity {
    let subject = Subject::new(key(seed).id(), MemberRole::Client, "ada@laptop", issued_s);
    let certificate = Certificate::issue(&authority(room), subject.until(until_s));
    Identity::new(key(seed), room.part.for_members(), Some(certificate))
}

/// What each side says in the end; the worker lets in whom `admits` says.
fn meet(
    client: &Identity,
    worker: &Identity,
    admits: Admits,
) -> (Result<Proven, ProofError>, Option<Result<Proven, ProofError>>) {
    let room = room("room", 1);
    let (asking, hello) = ClientHandshake::begin(client.clone(), scene(&room, 1, 1, 2), [5; 32]);
    let (answering, answer) =
        WorkerHandshake::answer(worker.clone(), scene(&room, 1, 1, 2), &hello, [6; 32]);
    match asking.conclude(&answer, NOW_S) {
        Ok((proof, proven)) => (Ok(proven), Some(answering.conclude(&proof, admits, NOW_S))),
        Err(error) => (Err(error), None),
    }
}

fn at_worker(
    client: &Identity,
    worker: &Identity,
    admits: Admits,
) -> Result<Certification, ProofError> {
    let (at_client, at_worker) = meet(client, worker, admits);
    at_client.unwrap();
    at_worker.unwrap().map(|proven| proven.certification)
}

#[test]
fn a_member_needs_no_secret_and_tells_worker_from_stranger() {
    let room = room("room", 1);
    let member = paired(&room, 7, NOW_S, None);
    let (worker, client) = meet(&member, &room.worker, Admits::Members);
    assert_eq!(worker.unwrap().certification, Certification::Certified);
    let client = client.unwrap().unwrap();
    assert_eq!(
        (client.certification, client.name.as_str()),
        (Certification::Certified, "ada@laptop")
    );
    assert!(client.certificate.is_some());
    // Nobody certifies this one: the user decides.
    let fake = Identity::new(key(66), room.part.for_clients(), None);
    assert_eq!(
        meet(&member, &fake, Admits::Members).0.unwrap().certification,
        Certification::Uncertified
    );
    let other = self::room("other", 100);
    let error = meet(&member, &other.worker, Admits::Members).0.unwrap_err();
    assert_eq!(error, ProofError::Certificate(CertificateError::Authority));
}

#[test]
fn an_expired_member_is_refused_and_returns_to_its_jobs() {
    let room = room("room", 1);
    let member = paired(&room, 7, NOW_S - 10, Some(NOW_S - 1));
    let expired = ProofError::Certificate(CertificateError::Expired);
    assert_eq!(at_worker(&member, &room.worker, Admits::Members), Err(expired));
    assert_eq!(at_worker(&member, &room.worker, Admits::JobHolders), Ok(Certification::JobHolder));
    let last_day = paired(&room, 7, NOW_S - 10, Some(NOW_S));
    assert_eq!(at_worker(&last_day, &room.worker, Admits::Members), Ok(Certification::Certified));
}

#[test]
fn a_removed_member_is_refused_everything_until_it_pairs_again() {
    let room = room("room", 1);
    let removals =
        Removals::of(&room.part.authority(), &[removal(&room, key(7).id(), NOW_S - 5, 1)]);
    let worker = room.worker.clone().knowing(removals);
    for admits in [Admits::Members, Admits::JobHolders] {
        for before in [paired(&room, 7, NOW_S - 10, None), paired(&room, 7, NOW_S - 5, None)] {
            assert_eq!(at_worker(&before, &worker, admits), Err(ProofError::Removed));
        }
        // The device alone, with whatever it has of the room.
        let by_token = Identity::new(key(7), room.part.for_clients(), None);
        assert_eq!(at_worker(&by_token, &worker, admits), Err(ProofError::Removed));
    }
    let again = paired(&room, 7, NOW_S - 4, None);
    assert_eq!(at_worker(&again, &worker, Admits::Members), Ok(Certification::Certified));
}

#[test]
fn an_old_token_opens_nothing_and_is_called_what_it_is() {
    let room = room("room", 1);
    let removals = Removals::of(&room.part.authority(), &[removal(&room, key(7).id(), NOW_S, 2)]);
    let worker = room.worker.clone().knowing(removals.clone());
    let holder = |number| Identity::new(key(8), room.part.renewed(number).for_clients(), None);
    for old in [holder(0), holder(1)] {
        let refused = at_worker(&old, &worker, Admits::Members);
        assert_eq!(refused, Err(ProofError::OldToken));
        assert_eq!(at_worker(&old, &worker, Admits::JobHolders), Ok(Certification::JobHolder));
    }
    assert_eq!(at_worker(&holder(2), &worker, Admits::Members), Ok(Certification::Uncertified));
    let stranger = paired(&self::room("other", 100), 8, NOW_S, None);
    let stranger = Identity { certificate: None, peer: room.part.for_members(), ..stranger };
    assert_eq!(at_worker(&stranger, &worker, Admits::Members), Err(ProofError::NoMember));
    // A worker without the authority cannot tell the new token from the old one, and takes neither.
    let uncertified = Identity::new(key(2), room.part.for_clients(), None).knowing(removals);
    assert_eq!(at_worker(&holder(0), &uncertified, Admits::Members), Err(ProofError::OldToken));
}

#[test]
fn each_side_tells_the_other_whom_it_knows_to_be_removed() {
    let room = room("room", 1);
    let authority = room.part.authority();
    let [eve, bob] = [7, 8].map(|seed| removal(&room, key(seed).id(), NOW_S, 1));
    let worker = room.worker.clone().knowing(Removals::of(&authority, &[eve]));
    let client = paired(&room, 9, NOW_S, None).knowing(Removals::of(&authority, &[bob]));
    let (at_client, at_worker) = meet(&client, &worker, Admits::Members);
    assert_eq!(at_client.unwrap().news, [eve]);
    assert_eq!(at_worker.unwrap().unwrap().news, [bob]);
    // What the client brings counts at once, also against itself.
    let of_client = removal(&room, key(9).id(), NOW_S, 1);
    let client = client.knowing(Removals::of(&authority, &[of_client]));
    let (_, at_worker) = meet(&client, &room.worker, Admits::Members);
    assert_eq!(at_worker.unwrap(), Err(ProofError::Removed));
}

#[test]
fn nobody_else_removes_a_member() {
    let room = room("room", 1);
    let other = self::room("other", 100);
    let forged = removal(&other, key(9).id(), NOW_S, 9);
    let client = paired(&room, 9, NOW_S, None);
    let scenes = (scene(&room, 1, 1, 2), scene(&room, 1, 1, 2));
    let (at_client, at_worker) = converse(
        &client,
        &room.worker,
        scenes,
        (5, 6),
        |_, hello| WorkerHello { removals: vec![forged], ..hello },
        |proof| ClientProof { removals: vec![forged], ..proof },
    );
    assert!(at_client.unwrap().news.is_empty());
    let at_worker = at_worker.unwrap().unwrap();
    assert!(at_worker.news.is_empty() && at_worker.certification == Certification::Certified);
}
