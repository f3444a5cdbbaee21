//! Deserializes the values of a TOML document.
//!
//! Types that derive `Deserialize` define the keys. Each error that serde reports becomes a
//! [`ValueError`], to which the surrounding values add its line and the full name of its key.

use super::error::ConfigError;
use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, Error as _, Expected, MapAccess, SeqAccess, Unexpected,
    Visitor,
};
use serde::forward_to_deserialize_any;
use sleap_rtc_protocol::text::nearest;
use std::fmt;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeInteger, DeString, DeTable, DeValue};

/// A mistake in a value or a key.
#[derive(Debug)]
pub(crate) struct ValueError {
    mistake: Mistake,
    /// The line, and the key or the section, once they are known.
    place: Option<(usize, String)>,
}

#[derive(Debug)]
enum Mistake {
    UnknownKey { key: String, nearest: Option<&'static str> },
    MissingKey(&'static str),
    Value(String),
}

impl ValueError {
    pub(crate) fn wrong_type(expected: &str, found: &DeValue<'_>) -> Self {
        ValueError::custom(format_args!("expects {expected}, not {}", kind(found)))
    }

    /// Adds the place, unless a more precise one is known.
    pub(crate) fn at(mut self, line: usize, key: &str) -> Self {
        self.place.get_or_insert_with(|| (line, key.to_owned()));
        self
    }

    /// The error that the user sees.
    pub(crate) fn in_file(self, path: &Path) -> ConfigError {
        let path = path.to_owned();
        let (line, key) = self.place.unwrap_or((1, String::new()));
        match self.mistake {
            Mistake::UnknownKey { key: unknown, nearest } => ConfigError::UnknownKey {
                path,
                line,
                section: key,
                key: unknown,
                nearest: nearest.map(str::to_owned),
            },
            Mistake::MissingKey(missing) => {
                let message = "is missing".to_owned();
                ConfigError::Value { path, line, key: full_name(&key, missing), message }
            }
            Mistake::Value(message) => ConfigError::Value { path, line, key, message },
        }
    }
}

impl std::error::Error for ValueError {}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.mistake {
            Mistake::UnknownKey { key, .. } => write!(f, "unknown key `{key}`"),
            Mistake::MissingKey(key) => write!(f, "`{key}` is missing"),
            Mistake::Value(message) => f.write_str(message),
        }
    }
}

impl de::Error for ValueError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { mistake: Mistake::Value(message.to_string()), place: None }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Bool(_) => "true or false",
            Unexpected::Signed(_) | Unexpected::Unsigned(_) => "an integer",
            Unexpected::Float(_) => "a decimal number",
            Unexpected::Str(_) => "a string",
            Unexpected::Seq => "a list",
            _ => "a table",
        };
        Self::custom(format_args!("expects {expected}, not {found}"))
    }

    fn unknown_variant(_: &str, known: &'static [&'static str]) -> Self {
        let known: Vec<String> = known.iter().map(|word| format!("{word:?}")).collect();
        Self::custom(format_args!("expects {}", known.join(" or ")))
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        let mistake = Mistake::UnknownKey {
            key: key.to_owned(),
            nearest: nearest(key, known.iter().copied()),
        };
        Self { mistake, place: None }
    }

    fn missing_field(key: &'static str) -> Self {
        Self { mistake: Mistake::MissingKey(key), place: None }
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn full_name(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// The positions of a text's line breaks.
pub(crate) struct Lines(Vec<usize>);

impl Lines {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(offset, _)| offset).collect())
    }

    /// The line, from 1, of the character at `offset`.
    pub(crate) fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|newline| *newline < offset) + 1
    }
}

/// A value of the document.
pub(crate) struct Node<'d> {
    value: &'d DeValue<'d>,
    lines: &'d Lines,
    /// The full name of its key; empty for the document itself.
    key: String,
}

impl<'d> Node<'d> {
    /// The whole document.
    pub(crate) fn root(value: &'d DeValue<'d>, lines: &'d Lines) -> Self {
        Self { value, lines, key: String::new() }
    }

    fn read<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, ValueError> {
        match self.value {
            DeValue::String(text) => visitor.visit_str(text),
            DeValue::Integer(number) => visitor.visit_i64(integer(number)?),
            DeValue::Float(number) => {
                visitor.visit_f64(number.as_str().parse().map_err(ValueError::custom)?)
            }
            DeValue::Boolean(truth) => visitor.visit_bool(*truth),
            DeValue::Datetime(time) => {
                let time = toml::Value::Datetime(*time).deserialize_any(visitor);
                time.map_err(|_| ValueError::custom("does not take a date or a time"))
            }
            DeValue::Array(list) => {
                let (lines, key) = (self.lines, self.key.as_str());
                visitor.visit_seq(Elements { values: list.iter(), lines, key })
            }
            DeValue::Table(table) => visitor.visit_map(Entries::new(table, self)),
        }
    }

    /// Reads the value if it has the expected type.
    fn read_if<'de, V: Visitor<'de>>(
        &self,
        is_expected: bool,
        expected: &str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        match is_expected {
            true => self.read(visitor),
            false => Err(ValueError::wrong_type(expected, self.value)),
        }
    }

    /// Reads an integer from 0 to `max`.
    fn read_number<'de, V: Visitor<'de>>(
        &self,
        max: u64,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        let DeValue::Integer(number) = self.value else {
            return Err(ValueError::wrong_type("an integer", self.value));
        };
        match u64::try_from(integer(number)?) {
            Ok(number) if number <= max => visitor.visit_u64(number),
            Ok(_) => Err(ValueError::custom("expects a smaller integer")),
            Err(_) => Err(ValueError::custom("expects an integer that is not negative")),
        }
    }
}

fn integer(number: &DeInteger<'_>) -> Result<i64, ValueError> {
    let parsed = i64::from_str_radix(number.as_str(), number.radix());
    parsed.map_err(|_| ValueError::custom("is out of range"))
}

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.read(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.read_if(self.value.is_str(), "a string", visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.read_if(self.value.is_bool(), "true or false", visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.read_number(u32::MAX.into(), visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.read_number(u64::MAX, visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.read_if(self.value.is_array(), "a list", visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.read_if(self.value.is_table(), "a table", visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        match self.value {
            DeValue::String(word) => visitor.visit_enum(StrDeserializer::new(word)),
            other => Err(ValueError::wrong_type("a string", other)),
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 f32 f64 char bytes byte_buf unit unit_struct tuple
        tuple_struct identifier ignored_any
    }
}

/// The elements of a list.
struct Elements<'d> {
    values: std::slice::Iter<'d, Spanned<DeValue<'d>>>,
    lines: &'d Lines,
    key: &'d str,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = ValueError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ValueError> {
        let Some(value) = self.values.next() else { return Ok(None) };
        let line = self.lines.at(value.span().start);
        let node = Node { value: value.get_ref(), lines: self.lines, key: self.key.to_owned() };
        seed.deserialize(node).map(Some).map_err(|error| error.at(line, self.key))
    }
}

/// The entries of a table, in the order of the file.
struct Entries<'d> {
    entries: std::vec::IntoIter<Entry<'d>>,
    lines: &'d Lines,
    section: &'d str,
    /// The entry whose key has been read.
    current: Option<Entry<'d>>,
}

struct Entry<'d> {
    line: usize,
    key: &'d str,
    value: &'d DeValue<'d>,
}

impl<'d> Entries<'d> {
    fn new(table: &'d DeTable<'d>, node: &'d Node<'_>) -> Self {
        let entry = |(key, value): (&'d Spanned<DeString<'d>>, &'d Spanned<DeValue<'d>>)| Entry {
            line: node.lines.at(key.span().start),
            key: key.get_ref(),
            value: value.get_ref(),
        };
        let mut entries: Vec<Entry<'d>> = table.iter().map(entry).collect();
        entries.sort_by_key(|entry| entry.line);
        let (lines, section) = (node.lines, node.key.as_str());
        Self { entries: entries.into_iter(), lines, section, current: None }
    }
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = ValueError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ValueError> {
        let Some(entry) = self.entries.next() else { return Ok(None) };
        let key = seed.deserialize(StrDeserializer::new(entry.key));
        let key = key.map_err(|error: ValueError| match error.mistake {
            Mistake::UnknownKey { .. } => error.at(entry.line, self.section),
            _ => error.at(entry.line, &full_name(self.section, entry.key)),
        })?;
        self.current = Some(entry);
        Ok(Some(key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, ValueError> {
        let entry = self.current.take().ok_or_else(|| ValueError::custom("has no value"))?;
        let key = full_name(self.section, entry.key);
        let node = Node { value: entry.value, lines: self.lines, key: key.clone() };
        seed.deserialize(node).map_err(|error| error.at(entry.line, &key))
    }
}
