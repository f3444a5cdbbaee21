//! The joining device from the typed code to the grant, for whatever carries the parcels.

use super::exchange::{Introduced, Joining};
use super::keys::VerificationWords;
use super::payload::{Grant, Introduction, Reply};
use super::{Code, PairingError};
use crate::certificate::MemberRole;
use rand_core::CryptoRng;
use sleap_rtc_protocol::pairing::MailboxNumber;
use std::time::Duration;

/// How long joining may take, from the connection to the server to the worker's reply. Nobody types
/// anything in this time.
pub const JOIN_LIMIT: Duration = Duration::from_secs(10);

/// Why a device did not join.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// Nobody waits for that code.
    #[error(
        "no worker waits for a code that begins with {0}: the code was used, has expired, or is that of \
         another signaling server"
    )]
    Nobody(MailboxNumber),
    /// The worker went away before a code was tried.
    #[error("the worker closed the connection before the code was checked")]
    Ended,
    /// The worker went away after it had seen this side's proof.
    #[error(
        "the worker does not accept this code: one of its words is wrong, or something between the two \
         devices interferes"
    )]
    NotAccepted,
    /// The code is for the other role.
    #[error("this code is for a {expected}, not for a {wanted}")]
    Role {
        /// What the code was made for.
        expected: MemberRole,
        /// What this device wants to be.
        wanted: MemberRole,
    },
    /// Something that is not the worker answers, or changes what it answers.
    #[error("pairing failed: {0}")]
    Protocol(#[from] PairingError),
    /// No end in time.
    #[error("pairing did not end within {} s", JOIN_LIMIT.as_secs())]
    Late,
}

impl JoinError {
    /// What a user can do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Nobody(_) => {
                "for a new code, run `sleap-rtc room invite` on the worker's machine"
            }
            Self::NotAccepted | Self::Protocol(_) => {
                "this code is spent; type the new one that the worker shows, or run `sleap-rtc room \
                 invite` there"
            }
            Self::Role { expected: MemberRole::Client, .. } => {
                "on the worker's machine, `sleap-rtc room invite --worker` makes a code for a worker"
            }
            Self::Role { expected: MemberRole::Worker, .. } => {
                "on the worker's machine, `sleap-rtc room invite` makes a code for a laptop"
            }
            Self::Ended | Self::Late => {
                "try again; for a new code, run `sleap-rtc room invite` on the worker's machine"
            }
        }
    }
}

/// A device that joins, and waits for a parcel of the worker.
#[derive(Debug)]
pub struct Joiner(State);

#[derive(Debug)]
enum State {
    Asking(Joining, Introduction),
    Introduced(Introduced, MemberRole),
}

/// What a device that joins does next.
#[derive(Debug)]
pub enum JoinStep {
    /// Sends the parcel, then waits for the answer.
    Send(Joiner, Vec<u8>),
    /// Nothing: it is in. Both devices can show the words.
    Joined(Box<Grant>, VerificationWords),
}

impl Joiner {
    /// Begins, with a first parcel.
    pub fn start(
        code: &Code,
        introduction: Introduction,
        random: &mut impl CryptoRng,
    ) -> (Self, Vec<u8>) {
        let (joining, first) = Joining::start(code, random);
        (Self(State::Asking(joining, introduction)), first)
    }

    /// Takes the answer to the last parcel. `None` when the other device is gone.
    ///
    /// # Errors
    /// The other device is gone, does not know the code, or refuses.
    pub fn take(self, answer: Option<&[u8]>) -> Result<JoinStep, JoinError> {
        match self.0 {
            State::Asking(joining, introduction) => {
                let second = answer.ok_or(JoinError::Ended)?;
                let (introduced, third) = joining.introduce(second, &introduction)?;
                let next = Self(State::Introduced(introduced, introduction.role));
                Ok(JoinStep::Send(next, third))
            }
            State::Introduced(introduced, wanted) => {
                let fourth = answer.ok_or(JoinError::NotAccepted)?;
                match introduced.conclude(fourth)? {
                    (Reply::Granted(grant), words) => Ok(JoinStep::Joined(grant, words)),
                    (Reply::OnlyFor(expected), _) => Err(JoinError::Role { expected, wanted }),
                }
            }
        }
    }
}
