//! Honest devices, guesses, and a server that changes what it passes on.

use super::*;
use crate::certificate::{Certificate, MemberRole, Subject};
use crate::credential::{Credential, PeerPart, RoomToken};
use crate::device::DeviceKey;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sleap_rtc_protocol::ids::Token;
use sleap_rtc_protocol::pairing::MailboxNumber;

/// Guesses in every run; [`a_million_guesses`] makes more of them by hand.
const GUESSES: u32 = 2_000;
const MILLION: u32 = 1_000_000;

fn code(text: &str) -> Code {
    text.parse().unwrap()
}

fn introduction() -> Introduction {
    let device = DeviceKey::from_bytes([1; 32]).id();
    Introduction { device, name: "ada@laptop".parse().unwrap(), role: MemberRole::Client }
}

fn granted() -> Reply {
    let (peer, device) = (PeerPart::from_random([7; 48]), introduction().device);
    let subject = Subject::new(device, MemberRole::Client, "ada@laptop", 1_000);
    let certificate = peer.authority_key().map(|key| Certificate::issue(key, subject));
    let token = RoomToken::new(Token::new("t0ken").unwrap(), peer).unwrap().for_clients();
    Reply::Granted(Box::new(Grant {
        room: Credential { room_id: "room".parse().unwrap(), token },
        room_name: "northlab".parse().unwrap(),
        worker: "peer-1".parse().unwrap(),
        worker_name: "gpu2".parse().unwrap(),
        worker_device: Some(DeviceKey::from_bytes([2; 32]).id()),
        certificate,
    }))
}

type Worked = Result<(Reply, VerificationWords), PairingError>;

/// Two devices pair, one with each code, while `between` may change each of the four messages.
fn pair(
    shown: Code,
    typed: &Code,
    random: &mut StdRng,
    mut between: impl FnMut(usize, Vec<u8>) -> Vec<u8>,
) -> (Result<Introduction, PairingError>, Worked) {
    let (joining, first) = Joining::start(typed, random);
    let answered = Invitation::new(shown).answer(&between(0, first), random);
    let (answered, second) = match answered {
        Ok(answered) => answered,
        Err(error) => return (Err(error), Err(error)),
    };
    let introduced = joining.introduce(&between(1, second), &introduction());
    let (introduced, third) = match introduced {
        Ok(introduced) => introduced,
        Err(error) => return (Err(error), Err(error)),
    };
    let met = match answered.receive(&between(2, third)) {
        Ok(met) => met,
        Err(error) => return (Err(error), Err(error)),
    };
    let (heard, words) = (met.introduction.clone(), met.words);
    let fourth = between(3, met.reply(&granted()).unwrap());
    let concluded = introduced.conclude(&fourth);
    if let Ok((_, shown)) = &concluded {
        assert_eq!(*shown, words);
    }
    (Ok(heard), concluded)
}

#[test]
fn two_devices_with_one_code_meet() {
    let mut random = StdRng::seed_from_u64(1);
    let shown = Code::new(MailboxNumber::try_from(4).unwrap(), &mut random);
    let typed = code(&format!(" {} ", shown.to_string().to_uppercase().replace('-', "  ")));
    let (heard, concluded) = pair(shown, &typed, &mut random, |_, message| message);
    assert_eq!(heard, Ok(introduction()));
    let (reply, words) = concluded.unwrap();
    assert_eq!(reply, granted());
    assert_eq!(words.to_string().split(' ').count(), 6);
}

#[test]
fn a_wrong_word_or_number_is_refused_in_the_same_way() {
    let mut random = StdRng::seed_from_u64(2);
    for typed in ["4-harbor-violin", "4-violin-harbor", "4-harbor-zebra", "4-abandon-abandon"] {
        let shown = code("4-harbor-maple");
        let (heard, _) = pair(shown, &code(typed), &mut random, |_, message| message);
        assert_eq!(heard, Err(PairingError::NotConfirmed), "{typed}");
    }
    let (heard, _) = pair(code("5-kite-onion"), &code("4-kite-onion"), &mut random, |_, m| m);
    assert_eq!(heard, Err(PairingError::NotConfirmed));
}

#[test]
fn what_is_typed_wrongly_is_said_before_anything_is_tried() {
    for (typed, said) in [
        ("", "a number and two words"),
        ("harbor-violin", "a number and two words"),
        ("0-harbor-violin", "a number and two words"),
        ("4-harbor-violin-kite", "a number and two words"),
        ("10000-harbor-violin", "a number and two words"),
        ("4-harbour-violin", "the word \"harbour\"; is it \"harbor\"?"),
        ("4-harbor-violine", "is it \"violin\"?"),
        ("4-harbor-xylo", "the word \"xylo\""),
    ] {
        let error = typed.parse::<Code>().unwrap_err().to_string();
        assert!(error.contains(said), "{typed}: {error}");
    }
    assert_eq!(format!("{:?}", code("4-harbor-violin")), "Code(4, redacted)");
}

#[test]
fn messages_cannot_be_sent_back_or_sent_again() {
    let mut random = StdRng::seed_from_u64(3);
    let shown = || code("4-harbor-violin");
    let mut recorded: Vec<Vec<u8>> = Vec::new();
    let honest = pair(shown(), &shown(), &mut random, |_, message| {
        recorded.push(message.clone());
        message
    });
    assert!(honest.1.is_ok());
    for replaced in 0..4 {
        // The same message of an earlier pairing with the same code.
        let (heard, concluded) = pair(shown(), &shown(), &mut random, |at, message| {
            if at == replaced { recorded[at].clone() } else { message }
        });
        assert!(heard.is_err() || concluded.is_err(), "{replaced}");
        // Each message in the place of each other one.
        for other in (0..4).filter(|other| *other != replaced) {
            let (heard, concluded) = pair(shown(), &shown(), &mut random, |at, message| {
                if at == replaced { recorded[other].clone() } else { message }
            });
            assert!(heard.is_err() || concluded.is_err(), "{replaced} {other}");
        }
    }
    // The joiner's own confirmation, sent back as the worker's.
    let mut third = Vec::new();
    let (_, concluded) = pair(shown(), &shown(), &mut random, |at, message| match at {
        2 => {
            third.clone_from(&message);
            message
        }
        3 => third.clone(),
        _ => message,
    });
    assert_eq!(concluded.unwrap_err(), PairingError::NotConfirmed);
}

#[test]
fn a_code_survives_a_device_that_leaves_without_a_proof() {
    let mut random = StdRng::seed_from_u64(4);
    let (_, first) = Joining::start(&code("4-kite-kite"), &mut random);
    let invitation = Invitation::new(code("4-harbor-violin"));
    let (answered, _) = invitation.answer(&first, &mut random).unwrap();
    assert_eq!(answered.abandon().code(), &code("4-harbor-violin"));
}

/// What was recorded once, so that programs of other versions and languages agree.
#[test]
fn keys_are_those_of_the_documentation() {
    let keys = keys::Keys::new(&[0x42; 32]);
    let message = keys.seal(keys::Party::Joiner, b"hello").unwrap();
    let confirmation = "63519b6c1d93f136a959fc1652c21084977fe1baa72b8df7f5a2a5b46970d47a";
    let sealed = "33b9e15b901e57b7acdce12dd390301fc32d8d1a7e";
    assert_eq!(hex::encode(&message), format!("{confirmation}{sealed}"));
    assert_eq!(keys.words().to_string(), "nephew decide burden anger chase asthma");
}

/// Guesses by somebody who knows the mailbox and every word, each at a new code. Of codes with the
/// words of a short list, so that some of the guesses are right.
fn guess(guesses: u32, words: u32, seed: u64) -> u32 {
    let mut random = StdRng::seed_from_u64(seed);
    let list = &bip39::Language::English.word_list()[..words as usize];
    let draw = |random: &mut StdRng| {
        let [first, second] = [(); 2].map(|()| list[random.random_range(..list.len())]);
        code(&format!("4-{first}-{second}"))
    };
    let mut right = 0;
    for _ in 0..guesses {
        let (shown, typed) = (draw(&mut random), draw(&mut random));
        let is_right = shown == typed;
        let (joining, first) = Joining::start(&typed, &mut random);
        let (answered, second) = Invitation::new(shown).answer(&first, &mut random).unwrap();
        let (_, third) = joining.introduce(&second, &introduction()).unwrap();
        let met = answered.receive(&third);
        assert_eq!(met.is_ok(), is_right);
        assert!(is_right || matches!(met, Err(PairingError::NotConfirmed)));
        right += u32::from(is_right);
    }
    right
}

#[test]
fn a_guess_is_right_as_often_as_chance_has_it() {
    // One in 64: 31 of 2,000 on average, with a standard deviation of 5.5.
    let right = guess(GUESSES, 8, 5);
    assert!((5..=60).contains(&right), "{right}");
}

#[test]
#[ignore = "takes minutes"]
fn a_million_guesses() {
    // One in 4,194,304.
    const SEEDS: [u64; 8] = [6, 7, 8, 9, 10, 11, 12, 13];
    let right: u32 = std::thread::scope(|scope| {
        let part = |seed| scope.spawn(move || guess(MILLION / SEEDS.len() as u32, 2048, seed));
        let parts = SEEDS.map(part);
        parts.into_iter().map(|part| part.join().unwrap()).sum()
    });
    println!(
        "{right} of {MILLION} guesses were right; {} on average",
        MILLION as f64 / CODES as f64
    );
    assert!(right <= 5, "{right}");
}

proptest! {
    /// A server that changes one bit of one message, or cuts it, or adds to it, gets nothing accepted
    /// on the side that the message was for.
    #[test]
    fn a_changed_message_is_refused(seed: u64, which in 0..4_usize, at: usize, change in 0..10_u8) {
        let mut random = StdRng::seed_from_u64(seed);
        let shown = code("4-harbor-violin");
        let (heard, concluded) = pair(shown.clone(), &shown, &mut random, |message, mut bytes| {
            if message == which {
                let at = at % bytes.len();
                match change {
                    8 => bytes.truncate(at),
                    9 => bytes.insert(at, 0),
                    bit => bytes[at] ^= 1 << bit,
                }
            }
            bytes
        });
        prop_assert!(concluded.is_err());
        prop_assert_eq!(heard.is_ok(), which == 3);
    }

    #[test]
    fn any_code_survives_speaking_and_typing(seed: u64, mailbox in 1..=9999_u16) {
        let mut random = StdRng::seed_from_u64(seed);
        let shown = Code::new(MailboxNumber::try_from(mailbox).unwrap(), &mut random);
        prop_assert_eq!(code(&shown.to_string()), shown);
    }

    #[test]
    fn any_text_is_a_code_or_none(text in "\\PC{0,40}") {
        let _ = text.parse::<Code>();
    }
}
