//! Identifiers that cannot be guessed.

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
    ::hex::encode(bytes)
}
