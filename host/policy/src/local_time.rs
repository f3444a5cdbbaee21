//! The local time, which every call passes to the plugin because plugins have no clock.

use super::bindings::types::{Property, Value};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};
use std::fmt;
use std::str::FromStr;

/// A date and a time of day in the host's time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime(DateTime);

impl LocalTime {
    /// The time in tests of plugins: an ordinary Wednesday at ten in the morning.
    pub(crate) const ORDINARY: Self = Self(DateTime::constant(2026, 1, 14, 10, 0, 0, 0));

    /// The beginning of a week, for traces that are made up.
    pub(crate) const MONDAY: Self = Self(DateTime::constant(2026, 1, 12, 0, 0, 0, 0));

    /// The present time in the time zone of `TZ` or the system, or in UTC if neither is set.
    pub fn now() -> Self {
        Self(Zoned::now().datetime())
    }

    /// The local time at so many milliseconds since 1970.
    pub fn at_ms(ms: u64) -> Self {
        let at = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        at.map_or(Self::ORDINARY, |at| Self(at.to_zoned(TimeZone::system()).datetime()))
    }

    /// So many milliseconds later.
    pub(crate) fn after_ms(self, ms: u64) -> Self {
        let later = SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX));
        Self(self.0.saturating_add(later))
    }

    /// The properties for plugins, with a resolution of a minute.
    pub(crate) fn properties(self) -> Vec<Property> {
        let Self(time) = self;
        let text = |format: &str| Value::Text(time.strftime(format).to_string());
        let weekday = Value::Integer(time.weekday().to_monday_one_offset().into());
        let property = |key: &str, value| Property { key: key.into(), value };
        vec![
            property("local-date", text("%Y-%m-%d")),
            property("local-time", text("%H:%M")),
            property("local-weekday", weekday),
        ]
    }
}

impl fmt::Display for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.strftime("%Y-%m-%dT%H:%M"))
    }
}

impl FromStr for LocalTime {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        DateTime::strptime("%Y-%m-%dT%H:%M", text)
            .map(Self)
            .map_err(|_| "expects a date and a time, such as 2026-01-14T10:00")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_receive_date_time_and_weekday() {
        let told = |text: &str| {
            let properties = text.parse::<LocalTime>().unwrap().properties();
            let told = properties.into_iter().map(|property| match property.value {
                Value::Text(text) => format!("{} {text}", property.key),
                Value::Integer(number) => format!("{} {number}", property.key),
                _ => panic!("another value"),
            });
            told.collect::<Vec<_>>()
        };
        let monday = ["local-date 2026-01-05", "local-time 08:05", "local-weekday 1"];
        assert_eq!(told("2026-01-05T08:05"), monday);
        assert_eq!(told("2026-01-11T23:59")[2], "local-weekday 7");
        let later = LocalTime::MONDAY.after_ms(36 * 3_600_000 + 59_999);
        assert_eq!(later.to_string(), "2026-01-13T12:00");
        assert_eq!(LocalTime::ORDINARY.to_string(), "2026-01-14T10:00");
        assert_eq!(LocalTime::ORDINARY.to_string().parse(), Ok(LocalTime::ORDINARY));
        for wrong in ["", "10:00", "2026-01-32T10:00", "2026-01-14T25:00", "2026-01-14T10:00Z"] {
            assert!(wrong.parse::<LocalTime>().is_err(), "{wrong}");
        }
    }
}
