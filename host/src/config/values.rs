//! Values that several sections read.

use super::error::ConfigError;
use super::tree::{FromItem, Item, Place};
use super::units;
use std::time::Duration;

pub(super) fn time(text: String) -> Result<Duration, String> {
    units::duration(&text)
}

/// How long an account on a TURN server lasts.
pub(super) fn lifetime(text: String) -> Result<Duration, String> {
    let lifetime = units::duration(&text)?;
    if lifetime < Duration::from_secs(2) {
        return Err("expects two seconds at least".into());
    }
    Ok(lifetime)
}

/// An address that stands in the file as a text.
pub(super) struct Parsed<T>(T);

pub(super) fn unwrap_parsed<T>(list: Vec<Parsed<T>>) -> Vec<T> {
    list.into_iter().map(|Parsed(value)| value).collect()
}

impl<T: std::str::FromStr> FromItem for Parsed<T>
where
    T::Err: std::fmt::Display,
{
    fn from_item(item: Item, place: &Place<'_>) -> Result<Self, ConfigError> {
        let text = String::from_item(item, place)?;
        text.parse().map(Self).map_err(|error| place.error(format!("{text:?}: {error}")))
    }
}
