//! Pairing: two devices that share a short code agree on a key and introduce each other.
//!
//! A worker makes a [`Code`] and shows it; a person types it on another device. Four messages
//! travel through a mailbox of the signaling server, which learns nothing from them:
//!
//! ```text
//! joiner  ── SPAKE2 ──▶                                  worker
//!         ◀── SPAKE2 ──
//!         ── confirmation, sealed introduction ──▶       the code is spent here, right or wrong
//!         ◀── confirmation, sealed reply ──
//! ```
//!
//! Each step consumes the state before it, so a code is tested once at most. `docs/security.md`
//! has the exact bytes.
//!
//! ```
//! use sleap_rtc_trust::certificate::MemberRole;
//! use sleap_rtc_trust::device::DeviceKey;
//! use sleap_rtc_trust::pairing::{Code, Introduction, Invitation, Joining, Reply};
//!
//! let mut random = rand::rng();
//! let invitation = Invitation::new(Code::new(4.try_into()?, &mut random));
//! let typed: Code = invitation.code().to_string().parse()?;
//! let introduction = Introduction {
//!     device: DeviceKey::from_bytes([1; 32]).id(),
//!     name: "ada@laptop".parse()?,
//!     role: MemberRole::Client,
//! };
//!
//! let (joining, first) = Joining::start(&typed, &mut random);
//! let (answered, second) = invitation.answer(&first, &mut random)?;
//! let (introduced, third) = joining.introduce(&second, &introduction)?;
//! let met = answered.receive(&third)?;
//! assert_eq!(met.introduction, introduction);
//! let (words, reply) = (met.words, Reply::OnlyFor(MemberRole::Worker));
//! assert_eq!(introduced.conclude(&met.reply(&reply)?)?, (reply, words));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod code;
mod exchange;
mod joiner;
mod keys;
mod payload;
#[cfg(test)]
mod tests;

pub use code::{Code, CodeError};
pub use exchange::{Answered, Introduced, Invitation, Joining, Met};
pub use joiner::{JOIN_LIMIT, JoinError, JoinStep, Joiner};
pub use keys::VerificationWords;
pub use payload::{Grant, Introduction, Reply};

/// The number of codes for one mailbox: two words from a list of 2048.
pub const CODES: u32 = 1 << 22;

/// Why two devices did not pair. Neither variant says how near a guess was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PairingError {
    /// Not a message that belongs here.
    #[error(
        "unexpected message: the other program has another version, or the message was changed on its way"
    )]
    Malformed,
    /// The keys differ: another code, or a message that was changed on its way.
    #[error("the other side does not prove that it knows this code")]
    NotConfirmed,
}
