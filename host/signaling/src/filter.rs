//! Discovery filters: checked once, then applied to each peer.

use crate::rooms::Registrant;
use serde_json::{Map, Value};
use sleap_rtc_protocol::signaling::{Filters, Metadata, Role};
use std::cmp::Ordering;

/// The most conditions, operands and tags of one discovery, in total.
const MAX_TERMS: usize = 64;

/// Why a filter is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The operator does not exist.
    #[error(
        "the filter on {property:?} uses the unknown operator {operator:?}; use $eq, $ne, \
         $gt, $gte, $lt, $lte and $in"
    )]
    UnknownOperator {
        /// The property.
        property: String,
        /// The operator in the filter.
        operator: String,
    },
    /// The operator's value has the wrong type.
    #[error("the filter on {property:?}: {operator} needs {needed}")]
    Operand {
        /// The property.
        property: String,
        /// The operator.
        operator: String,
        /// The type that it needs.
        needed: &'static str,
    },
    /// The discovery has too many terms.
    #[error("a discovery has at most {MAX_TERMS} conditions, operands and tags")]
    TooMany,
}

/// A checked filter.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Query {
    role: Option<Role>,
    tags: Option<Vec<String>>,
    properties: Vec<(String, Condition)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Condition {
    Equal(Value),
    NotEqual(Value),
    OneOf(Vec<Value>),
    Ordered(Comparison, Value),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Comparison {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Query {
    /// Checks a received filter. Ignores its room, because a discovery always covers the
    /// requester's own room.
    pub fn new(filters: Filters) -> Result<Self, FilterError> {
        let mut query = Self { role: filters.role, tags: filters.tags, properties: Vec::new() };
        for (property, wanted) in filters.properties.unwrap_or_default() {
            match wanted {
                Value::Object(operators) if is_operators(&operators) => {
                    for (operator, operand) in operators {
                        let condition = Condition::new(&property, operator, operand)?;
                        query.properties.push((property.clone(), condition));
                    }
                }
                value => query.properties.push((property, Condition::Equal(value))),
            }
        }
        let operands = |condition: &Condition| match condition {
            Condition::OneOf(values) => values.len(),
            _ => 1,
        };
        let tags = query.tags.as_ref().map_or(0, Vec::len);
        let terms: usize = query.properties.iter().map(|(_, c)| operands(c)).sum();
        if tags + terms > MAX_TERMS { Err(FilterError::TooMany) } else { Ok(query) }
    }

    /// Whether this peer matches. A missing property matches only `$ne`.
    pub fn matches<L>(&self, member: &Registrant<L>) -> bool {
        self.role.is_none_or(|role| role == member.role) && self.describes(&member.metadata)
    }

    fn describes(&self, metadata: &Metadata) -> bool {
        let tagged = |tags: &Vec<String>| {
            tags.is_empty() || tags.iter().any(|tag| metadata.tags.contains(tag))
        };
        self.tags.as_ref().is_none_or(tagged)
            && self
                .properties
                .iter()
                .all(|(name, condition)| condition.holds(metadata.properties.get(name)))
    }
}

fn is_operators(object: &Map<String, Value>) -> bool {
    object.keys().any(|key| key.starts_with('$'))
}

impl Condition {
    fn new(property: &str, operator: String, operand: Value) -> Result<Self, FilterError> {
        let comparison = match operator.as_str() {
            "$eq" => return Ok(Self::Equal(operand)),
            "$ne" => return Ok(Self::NotEqual(operand)),
            "$in" => match operand {
                Value::Array(values) => return Ok(Self::OneOf(values)),
                _ => return Err(needs(property, operator, "a list")),
            },
            "$gt" => Comparison::Greater,
            "$gte" => Comparison::GreaterOrEqual,
            "$lt" => Comparison::Less,
            "$lte" => Comparison::LessOrEqual,
            _ => return Err(FilterError::UnknownOperator { property: property.into(), operator }),
        };
        match operand {
            Value::Number(_) | Value::String(_) => Ok(Self::Ordered(comparison, operand)),
            _ => Err(needs(property, operator, "a number or a text")),
        }
    }

    fn holds(&self, value: Option<&Value>) -> bool {
        match (self, value) {
            (Self::NotEqual(operand), value) => value.is_none_or(|value| !equal(value, operand)),
            (_, None) => false,
            (Self::Equal(operand), Some(value)) => equal(value, operand),
            (Self::OneOf(operands), Some(value)) => operands.iter().any(|o| equal(value, o)),
            (Self::Ordered(comparison, operand), Some(value)) => {
                compare(value, operand).is_some_and(|order| comparison.accepts(order))
            }
        }
    }
}

fn needs(property: &str, operator: String, needed: &'static str) -> FilterError {
    FilterError::Operand { property: property.into(), operator, needed }
}

impl Comparison {
    fn accepts(self, order: Ordering) -> bool {
        match self {
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
        }
    }
}

/// Treats `8192` and `8192.0` as equal, because languages write numbers differently.
fn equal(a: &Value, b: &Value) -> bool {
    compare(a, b).map_or_else(|| a == b, Ordering::is_eq)
}

fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn query(filters: Value) -> Result<Query, FilterError> {
        Query::new(serde_json::from_value(filters).unwrap())
    }

    fn worker() -> Metadata {
        serde_json::from_value(json!({
            "tags": ["sleap-rtc", "training-worker"],
            "properties": {"gpu_memory_mb": 16384, "status": "available", "cuda_version": "12.4"},
        }))
        .unwrap()
    }

    #[test]
    fn conditions_decide_as_they_say() {
        for (filters, wanted) in [
            (json!({}), true),
            (json!({"tags": ["training-worker", "other"]}), true),
            (json!({"tags": ["other"]}), false),
            (json!({"tags": []}), true),
            (json!({"properties": {"status": "available"}}), true),
            (json!({"properties": {"status": "busy"}}), false),
            (json!({"properties": {"status": {"$ne": "busy"}}}), true),
            (json!({"properties": {"absent": {"$ne": 1}}}), true),
            (json!({"properties": {"absent": {"$gte": 0}}}), false),
            (json!({"properties": {"gpu_memory_mb": 16384.0}}), true),
            (json!({"properties": {"gpu_memory_mb": {"$gte": 16384}}}), true),
            (json!({"properties": {"gpu_memory_mb": {"$gt": 16384}}}), false),
            (json!({"properties": {"gpu_memory_mb": {"$lt": 16384}}}), false),
            (json!({"properties": {"gpu_memory_mb": {"$lte": 16384, "$gt": 1}}}), true),
            (json!({"properties": {"gpu_memory_mb": {"$gte": "many"}}}), false),
            (json!({"properties": {"status": {"$in": ["busy", "available"]}}}), true),
            (json!({"properties": {"status": {"$in": []}}}), false),
            (json!({"properties": {"cuda_version": {"$eq": "12.4"}}}), true),
        ] {
            assert_eq!(query(filters.clone()).unwrap().describes(&worker()), wanted, "{filters}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let unknown = query(json!({"properties": {"x": {"$regex": "."}}})).unwrap_err();
        assert!(unknown.to_string().contains("$regex"), "{unknown}");
        assert!(query(json!({"properties": {"x": {"$in": 1}}})).is_err());
        assert!(query(json!({"properties": {"x": {"$gte": null}}})).is_err());
        assert!(query(json!({"properties": {"x": {"$in": vec![1; 65]}}})).is_err());
        assert!(query(json!({"tags": vec!["t"; 65]})).is_err());
    }
}
