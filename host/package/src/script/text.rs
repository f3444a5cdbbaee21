//! Decodes scripts, in the encodings that editors write.

/// Decodes a script: UTF-8, or UTF-16, as editors on Windows write it, with any line ends.
///
/// `None` for UTF-16 that is cut short or contains half characters.
pub fn decode(bytes: &[u8]) -> Option<String> {
    let text = match bytes {
        [0xFF, 0xFE, rest @ ..] => utf16(rest, u16::from_le_bytes)?,
        [0xFE, 0xFF, rest @ ..] => utf16(rest, u16::from_be_bytes)?,
        // Without a mark. Scripts begin with a comment or a command.
        [b'#' | b'a'..=b'z', 0, ..] => utf16(bytes, u16::from_le_bytes)?,
        [0, b'#' | b'a'..=b'z', ..] => utf16(bytes, u16::from_be_bytes)?,
        [0xEF, 0xBB, 0xBF, rest @ ..] | rest => String::from_utf8_lossy(rest).into_owned(),
    };
    // Old editors on macOS end lines with `\r` alone.
    Some(text.replace("\r\n", "\n").replace('\r', "\n"))
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Option<String> {
    let (pairs, []) = bytes.as_chunks::<2>() else { return None };
    let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
    String::from_utf16(&units).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_of_editors_are_read() {
        let text = "sleap-nn träin\n";
        let le: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let be: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for bytes in [
            text.as_bytes().to_vec(),
            [b"\xEF\xBB\xBF", text.as_bytes()].concat(),
            [b"\xFF\xFE".as_slice(), &le].concat(),
            [b"\xFE\xFF".as_slice(), &be].concat(),
            le.clone(),
            be.clone(),
            b"sleap-nn tr\xC3\xA4in\r\n".to_vec(),
            b"sleap-nn tr\xC3\xA4in\r".to_vec(),
        ] {
            assert_eq!(decode(&bytes).as_deref(), Some(text));
        }
        assert_eq!(decode(b"\xFF\xFEabc"), None);
        assert_eq!(decode(b"\xFF\xFE\x00\xD8"), None);
    }
}
