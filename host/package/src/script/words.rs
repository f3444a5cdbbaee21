//! The arguments of a trainer, one after the other.

use super::shell::Word;
use super::{Folder, LineFault, NamedPath, shortened};
use sleap_rtc_protocol::path::RelPath;

/// One argument of a trainer.
pub(crate) enum Argument {
    /// An option, with its value if it is written as `--name=value`.
    Option {
        name: String,
        inline: Option<String>,
    },
    Plain(String),
}

impl From<String> for Argument {
    fn from(word: String) -> Self {
        // Word processors turn hyphens into dashes.
        if !word.starts_with(['-', '–', '—']) {
            return Self::Plain(word);
        }
        match word.split_once('=').filter(|_| word.starts_with('-')) {
            Some((name, value)) => {
                Self::Option { name: name.to_owned(), inline: Some(value.to_owned()) }
            }
            None => Self::Option { name: word, inline: None },
        }
    }
}

/// The arguments of a trainer, one after the other.
pub(crate) struct Words<'a> {
    words: &'a [Word],
    /// The folder that paths start from.
    pub(crate) folder: &'a Folder,
    /// Sentences about the arguments that have no effect.
    pub(crate) remarks: Vec<String>,
}

impl<'a> Words<'a> {
    pub(crate) fn new(words: &'a [Word], folder: &'a Folder) -> Self {
        Self { words, folder, remarks: Vec::new() }
    }

    pub(crate) fn next(&mut self) -> Result<Option<String>, LineFault> {
        let Some((word, rest)) = self.words.split_first() else { return Ok(None) };
        self.words = rest;
        match &word.opaque {
            None => Ok(Some(word.text.clone())),
            // Paths start at the current folder, whatever its path on another machine is.
            Some(written) if self.folder.is_called(written) => {
                Ok(Some(word.text.replacen(written, ".", 1)))
            }
            Some(written) => Err(LineFault::Opaque(shortened(written))),
        }
    }

    pub(crate) fn next_argument(&mut self) -> Result<Option<Argument>, LineFault> {
        Ok(self.next()?.map(Argument::from))
    }

    pub(crate) fn needed(&mut self, what: &'static str) -> Result<String, LineFault> {
        self.next()?.ok_or(LineFault::Missing(what))
    }

    pub(crate) fn peek(&self) -> Option<&str> {
        self.words.first().map(|word| word.text.as_str())
    }

    /// A path in the package that a trainer can mistake neither for an option nor for an
    /// interpolation.
    pub(crate) fn place(&self, text: &str) -> Result<NamedPath, LineFault> {
        if text.starts_with('-') || text.contains("${") {
            return Err(LineFault::Unsafe(shortened(text)));
        }
        Ok(self.folder.place(text)?)
    }

    /// The path in the package that stands for `text`, where the job itself decides what lies outside.
    pub(crate) fn own_place(&mut self, text: &str) -> Result<RelPath, LineFault> {
        let place = self.place(text)?;
        if place.is_outside() {
            self.remark(format!("{} is used, not {}", place.path, shortened(text)));
        }
        Ok(place.path)
    }

    pub(crate) fn remark(&mut self, what: String) {
        self.remarks.push(what);
    }
}
