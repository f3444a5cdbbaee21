//! Identifiers that cannot be guessed.

use std::fmt::Write;

/// `N` random bytes as lower-case hex digits, two for each.
///
/// ```
/// use sleap_rtc_base::random;
///
/// let id = random::hex::<8>();
/// assert_eq!(id.len(), 16);
/// assert_ne!(id, random::hex::<8>());
/// ```
pub fn hex<const N: usize>() -> String {
    let mut bytes = [0_u8; N];
    rand::fill(&mut bytes[..]);
    bytes.iter().fold(String::with_capacity(2 * N), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
