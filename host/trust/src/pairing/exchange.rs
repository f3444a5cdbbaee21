//! The four messages. Each state is a type; a step consumes it and gives the next one.

use super::keys::{Keys, Party, VerificationWords};
use super::payload::{Introduction, Reply, decode, encode};
use super::{Code, PairingError};
use rand_core::CryptoRng;
use spake2::{Ed25519Group, Identity, Password, Spake2};
use std::fmt;

type Spake = Spake2<Ed25519Group>;

const JOINER: &[u8] = b"sleap-rtc pairing 1 joiner";
const WORKER: &[u8] = b"sleap-rtc pairing 1 worker";

fn identities() -> (Identity, Identity) {
    (Identity::new(JOINER), Identity::new(WORKER))
}

fn agree(spake: Spake, message: &[u8]) -> Result<Keys, PairingError> {
    let secret = spake.finish(message).map_err(|_| PairingError::Malformed)?;
    Ok(Keys::new(&secret))
}

/// The device on which a code was typed, before it has heard anything.
pub struct Joining(Spake);

impl Joining {
    /// Begins to pair with `code`. Returns the first message too.
    pub fn start(code: &Code, random: &mut impl CryptoRng) -> (Self, Vec<u8>) {
        let (password, (joiner, worker)) = (Password::new(code.password()), identities());
        let random = Older(random);
        let (spake, first) = Spake::start_a_with_rng(&password, &joiner, &worker, random);
        (Self(spake), first)
    }

    /// Takes the second message. Returns the third one, which proves that this side knows the code
    /// and holds the introduction for the worker alone.
    ///
    /// # Errors
    /// The message belongs elsewhere.
    pub fn introduce(
        self,
        second: &[u8],
        introduction: &Introduction,
    ) -> Result<(Introduced, Vec<u8>), PairingError> {
        let keys = agree(self.0, second)?;
        let third = keys.seal(Party::Joiner, &encode(introduction)?)?;
        Ok((Introduced(keys), third))
    }
}

/// The same device, which waits for the worker's reply.
pub struct Introduced(Keys);

impl Introduced {
    /// Takes the fourth message: the worker's reply, and the words that both devices can show.
    ///
    /// # Errors
    /// The worker does not know the code, or the message was changed.
    pub fn conclude(self, fourth: &[u8]) -> Result<(Reply, VerificationWords), PairingError> {
        let reply = decode(&self.0.open(Party::Worker, fourth)?)?;
        Ok((reply, self.0.words()))
    }
}

/// A code that a worker shows, which nobody has tried yet.
pub struct Invitation(Code);

impl Invitation {
    /// An invitation by that code.
    pub fn new(code: Code) -> Self {
        Self(code)
    }

    /// What to show.
    pub fn code(&self) -> &Code {
        &self.0
    }

    /// Takes the first message. Returns the second one, from which nobody learns anything about the
    /// code.
    ///
    /// # Errors
    /// The message belongs elsewhere. The code is spent.
    pub fn answer(
        self,
        first: &[u8],
        random: &mut impl CryptoRng,
    ) -> Result<(Answered, Vec<u8>), PairingError> {
        let (password, (joiner, worker)) = (Password::new(self.0.password()), identities());
        let random = Older(random);
        let (spake, second) = Spake::start_b_with_rng(&password, &joiner, &worker, random);
        Ok((Answered { invitation: self, keys: agree(spake, first)? }, second))
    }
}

/// A worker that waits for the proof that the other side knows the code.
pub struct Answered {
    invitation: Invitation,
    keys: Keys,
}

impl Answered {
    /// Takes the third message. The code is spent, whatever the message holds.
    ///
    /// # Errors
    /// The other side does not know the code, or the message was changed.
    pub fn receive(self, third: &[u8]) -> Result<Met, PairingError> {
        let introduction = decode(&self.keys.open(Party::Joiner, third)?)?;
        let words = self.keys.words();
        Ok(Met { introduction, words, keys: self.keys })
    }

    /// The other side left without a proof: nothing was tried, and the code is still good.
    pub fn abandon(self) -> Invitation {
        self.invitation
    }
}

/// A worker that has met another device.
pub struct Met {
    /// Who that is.
    pub introduction: Introduction,
    /// The words that both devices can show.
    pub words: VerificationWords,
    keys: Keys,
}

impl Met {
    /// The fourth message, which holds `reply` for the other device alone.
    ///
    /// # Errors
    /// The reply is too long to be sealed.
    pub fn reply(self, reply: &Reply) -> Result<Vec<u8>, PairingError> {
        self.keys.seal(Party::Worker, &encode(reply)?)
    }
}

macro_rules! hides_its_secret {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(redacted)"))
            }
        }
    )*};
}

hides_its_secret!(Joining, Introduced, Invitation, Answered, Met);

/// Adapts a random number generator to `rand_core` 0.6, which the crate `spake2` uses.
struct Older<'r, R>(&'r mut R);

impl<R: CryptoRng> rand_core_06::RngCore for Older<'_, R> {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core_06::Error> {
        self.0.fill_bytes(bytes);
        Ok(())
    }
}

impl<R: CryptoRng> rand_core_06::CryptoRng for Older<'_, R> {}
