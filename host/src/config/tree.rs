//! A TOML document whose values remember their lines, and sections that know which keys were
//! asked for, so that the others can be told from them.

use super::error::ConfigError;
use std::collections::BTreeMap;
use std::path::Path;
use toml::de::{DeTable, DeValue};
use toml::value::Datetime;

/// The entries of a table.
pub(super) type Entries = BTreeMap<String, Located>;

/// A value, and the line (from 1) on which its key stands.
#[derive(Debug, Clone)]
pub(super) struct Located {
    pub(super) line: usize,
    pub(super) item: Item,
}

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Item {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Time(Datetime),
    Array(Vec<Located>),
    Table(Entries),
}

impl Item {
    fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a number with a fraction",
            Self::Boolean(_) => "true or false",
            Self::Time(_) => "a date or time",
            Self::Array(_) => "a list",
            Self::Table(_) => "a table",
        }
    }

    fn into_toml(self) -> toml::Value {
        match self {
            Self::Text(text) => toml::Value::String(text),
            Self::Integer(number) => toml::Value::Integer(number),
            Self::Float(number) => toml::Value::Float(number),
            Self::Boolean(truth) => toml::Value::Boolean(truth),
            Self::Time(time) => toml::Value::Datetime(time),
            Self::Array(list) => {
                toml::Value::Array(list.into_iter().map(|each| each.item.into_toml()).collect())
            }
            Self::Table(entries) => toml::Value::Table(into_toml(entries)),
        }
    }
}

fn into_toml(entries: Entries) -> toml::Table {
    entries.into_iter().map(|(key, value)| (key, value.item.into_toml())).collect()
}

/// Reads a document.
pub(super) fn parse(path: &Path, text: &str) -> Result<Entries, ConfigError> {
    let lines = Lines::new(text);
    let syntax = |offset, message: String| ConfigError::Syntax {
        path: path.to_owned(),
        line: lines.at(offset),
        message,
    };
    let document = DeTable::parse(text).map_err(|error| {
        syntax(error.span().map_or(0, |span| span.start), error.message().to_owned())
    })?;
    entries(document.get_ref(), &lines).map_err(|(offset, message)| syntax(offset, message))
}

struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(offset, _)| offset).collect())
    }

    fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|newline| *newline < offset) + 1
    }
}

type BadNumber = (usize, String);

fn entries(table: &DeTable<'_>, lines: &Lines) -> Result<Entries, BadNumber> {
    let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
        let key: &toml::Spanned<std::borrow::Cow<'_, str>> = key;
        let item = item(value, lines)?;
        Ok((key.get_ref().to_string(), Located { line: lines.at(key.span().start), item }))
    };
    table.iter().map(entry).collect()
}

fn item(value: &toml::Spanned<DeValue<'_>>, lines: &Lines) -> Result<Item, BadNumber> {
    let bad = |what: &str| (value.span().start, format!("{what} out of range"));
    Ok(match value.get_ref() {
        DeValue::String(text) => Item::Text(text.to_string()),
        DeValue::Integer(number) => Item::Integer(
            i64::from_str_radix(number.as_str(), number.radix()).map_err(|_| bad("integer"))?,
        ),
        DeValue::Float(number) => Item::Float(number.as_str().parse().map_err(|_| bad("number"))?),
        DeValue::Boolean(truth) => Item::Boolean(*truth),
        DeValue::Datetime(time) => Item::Time(*time),
        DeValue::Array(list) => Item::Array(
            list.iter()
                .map(|each| {
                    let line = lines.at(each.span().start);
                    Ok(Located { line, item: item(each, lines)? })
                })
                .collect::<Result<_, BadNumber>>()?,
        ),
        DeValue::Table(table) => Item::Table(entries(table, lines)?),
    })
}

/// Lays `special` over `general`: tables merge key by key, anything else is replaced.
pub(super) fn overlay(general: &mut Entries, special: Entries) {
    for (key, value) in special {
        match (general.get_mut(&key), value) {
            (
                Some(Located { item: Item::Table(below), .. }),
                Located { item: Item::Table(above), .. },
            ) => overlay(below, above),
            (_, value) => {
                general.insert(key, value);
            }
        }
    }
}

/// Where a value stands, for error texts.
#[derive(Debug, Clone)]
pub(super) struct Place<'a> {
    pub(super) path: &'a Path,
    pub(super) line: usize,
    pub(super) key: String,
}

impl Place<'_> {
    pub(super) fn error(&self, message: impl Into<String>) -> ConfigError {
        ConfigError::Value {
            path: self.path.to_owned(),
            line: self.line,
            key: self.key.clone(),
            message: message.into(),
        }
    }
}

/// A table that is being read.
pub(super) struct Section<'a> {
    path: &'a Path,
    name: String,
    line: usize,
    entries: Entries,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    pub(super) fn root(path: &'a Path, entries: Entries) -> Self {
        Self { path, name: String::new(), line: 1, entries, known: vec!["default", "environments"] }
    }

    /// Reads a key. Absent is `None`; the wrong type is an error.
    pub(super) fn take<T: FromItem>(
        &mut self,
        key: &'static str,
    ) -> Result<Option<T>, ConfigError> {
        self.known.push(key);
        let Some(value) = self.entries.remove(key) else { return Ok(None) };
        let place = self.place(key, value.line);
        T::from_item(value.item, &place).map(Some)
    }

    /// Reads a key and passes it through `check`, whose text becomes the error.
    pub(super) fn take_with<T: FromItem, U>(
        &mut self,
        key: &'static str,
        check: impl FnOnce(T) -> Result<U, String>,
    ) -> Result<Option<U>, ConfigError> {
        let line = self.entries.get(key).map_or(self.line, |value| value.line);
        let Some(value) = self.take::<T>(key)? else { return Ok(None) };
        check(value).map(Some).map_err(|message| self.place(key, line).error(message))
    }

    /// Reads a key that must be there.
    pub(super) fn require<T: FromItem>(&mut self, key: &'static str) -> Result<T, ConfigError> {
        let place = self.place(key, self.line);
        self.take(key)?.ok_or_else(|| place.error("is missing"))
    }

    /// The section under `key`; an absent one reads as empty.
    pub(super) fn section(&mut self, key: &'static str) -> Result<Section<'a>, ConfigError> {
        self.known.push(key);
        let (line, item) = match self.entries.remove(key) {
            Some(Located { line, item }) => (line, item),
            None => (self.line, Item::Table(Entries::new())),
        };
        let place = self.place(key, line);
        Section::from_place(item, &place)
    }

    pub(super) fn from_place(item: Item, place: &Place<'a>) -> Result<Self, ConfigError> {
        let Item::Table(entries) = item else { return Err(wrong_type("a table", &item, place)) };
        let Place { path, line, key } = place.clone();
        Ok(Self { path, name: key, line, entries, known: Vec::new() })
    }

    /// Drops a key that means nothing here, and tells the line on which it stands.
    pub(super) fn ignore(&mut self, key: &str) -> Option<usize> {
        self.entries.remove(key).map(|value| value.line)
    }

    /// Refuses the first key that nobody asked for.
    pub(super) fn finish(self) -> Result<(), ConfigError> {
        let Some((key, value)) = self.entries.into_iter().min_by_key(|(_, value)| value.line)
        else {
            return Ok(());
        };
        let nearest = nearest(&key, &self.known).map(str::to_owned);
        let (path, line) = (self.path.to_owned(), value.line);
        Err(ConfigError::UnknownKey { path, line, section: self.name, key, nearest })
    }

    pub(super) fn place(&self, key: &str, line: usize) -> Place<'a> {
        let dot = if self.name.is_empty() { "" } else { "." };
        Place { path: self.path, line, key: format!("{}{dot}{key}", self.name) }
    }
}

/// The known word that looks most like `word`, when one looks alike at all.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    // Nobody mistypes a word into one of a hundred characters, and comparing costs length squared.
    let word: String = word.chars().take(64).collect();
    let alike = |known: &&str| strsim::jaro_winkler(&word, known);
    known
        .iter()
        .copied()
        .filter(|known| alike(known) > 0.8)
        .max_by(|a, b| alike(a).total_cmp(&alike(b)))
}

/// A type that a key may have.
pub(super) trait FromItem: Sized {
    fn from_item(item: Item, place: &Place<'_>) -> Result<Self, ConfigError>;
}

pub(super) fn wrong_type(expected: &str, item: &Item, place: &Place<'_>) -> ConfigError {
    place.error(format!("expects {expected}, not {}", item.kind()))
}

macro_rules! from_item {
    ($type:ty, $expected:literal, $($pattern:pat => $value:expr),+) => {
        impl FromItem for $type {
            fn from_item(item: Item, place: &Place<'_>) -> Result<Self, ConfigError> {
                match item {
                    $($pattern => Ok($value),)+
                    item => Err(wrong_type($expected, &item, place)),
                }
            }
        }
    };
}

from_item!(String, "a text", Item::Text(text) => text);
from_item!(bool, "true or false", Item::Boolean(truth) => truth);
from_item!(toml::Table, "a table", Item::Table(entries) => into_toml(entries));

impl FromItem for u64 {
    fn from_item(item: Item, place: &Place<'_>) -> Result<Self, ConfigError> {
        let Item::Integer(number) = item else {
            return Err(wrong_type("an integer", &item, place));
        };
        Self::try_from(number).map_err(|_| place.error("expects an integer that is not negative"))
    }
}

/// A size in bytes: a number, or a text with a unit.
pub(super) struct Bytes(pub(super) u64);

impl FromItem for Bytes {
    fn from_item(item: Item, place: &Place<'_>) -> Result<Self, ConfigError> {
        match item {
            Item::Text(text) => {
                super::units::bytes(&text).map(Self).map_err(|message| place.error(message))
            }
            Item::Integer(_) => u64::from_item(item, place).map(Self),
            item => Err(wrong_type("a size such as \"50 GiB\"", &item, place)),
        }
    }
}

impl<T: FromItem> FromItem for Vec<T> {
    fn from_item(item: Item, place: &Place<'_>) -> Result<Self, ConfigError> {
        let Item::Array(list) = item else { return Err(wrong_type("a list", &item, place)) };
        list.into_iter()
            .map(|Located { line, item }| T::from_item(item, &Place { line, ..place.clone() }))
            .collect()
    }
}
