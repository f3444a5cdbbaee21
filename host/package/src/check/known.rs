//! The settings that sleap-nn has. It ends at once where a config has an unknown one, or a value of another
//! type, so that both are found before the upload.
//!
//! `sleap-nn.txt` lists those of all supported versions. None of them has ever been removed or has changed
//! its type, so that a version has those that are not newer than itself. The test
//! `every_setting_of_an_installed_sleap_nn_is_known`, which is run by hand, compares the list with a real
//! sleap-nn.

use crate::config::{Settings, Written};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

/// Each line has a name, its kind with `?` if it may be null, its limits, and the version that brought it.
const LIST: &str = include_str!("known/sleap-nn.txt");
/// The newest version that the list describes.
const NEWEST: Version = Version(0, 3, 5);
/// The oldest one that the list describes. It has every setting without a version.
const OLDEST: Version = Version(0, 0, 5);

static KNOWN: LazyLock<BTreeMap<String, Known>> = LazyLock::new(list);

/// The version of a sleap-nn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(u32, u32, u32);

/// The oldest version that can read a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Needed {
    pub(crate) version: Version,
    /// A setting that needs it.
    pub(crate) key: String,
}

/// A setting of sleap-nn.
#[derive(Debug)]
struct Known {
    kind: ValueKind,
    may_be_null: bool,
    limits: Vec<&'static str>,
    since: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ValueKind {
    Section,
    Map,
    Int,
    Float,
    Bool,
    Text,
    Ints,
    Floats,
    Texts,
    List,
    Any,
}

impl Version {
    /// Reads the numbers at the start of a version, such as `0.3.5` or `0.4.0rc1`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let number = |part: &str| {
            let digits = part.split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse::<u32>().ok()
        };
        let mut parts = text.trim().split('.').map(number);
        let major = parts.next()??;
        let [minor, patch] = [parts.next(), parts.next()].map(|part| part.flatten().unwrap_or(0));
        Some(Self(major, minor, patch))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Whether `version` is newer than `other`. Versions that cannot be read are not.
pub fn is_newer(version: &str, other: &str) -> bool {
    matches!((Version::parse(version), Version::parse(other)), (Some(one), Some(other)) if one > other)
}

/// Refuses settings that sleap-nn would refuse. `installed` is the worker's version.
pub(crate) fn check(settings: &Settings<'_>, installed: Option<&str>) -> Result<(), String> {
    let is_unlisted = |version: &str| Version::parse(version).is_some_and(|own| own > NEWEST);
    let (saved, newer) = (saved(settings), installed.is_some_and(is_unlisted));
    for (key, written) in effective(settings) {
        match KNOWN.get(&key) {
            Some(known) => known.check(&key, &written)?,
            None if newer || saved.as_deref().is_some_and(is_unlisted) => {}
            None => return Err(unknown(&key)),
        }
    }
    Ok(())
}

/// The oldest version that has all settings. `None` if there are none.
pub(crate) fn needed(settings: &Settings<'_>) -> Option<Needed> {
    let saved = saved(settings).as_deref().and_then(Version::parse).unwrap_or(OLDEST);
    let since = |key: &str| KNOWN.get(key).map_or(saved, |known| known.since);
    let each = effective(settings).into_iter().map(|(key, _)| Needed { version: since(&key), key });
    each.max_by_key(|needed| needed.version)
}

/// The version that saved the config.
fn saved(settings: &Settings<'_>) -> Option<String> {
    settings.config.texts("sleap_nn_version").into_iter().next()
}

/// Every setting that the trainer will see, except for those in a mapping of any keys.
fn effective(settings: &Settings<'_>) -> Vec<(String, Written)> {
    let changes = settings.changes.iter().map(|change| (&change.key, change.value.written()));
    let changes: Vec<_> = changes.collect();
    let is_replaced = |key: &str| {
        changes.iter().any(|(changed, written)| {
            let rest = key.strip_prefix(changed.as_str());
            let is_below = rest.is_some_and(|rest| rest.starts_with('.'));
            rest == Some("") || (is_below && !matches!(written, Some(Written::Mapping)))
        })
    };
    let mut all = settings.config.entries();
    all.retain(|(key, _)| !is_replaced(key));
    all.extend(
        changes.iter().filter_map(|(key, written)| Some(((*key).clone(), written.clone()?))),
    );
    all.retain(|(key, _)| !is_in_map(key));
    all
}

/// Whether the key is below a mapping that may have any keys.
fn is_in_map(key: &str) -> bool {
    let parents = key.match_indices('.').map(|(at, _)| &key[..at]);
    let mut known = parents.filter_map(|parent| KNOWN.get(parent));
    known.any(|known| matches!(known.kind, ValueKind::Map | ValueKind::Any))
}

/// Why a key is refused, with the setting that may be meant.
fn unknown(key: &str) -> String {
    // A name with a dot is one name.
    let split = if key.ends_with('"') { None } else { key.rsplit_once('.') };
    let (parent, name) = split.unwrap_or(("", key));
    // Below an unknown key, all are unknown.
    if !parent.is_empty() && !KNOWN.contains_key(parent) {
        return unknown(parent);
    }
    let name_of = |known: &'static String| known.rsplit_once('.').map_or("", |(_, name)| name);
    let is_beside = |known: &&'static String| {
        known.rsplit_once('.').map_or(("", known.as_str()), |parts| parts).0 == parent
    };
    let depth = |known: &&String| known.matches('.').count();
    let namesake = KNOWN.keys().filter(|known| name_of(known) == name).min_by_key(depth);
    let beside = KNOWN.keys().filter(is_beside).map(String::as_str);
    let elsewhere = || sleap_rtc_protocol::text::nearest(key, KNOWN.keys().map(String::as_str));
    let meant = sleap_rtc_protocol::text::nearest(key, beside);
    let meant = namesake.map(String::as_str).or(meant).or_else(elsewhere);
    match meant {
        Some(meant) => format!("sleap-nn has no setting {key}; did you mean {meant}?"),
        None => format!(
            "sleap-nn up to {NEWEST} has no setting {key}: leave it out, or, if a newer one has it, write \
             that version into the config (sleap_nn_version)"
        ),
    }
}

impl Known {
    /// Refuses a value that sleap-nn would refuse.
    fn check(&self, key: &str, written: &Written) -> Result<(), String> {
        let wants = |what: &str| Err(format!("{key} is {written}, and sleap-nn wants {what}"));
        if matches!(written, Written::Null) {
            return match self.may_be_null || self.kind == ValueKind::Any {
                true => Ok(()),
                false => wants(&format!("{}, not null: leave the line out", self.kind.words())),
            };
        }
        if !self.kind.takes(written) {
            return wants(self.kind.words());
        }
        let failed = self.limits.iter().find(|limit| !is_within(written, limit));
        failed.map_or(Ok(()), |limit| wants(&limit.replace('|', ", ")))
    }
}

impl ValueKind {
    /// Each kind, as the list calls it.
    const ALL: [(&str, Self); 11] = [
        ("section", Self::Section),
        ("map", Self::Map),
        ("int", Self::Int),
        ("float", Self::Float),
        ("bool", Self::Bool),
        ("text", Self::Text),
        ("ints", Self::Ints),
        ("floats", Self::Floats),
        ("texts", Self::Texts),
        ("list", Self::List),
        ("any", Self::Any),
    ];

    fn words(self) -> &'static str {
        match self {
            Self::Section | Self::Map => "a mapping of names to values",
            Self::Int => "a whole number",
            Self::Float => "a number",
            Self::Bool => "true or false",
            Self::Text => "a text",
            Self::Ints => "a list of whole numbers",
            Self::Floats => "a list of numbers",
            Self::Texts => "a list of texts",
            Self::List => "a list",
            Self::Any => "any value",
        }
    }

    /// Whether sleap-nn accepts the value, which it converts if it can.
    fn takes(self, written: &Written) -> bool {
        let each = |kind: Self| match written {
            Written::List(items) => items.iter().all(|item| kind.takes(item)),
            _ => false,
        };
        match (self, written) {
            (_, Written::Other) | (Self::Any, _) => true,
            (Self::Section | Self::Map, written) => matches!(written, Written::Mapping),
            (Self::Int | Self::Bool, Written::Int(_)) | (Self::Bool, Written::Bool(_)) => true,
            (Self::Int, Written::Text(text)) => is_int(text),
            (Self::Bool, Written::Text(text)) => is_truth(text) || is_int(text),
            (Self::Float, Written::Int(_) | Written::Float(_)) => true,
            (Self::Float, Written::Text(text)) => float(text).is_some(),
            (Self::Text, Written::Mapping | Written::List(_) | Written::Null) => false,
            (Self::Text, _) | (Self::List, Written::List(_)) => true,
            (Self::Ints, _) => each(Self::Int),
            (Self::Floats, _) => each(Self::Float),
            (Self::Texts, _) => each(Self::Text),
            (Self::Int | Self::Bool | Self::Float | Self::List, _) => false,
        }
    }
}

fn is_truth(text: &str) -> bool {
    const WORDS: [&str; 8] = ["yes", "y", "on", "true", "no", "n", "off", "false"];
    WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// Whether it is a whole number to Python or in YAML, which both allow `1_000`.
fn is_int(text: &str) -> bool {
    let digits = text.trim().trim_start_matches(['+', '-']);
    let are_digits = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    // The parser here does not know binary numbers.
    digits.starts_with("0b") || (!digits.is_empty() && are_digits)
}

fn float(text: &str) -> Option<f64> {
    text.trim().replace('_', "").parse().ok()
}

/// Whether a value is one of several words, or a number on the right side of a bound.
fn is_within(written: &Written, limit: &str) -> bool {
    let number = match written {
        Written::Int(number) => Some(*number as f64),
        Written::Float(number) => Some(*number),
        Written::Text(text) => float(text),
        _ => None,
    };
    let bound = |sign: &str| limit.strip_prefix(sign).and_then(|rest| rest.parse::<f64>().ok());
    let holds = |sign: &str, is_right: fn(f64, f64) -> bool| {
        bound(sign).map(|bound| number.is_none_or(|number| is_right(number, bound)))
    };
    let numeric = holds(">=", |number, bound| number >= bound)
        .or_else(|| holds("<=", |number, bound| number <= bound))
        .or_else(|| holds(">", |number, bound| number > bound))
        .or_else(|| holds("<", |number, bound| number < bound));
    numeric.unwrap_or_else(|| match written {
        Written::Text(text) => limit.split('|').any(|word| word == text),
        Written::Int(number) => limit.split('|').any(|word| word.parse() == Ok(*number)),
        _ => true,
    })
}

/// Reads the list, in which settings are indented below their section.
fn list() -> BTreeMap<String, Known> {
    let (mut known, mut path) = (BTreeMap::new(), Vec::new());
    for line in LIST.lines() {
        let depth = (line.len() - line.trim_start().len()) / 2;
        let mut words = line.split_whitespace();
        let (Some(name), Some(kind)) = (words.next(), words.next()) else { continue };
        path.truncate(depth);
        path.push(name);
        let (since, limits): (Vec<_>, Vec<_>) = words.partition(|word| word.starts_with('@'));
        let since = since.first().and_then(|word| Version::parse(&word[1..])).unwrap_or(OLDEST);
        let may_be_null = kind.ends_with('?');
        let kind = kind.trim_end_matches('?');
        let kind = ValueKind::ALL
            .into_iter()
            .find(|(name, _)| *name == kind)
            .map_or(ValueKind::Any, |all| all.1);
        known.insert(path.join("."), Known { kind, may_be_null, limits, since });
    }
    known
}

#[cfg(test)]
mod tests;
