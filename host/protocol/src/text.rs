//! Text that came from elsewhere and is shown to a person.

use std::fmt;

/// A text from a peer, a package, a plugin, a server or another program, made safe for a terminal, a
/// table and a log: it contains only characters that can be seen, so it neither steers a terminal nor
/// reorders or hides what stands beside it, and it has at most the given number of characters.
///
/// ```
/// use sleap_rtc_protocol::text::Printable;
///
/// let name = Printable::line("gpu-1\x1b[2J\u{202e}\n(idle)", 40);
/// assert_eq!(name.as_str(), "gpu-1[2J (idle)");
/// assert_eq!(Printable::line("a long name", 7).to_string(), "a long…");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Printable(String);

impl Printable {
    /// `text` on one line, with at most `max_chars` characters. White space of every kind becomes a
    /// single space. A text that is cut ends in `…`.
    pub fn line(text: &str, max_chars: usize) -> Self {
        if is_plain_line(text.as_bytes()) && text.len() <= max_chars {
            return Self(text.to_owned());
        }
        let mut line = String::new();
        for word in text.split_whitespace() {
            let clean = word.chars().filter(|c| is_printable(*c));
            let before = line.len();
            if before > 0 {
                line.push(' ');
            }
            let start = line.len();
            line.extend(clean);
            if line.len() == start {
                line.truncate(before);
            }
        }
        Self(shorten(line, max_chars))
    }

    /// The name that a machine or a person has chosen, with at most `max_chars` characters. It is in quotation
    /// marks if it has more than letters, digits, hyphens, dots, underscores and at signs, so that its words
    /// are not taken for those of the line in which it stands.
    ///
    /// ```
    /// use sleap_rtc_protocol::text::Printable;
    ///
    /// assert_eq!(Printable::name("gpu-1.lab", 40).as_str(), "gpu-1.lab");
    /// let long = Printable::name("gpu-1  status: \"idle\"", 40);
    /// assert_eq!(long.as_str(), "\"gpu-1 status: 'idle'\"");
    /// ```
    pub fn name(text: &str, max_chars: usize) -> Self {
        let line = Self::line(text, max_chars);
        let is_plain = |c: char| c.is_alphanumeric() || "-._@".contains(c);
        if !line.0.is_empty() && line.0.chars().all(is_plain) {
            return line;
        }
        Self(format!("\"{}\"", line.0.replace('"', "'")))
    }

    /// `text` with its line breaks and its indentation, with at most `max_chars` characters. For
    /// messages of several lines, such as a trainer's last words.
    pub fn lines(text: &str, max_chars: usize) -> Self {
        let clean = |line: &str| -> String {
            let spaced = line.chars().map(|c| if c.is_whitespace() { ' ' } else { c });
            let kept: String = spaced.filter(|c| is_printable(*c)).collect();
            kept.trim_end().to_owned()
        };
        let lines: Vec<String> = text.lines().map(clean).collect();
        Self(shorten(lines.join("\n"), max_chars))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A duration in seconds for people: `40 s`, `35 min`, `3.5 h`, `2.0 d`.
pub fn duration(seconds: f64) -> String {
    match seconds {
        ..99.5 => format!("{:.0} s", seconds.max(0.0)),
        ..7200.0 => format!("{:.0} min", seconds / 60.0),
        ..172_800.0 => format!("{:.1} h", seconds / 3600.0),
        _ => format!("{:.1} d", seconds / 86_400.0),
    }
}

/// The first `max_chars` characters, the last of them `…` if there are more.
fn shorten(mut text: String, max_chars: usize) -> String {
    if text.char_indices().nth(max_chars).is_none() {
        return text;
    }
    let kept = max_chars.saturating_sub(1);
    let end = text.char_indices().nth(kept).map_or(text.len(), |(end, _)| end);
    text.truncate(end);
    if max_chars > 0 {
        text.push('…');
    }
    // Thousands of lines are kept, each cut from a line that may have been very long.
    text.shrink_to_fit();
    text
}

/// Whether a text is one line as it should be: words of printable ASCII with one space between them. Most texts
/// are, and to find that out is much faster than to look at each character.
fn is_plain_line(text: &[u8]) -> bool {
    let is_apart = |pair: &[u8]| pair != b"  ";
    let is_trimmed = !text.starts_with(b" ") && !text.ends_with(b" ");
    is_trimmed
        && text.iter().all(|byte| matches!(byte, b' '..=b'~'))
        && text.windows(2).all(is_apart)
}

/// Whether `c` can be seen where it stands: it is not a control character, not one that changes the
/// direction or the shape of its neighbours, and not one without a meaning.
pub fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return c == ' ' || c.is_ascii_graphic();
    }
    // `Debug` escapes exactly what cannot be seen. It also escapes an accent at the start of a text,
    // where there is no letter to stand on.
    let mut buffer = [b'a'; 5];
    let length = c.encode_utf8(&mut buffer[1..]).len();
    let text = std::str::from_utf8(&buffer[..=length]).unwrap_or_default();
    text.escape_debug().nth(1) == Some(c)
}

impl fmt::Display for Printable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for Printable {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<Printable> for String {
    fn from(text: Printable) -> Self {
        text.0
    }
}

/// The known word that is most similar to `word`, if any is similar.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // Comparing costs the square of the length, and no known word is longer.
    let word: String = word.chars().take(64).collect();
    let rated = known.into_iter().map(|known| (strsim::jaro_winkler(&word, known), known));
    let similar = rated.filter(|(similarity, _)| *similarity > 0.8);
    similar.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Characters that reorder text, hide in it or steer a terminal.
    const HIDDEN: [char; 14] = [
        '\x1b',
        '\x07',
        '\x7f',
        '\u{9b}',
        '\u{ad}',
        '\u{61c}',
        '\u{200b}',
        '\u{200e}',
        '\u{202e}',
        '\u{2066}',
        '\u{2069}',
        '\u{feff}',
        '\u{fff9}',
        '\u{e0041}',
    ];

    fn hostile() -> impl Strategy<Value = String> {
        let character = prop_oneof![
            any::<char>(),
            prop::sample::select(&HIDDEN[..]),
            prop::sample::select(&['a', ' ', '\n', '\r', '\t', '\u{2028}', 'é', '鼠'][..]),
        ];
        prop::collection::vec(character, 0..64).prop_map(|all| all.into_iter().collect())
    }

    proptest! {
        #[test]
        fn a_line_has_only_what_can_be_seen(text in hostile(), max_chars in 0..80usize) {
            let line = Printable::line(&text, max_chars);
            prop_assert!(line.as_str().chars().count() <= max_chars);
            prop_assert!(!line.as_str().chars().any(|c| c.is_control() || HIDDEN.contains(&c)));
            prop_assert!(!line.as_str().chars().any(|c| c != ' ' && c.is_whitespace()));
            // It is safe already.
            prop_assert_eq!(&Printable::line(line.as_str(), max_chars), &line);
        }

        #[test]
        fn a_message_keeps_its_lines_and_nothing_else(text in hostile(), max_chars in 0..80usize) {
            let lines = Printable::lines(&text, max_chars);
            prop_assert!(lines.as_str().chars().count() <= max_chars);
            let hidden = |c: char| (c.is_control() && c != '\n') || HIDDEN.contains(&c);
            prop_assert!(!lines.as_str().chars().any(hidden));
        }
    }

    #[test]
    fn what_is_cut_off_takes_no_memory() {
        assert!(shorten("x".repeat(1 << 20), 2_000).capacity() < 4_000);
    }

    #[test]
    fn what_people_write_stays() {
        for text in
            ["C57BL/6 – Käfig 3 (♀)", "鼠标 訓練", "e\u{301}tude", "\"a\" \\ 'b'", "🐭 100 %"]
        {
            assert_eq!(Printable::line(text, 100).as_str(), text);
        }
        assert_eq!(Printable::line("a\r\n\t b \u{2028}\u{200b} c", 100).as_str(), "a b c");
        assert_eq!(Printable::lines("a:\r\n  b\x1b[0m\n", 100).as_str(), "a:\n  b[0m");
        assert_eq!(Printable::line("ääää", 3).as_str(), "ää…");
        assert_eq!(format!("{:<4}|", Printable::line("ab", 9)), "ab  |");
    }
}
