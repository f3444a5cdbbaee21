//! Sizes, times and rates as people write them: `50 GiB`, `200 ms`, `14d`, `20 Mbit/s`.

use std::time::Duration;

const SIZES: [(&str, u64); 13] = [
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("kb", 1_000),
    ("kib", 1 << 10),
    ("m", 1 << 20),
    ("mb", 1_000_000),
    ("mib", 1 << 20),
    ("g", 1 << 30),
    ("gb", 1_000_000_000),
    ("gib", 1 << 30),
    ("tb", 1_000_000_000_000),
    ("tib", 1 << 40),
];

const BITS: [(&str, u64); 4] =
    [("bit", 1), ("kbit", 1_000), ("mbit", 1_000_000), ("gbit", 1_000_000_000)];

const TIMES_MS: [(&str, u64); 6] =
    [("ms", 1), ("s", 1_000), ("min", 60_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads a size in bytes: a number and `KB`, `MB`, `GB`, `TB` (powers of 1000) or `KiB` to `TiB`
/// (powers of 1024); a number alone is bytes.
pub fn bytes(text: &str) -> Result<u64, String> {
    scaled(text, &SIZES).ok_or_else(|| format!("expects a size such as `50 GiB`, not `{text}`"))
}

/// Reads a time: a number and `ms`, `s`, `min`, `h` or `d`. The unit may not be left out.
pub fn duration(text: &str) -> Result<Duration, String> {
    scaled(text, &TIMES_MS)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("expects a time such as `200 ms` or `14d`, not `{text}`"))
}

/// Reads a rate, in bytes per second: a size as [`bytes`] reads it, or a number and `kbit`, `Mbit` or
/// `Gbit`, optionally followed by `/s`. A rate of 0 is not allowed.
pub fn rate(text: &str) -> Result<u64, String> {
    let why = || format!("expects a rate such as `10MB/s` or `20Mbit/s`, not `{text}`");
    let size = text.trim().strip_suffix("/s").unwrap_or(text);
    let bytes = scaled(size, &BITS).map(|bits| bits / 8).or_else(|| scaled(size, &SIZES));
    bytes.filter(|bytes| *bytes > 0).ok_or_else(why)
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| c.is_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let (_, factor) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    let number = number.trim_end();
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(*factor);
    }
    let scaled = number.parse::<f64>().ok()? * *factor as f64;
    // Above 2^53 a floating-point number is not exact.
    (scaled.is_finite() && (0.0..9e15).contains(&scaled)).then_some(scaled.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, expected) in [
            ("0", 0),
            ("512", 512),
            ("1 KiB", 1024),
            ("1kb", 1000),
            ("1.5 GiB", 3 << 29),
            ("50GiB", 50 << 30),
            (" 2 TB ", 2_000_000_000_000),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text:?}");
        }
        for bad in ["", "GiB", "-1", "1 PiB", "1 2", "nan", "inf", "99999999999 TiB", "1e400 KB"] {
            assert!(bytes(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn rates_are_of_bytes_or_of_bits() {
        for (text, expected) in [
            ("10MB/s", 10_000_000),
            ("20Mbit/s", 2_500_000),
            ("20 Mbit", 2_500_000),
            ("1.5 MiB/s", 3 << 19),
            ("800 kbit/s", 100_000),
            ("1000", 1_000),
        ] {
            assert_eq!(rate(text), Ok(expected), "{text:?}");
        }
        for bad in ["", "0", "0 MB/s", "4 bit/s", "fast", "10 MB/min", "/s", "-1 MB/s"] {
            assert!(rate(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_need_units() {
        assert_eq!(duration("200 ms"), Ok(Duration::from_millis(200)));
        assert_eq!(duration("14d"), Ok(Duration::from_secs(14 * 86_400)));
        assert_eq!(duration("1.5 h"), Ok(Duration::from_secs(5_400)));
        for bad in ["", "5", "5 weeks", "-1 s", "18446744073709551615 d"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }
}
