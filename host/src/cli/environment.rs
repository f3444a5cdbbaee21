//! The parts of the process's environment that affect options, as values that tests can set.

use super::exit::Failure;
#[cfg(feature = "client")]
use super::known_rooms::KnownRooms;
use crate::config::Sources;
use sleap_rtc_protocol::ids::RoomId;
use sleap_rtc_trust::credential::{Credential, RoomToken};
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::PathBuf;
use std::str::FromStr;

/// The longest line that is read in place of a secret option.
const MAX_SECRET_LINE_BYTES: u64 = 4096;

/// The environment of one invocation.
pub(crate) struct Environment {
    /// `SLEAP_RTC_TOKEN`.
    pub(crate) token: Option<SecretText>,
    /// `SLEAP_RTC_LOG`.
    pub(crate) log: Option<String>,
    /// Whether a user can answer a prompt.
    pub(crate) stdin_is_terminal: bool,
    /// Standard input.
    pub(crate) stdin: Box<dyn BufRead>,
    /// The sources of the configuration, given `--config`.
    pub(crate) sources: fn(Option<PathBuf>) -> Sources,
    /// The rooms with which this device has paired, once the sources are known.
    #[cfg(feature = "client")]
    pub(crate) rooms: KnownRooms,
}

impl Environment {
    pub(crate) fn from_process() -> Self {
        let text = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            token: text("SLEAP_RTC_TOKEN").map(SecretText),
            log: text("SLEAP_RTC_LOG"),
            stdin_is_terminal: std::io::stdin().is_terminal(),
            stdin: Box::new(Unbuffered::stdin()),
            sources: Sources::from_process,
            #[cfg(feature = "client")]
            rooms: KnownRooms::default(),
        }
    }

    /// Where the rooms are with which this device has paired. They are read when they are needed.
    #[cfg_attr(not(feature = "client"), allow(unused_variables, reason = "clients have rooms"))]
    pub(crate) fn look_for_rooms_in(&mut self, sources: &Sources) {
        #[cfg(feature = "client")]
        {
            self.rooms = KnownRooms::new(sources.clone());
        }
    }

    /// Parses the room id and the token; the token `-` is read from standard input.
    pub(crate) fn credentials(
        &mut self,
        room_id: &str,
        token: SecretText,
    ) -> Result<Credential, Failure> {
        let room_id =
            RoomId::new(room_id).map_err(|error| Failure::usage(format!("--room-id: {error}")))?;
        let text = match token.0.as_str() {
            "-" => self.read_secret("Token: ", "--token -", "the room's token")?,
            _ => token.0,
        };
        let token = text.trim().parse::<RoomToken>();
        let token = token.map_err(|error| Failure::usage(format!("--token: {error}")))?;
        Ok(Credential { room_id, token })
    }

    /// The first line of standard input, in place of `option`. On a terminal, `prompt` asks for it.
    pub(crate) fn read_secret(
        &mut self,
        prompt: &str,
        option: &str,
        what: &str,
    ) -> Result<String, Failure> {
        if self.stdin_is_terminal {
            super::print::error(prompt);
        }
        let mut line = String::new();
        let read = (&mut self.stdin).take(MAX_SECRET_LINE_BYTES).read_line(&mut line);
        read.map_err(|error| {
            Failure::usage(format!("{option}: cannot read standard input: {error}"))
        })?;
        if line.trim().is_empty() {
            return Err(Failure::usage(format!(
                "{option}: the first line of standard input is empty; expected {what}"
            )));
        }
        Ok(line)
    }
}

/// Standard input without a buffer, so that the lines after the token remain for the prompt.
struct Unbuffered;

impl Unbuffered {
    fn stdin() -> impl BufRead {
        BufReader::with_capacity(1, Self)
    }
}

impl Read for Unbuffered {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        std::io::stdin().read(buffer)
    }
}

/// A secret from the command line. It has no `Display`, so that help and errors cannot show it.
#[derive(Clone)]
pub(crate) struct SecretText(pub(crate) String);

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretText(redacted)")
    }
}

impl FromStr for SecretText {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}
