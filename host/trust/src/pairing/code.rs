//! Codes that people read aloud and type: `4-harbor-violin`.

use bip39::Language;
use rand_core::CryptoRng;
use sleap_rtc_protocol::pairing::MailboxNumber;
use std::fmt;
use std::str::FromStr;

/// Any two words of the list differ within this many first letters.
const TELLING_LETTERS: usize = 4;
/// The longest word that an error repeats.
const MAX_QUOTED: usize = 24;

/// The number of a mailbox and two words. Its `Debug` hides the words.
#[derive(Clone, PartialEq, Eq)]
pub struct Code {
    mailbox: MailboxNumber,
    words: [&'static str; 2],
}

/// Why a text is not a code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// Not a number and two words.
    #[error("a pairing code is a number and two words, such as 4-harbor-violin")]
    Shape,
    /// A word that no code has.
    #[error("no pairing code has the word {word:?}{}", suggestion(.nearest))]
    Word {
        /// The word, as far as it is repeated.
        word: String,
        /// The word of the list that begins alike.
        nearest: Option<&'static str>,
    },
}

fn suggestion(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |word| format!("; is it {word:?}?"))
}

impl Code {
    /// A new code for the mailbox of that number.
    pub fn new(mailbox: MailboxNumber, random: &mut impl CryptoRng) -> Self {
        let list = Language::English.word_list();
        // The list's length is a power of two, so every word is as likely.
        let words = [(); 2].map(|()| list[random.next_u32() as usize % list.len()]);
        Self { mailbox, words }
    }

    /// Whether `text` looks like a code rather than like something else that opens a room: it has three
    /// parts, of which the first is the number of a mailbox.
    pub fn looks_like_one(text: &str) -> bool {
        !matches!(text.parse::<Self>(), Err(CodeError::Shape))
    }

    /// The mailbox through which to pair.
    pub fn mailbox(&self) -> MailboxNumber {
        self.mailbox
    }

    /// What both sides prove to know, as bytes.
    pub(crate) fn password(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = self.words;
        write!(f, "{}-{first}-{second}", self.mailbox)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({}, redacted)", self.mailbox)
    }
}

impl FromStr for Code {
    type Err = CodeError;

    /// Reads a code as people type it: in any case, with hyphens or spaces.
    fn from_str(text: &str) -> Result<Self, CodeError> {
        let is_gap = |c: char| c == '-' || c.is_whitespace();
        let mut parts = text.split(is_gap).filter(|part| !part.is_empty());
        let (Some(number), Some(first), Some(second), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(CodeError::Shape);
        };
        let number = number.parse::<u16>().ok().and_then(|number| number.try_into().ok());
        let mailbox = number.ok_or(CodeError::Shape)?;
        Ok(Self { mailbox, words: [word(first)?, word(second)?] })
    }
}

fn word(typed: &str) -> Result<&'static str, CodeError> {
    let list = Language::English.word_list();
    let lower = typed.to_lowercase();
    if let Ok(at) = list.binary_search(&lower.as_str()) {
        return Ok(list[at]);
    }
    let start: String = lower.chars().take(TELLING_LETTERS).collect();
    let nearest = list.iter().copied().find(|word| !start.is_empty() && word.starts_with(&start));
    Err(CodeError::Word { word: typed.chars().take(MAX_QUOTED).collect(), nearest })
}
