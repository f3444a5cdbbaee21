//! The scalars of a file of metrics.

use serde_json::Value;
use sleap_rtc_protocol::chart::short;
use sleap_rtc_protocol::text::Printable;

/// The largest file of metrics that is read.
pub(super) const MAX_METRICS_BYTES: u64 = 32 << 20;
/// The most numbers that are shown of one file, and how deep they may lie.
const MAX_NUMBERS: usize = 80;
const MAX_DEPTH: usize = 4;
const KEY_CHARS: usize = 80;

/// The numbers in a JSON text, with their dotted keys; lists are left out. `None` if it is no JSON object.
pub(super) fn scalars(text: &str) -> Option<Vec<(String, String)>> {
    let value: Value = serde_json::from_str(text).ok()?;
    value.as_object()?;
    let mut found = Vec::new();
    collect("", &value, 0, &mut found);
    Some(found)
}

fn collect(key: &str, value: &Value, depth: usize, found: &mut Vec<(String, String)>) {
    if found.len() >= MAX_NUMBERS || depth > MAX_DEPTH {
        return;
    }
    let text = match value {
        Value::Object(members) => {
            for (name, member) in members {
                let key = if key.is_empty() { name.clone() } else { format!("{key} · {name}") };
                collect(&key, member, depth + 1, found);
            }
            return;
        }
        Value::Number(number) if number.is_f64() => number.as_f64().map(short),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::String(_) | Value::Array(_) => None,
    };
    if let Some(text) = text {
        found.push((Printable::line(key, KEY_CHARS).into(), text));
    }
}
