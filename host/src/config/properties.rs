//! `[worker] properties`: what an operator says of a worker in words of their own.

use super::error::ConfigError;
use super::tree::{self, Entries, FromItem, Item, Located, Place};
use serde_json::{Map, Value};
use sleap_rtc_protocol::capabilities::WORKER_PROPERTIES;

/// All of them together as JSON: a worker's metadata has 16 KiB at most, and much else to say.
const MAX_BYTES: usize = 4096;

/// Texts, numbers and flags by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct WorkerProperties(pub(super) Map<String, Value>);

impl FromItem for WorkerProperties {
    fn from_item(item: Item, place: &Place<'_>) -> Result<Self, ConfigError> {
        let Item::Table(entries) = item else {
            return Err(tree::wrong_type("a table", &item, place));
        };
        let properties = read(entries, place)?;
        let bytes = serde_json::to_string(&properties).map_or(usize::MAX, |json| json.len());
        if bytes > MAX_BYTES {
            let text = format!("expects at most {MAX_BYTES} bytes of JSON, not {bytes}");
            return Err(place.error(text));
        }
        Ok(Self(properties))
    }
}

fn read(entries: Entries, place: &Place<'_>) -> Result<Map<String, Value>, ConfigError> {
    let property = |(key, Located { line, item }): (String, Located)| {
        let place = Place { line, key: format!("{}.{key}", place.key), ..place.clone() };
        if WORKER_PROPERTIES.contains(&key.as_str()) {
            return Err(place.error("is told by the worker itself; take another name"));
        }
        let value = match item {
            Item::Text(text) => Value::from(text),
            Item::Integer(number) => Value::from(number),
            Item::Boolean(flag) => Value::from(flag),
            Item::Float(number) if number.is_finite() => Value::from(number),
            item => {
                return Err(tree::wrong_type("a text, a number, true or false", &item, &place));
            }
        };
        Ok((key, value))
    };
    entries.into_iter().map(property).collect()
}
