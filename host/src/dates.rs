//! Times as people read them.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The day (UTC) of a time in seconds since 1970, such as `2026-11-30`.
pub(crate) fn day(at_s: u64) -> String {
    let time = i64::try_from(at_s).ok().and_then(|at_s| Timestamp::from_second(at_s).ok());
    time.map_or_else(|| "never".to_owned(), |time| time.to_zoned(TimeZone::UTC).date().to_string())
}

/// How long before `now_s` a time was.
pub(crate) fn ago(now_s: u64, at_s: u64) -> String {
    match now_s.saturating_sub(at_s) {
        0..120 => "just now".to_owned(),
        seconds @ 120..7_200 => format!("{} min ago", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h ago", seconds / 3_600),
        seconds => format!("{} days ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_ages() {
        assert_eq!(day(0), "1970-01-01");
        assert_eq!(day(1_796_083_199), "2026-11-30");
        assert_eq!(day(u64::MAX), "never");
        assert_eq!(ago(10, 20), "just now");
        assert_eq!(ago(7_300, 60), "2 h ago");
    }
}
