//! Values as people write them: sizes, times, rates, addresses and command lines.

use super::{Wait, units};
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use sleap_rtc_base::transport::Transport;
use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Types of values that the file contains as text, each with the function that parses the text. The
/// function's error says what it expects.
macro_rules! from_text {
    ($($(#[$doc:meta])* $name:ident($inner:ty) = $parse:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Deserialize)]
        #[serde(try_from = "String")]
        pub(crate) struct $name(pub(crate) $inner);

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                $parse(&text).map(Self)
            }
        }
    )*};
}

from_text! {
    /// A time, such as `"14d"`.
    Time(Duration) = units::duration;
    /// A rate in bytes per second, such as `"20 Mbit/s"`.
    Rate(u64) = units::rate;
    /// A command line: a program and its first arguments.
    CommandLine(Vec<String>) = command_line;
    /// An IP address.
    HostAddress(IpAddr) = host_address;
    /// An IP address with a port.
    ListenAddress(SocketAddr) = listen_address;
    /// A kind of connection.
    TransportName(Transport) = transport;
}

fn command_line(text: &str) -> Result<Vec<String>, String> {
    let words = shell_words::split(text).map_err(|error| error.to_string())?;
    match words.is_empty() {
        true => Err("names no program".to_owned()),
        false => Ok(words),
    }
}

fn host_address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("expects an IP address, not {text:?}"))
}

fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let expected = "an address with a port, such as \"127.0.0.1:8080\"";
    text.parse().map_err(|_| format!("expects {expected}, not {text:?}"))
}

fn transport(text: &str) -> Result<Transport, String> {
    text.parse().map_err(|expected| format!("{expected}, not {text:?}"))
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

/// `wait`: whether jobs wait for a slot, or how long, such as `"2h"`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WaitChoice(pub(crate) Option<Wait>);

impl<'de> Deserialize<'de> for WaitChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WaitVisitor)
    }
}

struct WaitVisitor;

impl Visitor<'_> for WaitVisitor {
    type Value = WaitChoice;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false, or a time such as \"2h\"")
    }

    fn visit_bool<E: Error>(self, waits: bool) -> Result<WaitChoice, E> {
        Ok(WaitChoice(waits.then_some(Wait::UntilItStarts)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<WaitChoice, E> {
        units::duration(text).map(|time| WaitChoice(Some(Wait::For(time)))).map_err(E::custom)
    }
}

/// A text, or a list of texts with at least one.
#[derive(Debug, Clone)]
pub(crate) struct OneOrMore<T>(pub(crate) Vec<T>);

impl<'de, T: TryFrom<String, Error = String>> Deserialize<'de> for OneOrMore<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrMoreVisitor(PhantomData))
    }
}

struct OneOrMoreVisitor<T>(PhantomData<T>);

impl<'de, T: TryFrom<String, Error = String>> Visitor<'de> for OneOrMoreVisitor<T> {
    type Value = OneOrMore<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, or a list of strings")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<OneOrMore<T>, E> {
        let one = T::try_from(text.to_owned()).map_err(E::custom)?;
        Ok(OneOrMore(vec![one]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMore<T>, A::Error> {
        let mut all = Vec::new();
        while let Some(text) = list.next_element::<String>()? {
            all.push(T::try_from(text).map_err(A::Error::custom)?);
        }
        match all.is_empty() {
            true => Err(A::Error::custom("expects at least one")),
            false => Ok(OneOrMore(all)),
        }
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
