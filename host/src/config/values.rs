//! Values as people write them: sizes, times, rates, addresses and command lines.

use super::units;
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use sleap_rtc_base::transport::Transport;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A time, such as `"14d"`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Time(pub(crate) Duration);

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        units::duration(&text).map(Self)
    }
}

/// A rate in bytes per second, such as `"20 Mbit/s"`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Rate(pub(crate) u64);

impl TryFrom<String> for Rate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        units::rate(&text).map(Self)
    }
}

/// A size in bytes: a number, or a string such as `"50 GiB"`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size(pub(crate) u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as \"50 GiB\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Size, E> {
        units::bytes(text).map(Size).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, bytes: i64) -> Result<Size, E> {
        let negative = |_| E::custom("expects a size that is not negative");
        u64::try_from(bytes).map(Size).map_err(negative)
    }
}

/// A command line: a program and its first arguments.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct CommandLine(pub(crate) Vec<String>);

impl TryFrom<String> for CommandLine {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let words = shell_words::split(&text).map_err(|error| error.to_string())?;
        match words.is_empty() {
            true => Err("names no program".to_owned()),
            false => Ok(Self(words)),
        }
    }
}

/// A value that stands in the file as a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parsed<T>(pub(crate) T);

impl<'de> Deserialize<'de> for Parsed<IpAddr> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = |_| D::Error::custom(format_args!("expects an IP address, not {text:?}"));
        text.parse().map(Self).map_err(wrong)
    }
}

impl<'de> Deserialize<'de> for Parsed<SocketAddr> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = |_| {
            let expected = "an address with a port, such as \"127.0.0.1:8080\"";
            D::Error::custom(format_args!("expects {expected}, not {text:?}"))
        };
        text.parse().map(Self).map_err(wrong)
    }
}

impl<'de> Deserialize<'de> for Parsed<Transport> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = |expected| D::Error::custom(format_args!("{expected}, not {text:?}"));
        text.parse().map(Self).map_err(wrong)
    }
}

/// A number from `MIN` to `MAX`.
pub(crate) fn within<'de, const MIN: u64, const MAX: u64, T, D>(
    deserializer: D,
) -> Result<T, D::Error>
where
    T: TryFrom<u64>,
    D: Deserializer<'de>,
{
    in_range(u64::deserialize(deserializer)?, MIN, MAX, "")
}

/// A size from `MIN` to `MAX` bytes.
pub(crate) fn size_within<'de, const MIN: u64, const MAX: u64, T, D>(
    deserializer: D,
) -> Result<T, D::Error>
where
    T: TryFrom<u64>,
    D: Deserializer<'de>,
{
    in_range(Size::deserialize(deserializer)?.0, MIN, MAX, " bytes")
}

fn in_range<T: TryFrom<u64>, E: Error>(number: u64, min: u64, max: u64, of: &str) -> Result<T, E> {
    let wrong = || E::custom(format_args!("expects {min} to {max}{of}, not {number}"));
    let fits = Some(number).filter(|number| (min..=max).contains(number));
    fits.and_then(|number| T::try_from(number).ok()).ok_or_else(wrong)
}

/// A rate from `MIN` to `MAX` bytes per second.
pub(crate) fn rate_within<'de, const MIN: u64, const MAX: u64, T, D>(
    deserializer: D,
) -> Result<T, D::Error>
where
    T: TryFrom<u64>,
    D: Deserializer<'de>,
{
    in_range(Rate::deserialize(deserializer)?.0, MIN, MAX, " bytes per second")
}

/// A time from `MIN_S` to `MAX_S` seconds.
pub(crate) fn time_within<'de, const MIN_S: u64, const MAX_S: u64, D>(
    deserializer: D,
) -> Result<Duration, D::Error>
where
    D: Deserializer<'de>,
{
    let Time(time) = Time::deserialize(deserializer)?;
    match (Duration::from_secs(MIN_S)..=Duration::from_secs(MAX_S)).contains(&time) {
        true => Ok(time),
        false => Err(D::Error::custom(format_args!("expects a time from {MIN_S} s to {MAX_S} s"))),
    }
}
