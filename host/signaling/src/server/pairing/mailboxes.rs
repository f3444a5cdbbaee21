//! The open mailboxes, and who may join them. Pure: time and random numbers are arguments.

use rand::RngExt;
use sleap_rtc_protocol::pairing::{MailboxErrorCode, MailboxNumber, Parcel};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;
use tokio::sync::mpsc;

/// The most open mailboxes: fewer than half of all numbers.
const MAX_MAILBOXES: usize = 4096;
/// How many devices may join one mailbox, one after the other. Each may be a guess.
const MAX_TRIES: u32 = 5;

/// A message from one socket to the other.
#[derive(Debug)]
pub(crate) enum Delivery {
    /// Another device has joined; this is the link to it.
    Joined(mpsc::Sender<Delivery>),
    Parcel(Parcel),
    /// The joined device has left.
    Left,
    /// No further device may join.
    TriedTooOften,
}

#[derive(Debug)]
struct OpenMailbox {
    owner: mpsc::Sender<Delivery>,
    expires: Instant,
    tries: u32,
    occupied: bool,
}

/// The open mailboxes.
#[derive(Debug, Default)]
pub(crate) struct Mailboxes {
    open: BTreeMap<MailboxNumber, OpenMailbox>,
}

impl Mailboxes {
    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.open.len()
    }

    /// The numbers of those that are open.
    pub(crate) fn numbers(&self) -> Vec<MailboxNumber> {
        self.open.keys().copied().collect()
    }

    /// Opens a mailbox whose owner is reached by `owner`, until it is closed or `expires`. Its number is
    /// none of those that are `taken` at other servers.
    pub(crate) fn open(
        &mut self,
        owner: mpsc::Sender<Delivery>,
        expires: Instant,
        taken: &BTreeSet<MailboxNumber>,
        random: &mut impl RngExt,
    ) -> Result<MailboxNumber, MailboxErrorCode> {
        let number = self.free_number(taken, random).ok_or(MailboxErrorCode::Full)?;
        self.open.insert(number, OpenMailbox { owner, expires, tries: 0, occupied: false });
        Ok(number)
    }

    /// A free number, as short as possible. It is random, so that a code typed too late does not
    /// reach the mailbox of another user.
    fn free_number(
        &self,
        taken: &BTreeSet<MailboxNumber>,
        random: &mut impl RngExt,
    ) -> Option<MailboxNumber> {
        if self.open.len() >= MAX_MAILBOXES {
            return None;
        }
        let lengths = [1..=9, 10..=99, 100..=999, 1000..=MailboxNumber::MAX];
        lengths.into_iter().find_map(|numbers| {
            let all = numbers.len();
            let numbers = numbers.filter_map(|number| MailboxNumber::try_from(number).ok());
            let is_free =
                |number: &MailboxNumber| !self.open.contains_key(number) && !taken.contains(number);
            let free: Vec<_> = numbers.filter(is_free).collect();
            (free.len() > all / 2).then(|| free[random.random_range(..free.len())])
        })
    }

    /// Joins a mailbox and announces `joiner` to its owner. Returns the link to the owner.
    pub(crate) fn join(
        &mut self,
        number: MailboxNumber,
        joiner: mpsc::Sender<Delivery>,
        now: Instant,
    ) -> Result<mpsc::Sender<Delivery>, MailboxErrorCode> {
        let mailbox = self.open.get_mut(&number).ok_or(MailboxErrorCode::NoMailbox)?;
        if mailbox.expires <= now {
            return Err(MailboxErrorCode::NoMailbox);
        }
        if mailbox.occupied {
            return Err(MailboxErrorCode::Occupied);
        }
        if mailbox.tries >= MAX_TRIES {
            // An owner with a full queue does not read, so its socket is closed.
            let _ = mailbox.owner.try_send(Delivery::TriedTooOften);
            return Err(MailboxErrorCode::TooManyTries);
        }
        let told = mailbox.owner.try_send(Delivery::Joined(joiner));
        told.map_err(|_| MailboxErrorCode::NoMailbox)?;
        mailbox.tries += 1;
        mailbox.occupied = true;
        Ok(mailbox.owner.clone())
    }

    /// The joined device has left.
    pub(crate) fn leave(&mut self, number: MailboxNumber, owner: &mpsc::Sender<Delivery>) {
        let mailbox = self.open.get_mut(&number);
        // The number may belong to another mailbox by now.
        if let Some(mailbox) = mailbox.filter(|mailbox| mailbox.owner.same_channel(owner)) {
            mailbox.occupied = false;
            let _ = mailbox.owner.try_send(Delivery::Left);
        }
    }

    /// Closes the mailbox of an owner that has left, and frees its number.
    pub(crate) fn close(&mut self, number: MailboxNumber) {
        self.open.remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const NONE: BTreeSet<MailboxNumber> = BTreeSet::new();

    fn sender() -> (mpsc::Sender<Delivery>, mpsc::Receiver<Delivery>) {
        mpsc::channel(16)
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(600)
    }

    #[test]
    fn numbers_are_short_differ_and_come_back() {
        let (mut mailboxes, mut random) = (Mailboxes::default(), rand::rng());
        let (owner, _inbox) = sender();
        let mut numbers = BTreeSet::new();
        while let Ok(number) = mailboxes.open(owner.clone(), later(), &NONE, &mut random) {
            assert!(numbers.insert(number));
        }
        assert_eq!((numbers.len(), mailboxes.count()), (MAX_MAILBOXES, MAX_MAILBOXES));
        let of_one_digit = numbers.iter().filter(|number| u16::from(**number) < 10).count();
        assert!((4..=5).contains(&of_one_digit), "{of_one_digit}");
        numbers.iter().for_each(|number| mailboxes.close(*number));
        let number = mailboxes.open(owner, later(), &NONE, &mut random).unwrap();
        assert!(u16::from(number) < 10);
    }

    #[test]
    fn the_number_of_another_servers_mailbox_is_not_given() {
        let mut mailboxes = Mailboxes::default();
        let taken: BTreeSet<_> =
            (1..=9).filter(|n| *n != 4).filter_map(|n| MailboxNumber::try_from(n).ok()).collect();
        for _ in 0..20 {
            let number = mailboxes.open(sender().0, later(), &taken, &mut rand::rng()).unwrap();
            assert!(!taken.contains(&number));
            mailboxes.close(number);
        }
    }

    #[test]
    fn one_device_joins_at_a_time_and_not_too_often() {
        let mut mailboxes = Mailboxes::default();
        let (owner, mut inbox) = sender();
        let number = mailboxes.open(owner, later(), &NONE, &mut rand::rng()).unwrap();
        let join = |mailboxes: &mut Mailboxes| mailboxes.join(number, sender().0, Instant::now());
        for _ in 0..MAX_TRIES {
            let to_owner = join(&mut mailboxes).unwrap();
            assert_eq!(join(&mut mailboxes).unwrap_err(), MailboxErrorCode::Occupied);
            mailboxes.leave(number, &to_owner);
            assert!(matches!(inbox.try_recv(), Ok(Delivery::Joined(_))));
            assert!(matches!(inbox.try_recv(), Ok(Delivery::Left)));
        }
        assert_eq!(join(&mut mailboxes).unwrap_err(), MailboxErrorCode::TooManyTries);
        assert!(matches!(inbox.try_recv(), Ok(Delivery::TriedTooOften)));
    }

    #[test]
    fn a_mailbox_that_is_over_or_another_is_not_joined() {
        let mut mailboxes = Mailboxes::default();
        let ((first, _first_inbox), (second, _second_inbox)) = (sender(), sender());
        let number = mailboxes.open(first, later(), &NONE, &mut rand::rng()).unwrap();
        let late = mailboxes.join(number, sender().0, later() + Duration::from_secs(1));
        assert_eq!(late.unwrap_err(), MailboxErrorCode::NoMailbox);
        let to_first = mailboxes.join(number, sender().0, Instant::now()).unwrap();
        mailboxes.close(number);
        let gone = mailboxes.join(number, sender().0, Instant::now());
        assert_eq!(gone.unwrap_err(), MailboxErrorCode::NoMailbox);
        mailboxes.open.insert(
            number,
            OpenMailbox { owner: second, expires: later(), tries: 1, occupied: true },
        );
        mailboxes.leave(number, &to_first);
        assert!(mailboxes.open[&number].occupied);
    }

    proptest! {
        /// After any sequence of events, no mailbox has two joined devices, or more attempts than
        /// allowed.
        #[test]
        fn bounds_hold_in_any_order(steps in prop::collection::vec((0..4_u8, 0..6_usize), 1..200)) {
            let (mut mailboxes, mut random) = (Mailboxes::default(), rand::rng());
            let mut open: Vec<(MailboxNumber, mpsc::Receiver<Delivery>)> = Vec::new();
            let mut inside: Vec<(MailboxNumber, mpsc::Sender<Delivery>)> = Vec::new();
            for (step, which) in steps {
                match step {
                    0 => {
                        let (owner, inbox) = mpsc::channel(64);
                        let number = mailboxes.open(owner, later(), &NONE, &mut random).unwrap();
                        open.push((number, inbox));
                    }
                    1 if which < open.len() => {
                        let number = open[which].0;
                        if let Ok(owner) = mailboxes.join(number, sender().0, Instant::now()) {
                            prop_assert!(inside.iter().all(|(other, _)| *other != number));
                            inside.push((number, owner));
                        }
                    }
                    2 if which < inside.len() => {
                        let (number, owner) = inside.swap_remove(which);
                        mailboxes.leave(number, &owner);
                    }
                    3 if which < open.len() => {
                        let (number, _) = open.swap_remove(which);
                        mailboxes.close(number);
                        inside.retain(|(other, _)| *other != number);
                    }
                    _ => {}
                }
                prop_assert_eq!(mailboxes.count(), open.len());
                prop_assert!(mailboxes.open.values().all(|mailbox| mailbox.tries <= MAX_TRIES));
            }
        }
    }
}
