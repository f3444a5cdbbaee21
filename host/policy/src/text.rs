//! Texts that cross the boundary between host and guests.

/// `text` on one line, without control characters and shortened to about `limit` bytes: safe for a
/// terminal and a log.
pub(super) fn one_line(text: &str, limit: usize) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut line: String = clip(text, limit).chars().map(clean).collect();
    if line.len() < text.len() {
        line.push('…');
    }
    line.truncate(line.trim_end().len());
    line
}

/// The first `limit` bytes of `text`, or slightly fewer, so that no character is cut.
pub(super) fn clip(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_removed() {
        assert_eq!(one_line("a\r\n\x1b[2Jb\n", 100), "a   [2Jb");
        assert_eq!(one_line("ääää", 5), "ää…");
        assert_eq!(one_line("", 5), "");
    }
}
