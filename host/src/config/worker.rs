//! The values of `[worker]` that are not simply a number or a string.

use super::SlotsConfig;
use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use sleap_rtc_protocol::capabilities::WORKER_PROPERTIES;
use std::fmt;

/// More slots than this are a mistake on any machine.
const MAX_SLOTS: usize = 64;

impl<'de> Deserialize<'de> for SlotsConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SlotsVisitor)
    }
}

struct SlotsVisitor;

impl SlotsVisitor {
    fn check<E: Error>(slots: SlotsConfig, count: usize) -> Result<SlotsConfig, E> {
        match count {
            1..=MAX_SLOTS => Ok(slots),
            _ => Err(E::custom(format_args!("expects 1 to {MAX_SLOTS} slots, not {count}"))),
        }
    }
}

impl<'de> Visitor<'de> for SlotsVisitor {
    type Value = SlotsConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or a list of GPU indices for each slot")
    }

    fn visit_i64<E: Error>(self, count: i64) -> Result<SlotsConfig, E> {
        let count = usize::try_from(count).unwrap_or(0);
        Self::check(SlotsConfig::Count(count), count)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<SlotsConfig, A::Error> {
        let lists = Vec::<Vec<u32>>::deserialize(SeqAccessDeserializer::new(list))?;
        let count = lists.len();
        Self::check(SlotsConfig::Gpus(lists), count)
    }
}

/// The most bytes of all properties together, as JSON. A worker's metadata is limited to 16 KiB,
/// most of which the worker needs itself.
const MAX_PROPERTIES_BYTES: usize = 4096;

/// `properties`: strings, numbers and flags by name, with which an operator describes the worker.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct WorkerProperties(pub(crate) Map<String, Value>);

impl<'de> Deserialize<'de> for WorkerProperties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let properties = deserializer.deserialize_map(PropertiesVisitor)?;
        let bytes = serde_json::to_string(&properties).map_or(usize::MAX, |json| json.len());
        if bytes > MAX_PROPERTIES_BYTES {
            let text = format!("expects at most {MAX_PROPERTIES_BYTES} bytes of JSON, not {bytes}");
            return Err(D::Error::custom(text));
        }
        Ok(Self(properties))
    }
}

struct PropertiesVisitor;

impl<'de> Visitor<'de> for PropertiesVisitor {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut properties = Map::new();
        while let Some(PropertyName(name)) = map.next_key()? {
            let PropertyValue(value) = map.next_value()?;
            properties.insert(name, value);
        }
        Ok(properties)
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct PropertyName(String);

impl TryFrom<String> for PropertyName {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, &'static str> {
        match WORKER_PROPERTIES.contains(&name.as_str()) {
            true => Err("is set by the worker itself; choose another name"),
            false => Ok(Self(name)),
        }
    }
}

struct PropertyValue(Value);

impl<'de> Deserialize<'de> for PropertyValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PropertyVisitor)
    }
}

struct PropertyVisitor;

impl Visitor<'_> for PropertyVisitor {
    type Value = PropertyValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a number, true or false")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<PropertyValue, E> {
        Ok(PropertyValue(Value::from(text)))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<PropertyValue, E> {
        Ok(PropertyValue(Value::from(number)))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<PropertyValue, E> {
        match number.is_finite() {
            true => Ok(PropertyValue(Value::from(number))),
            false => Err(E::custom("expects a finite number")),
        }
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<PropertyValue, E> {
        Ok(PropertyValue(Value::from(flag)))
    }
}
