//! Hides secrets from the command line that other users see (`ps`, `/proc/PID/cmdline`).

use std::io;
use std::ops::Range;

/// Options whose value is a secret.
const SECRET_OPTIONS: [&[u8]; 5] =
    [b"--token", b"-t", b"--session-string", b"--session_string", b"--pair"];
/// The subcommand whose own arguments are a code.
const PAIR: &[u8] = b"pair";
/// Prefixes of arguments that are secrets themselves.
const SECRET_STARTS: [&[u8]; 2] = [b"sleap-session:", b"sleap-job:"];

/// Overwrites the secrets among this process's arguments, which must have been read before. Some
/// systems do not allow this; the documentation says what to do there.
pub(crate) fn hide_secrets() -> io::Result<()> {
    sleap_rtc_base::os::overwrite_arguments(secrets)
}

/// Whether a secret is among these arguments.
#[cfg(all(target_os = "linux", any(feature = "worker", feature = "signaling")))]
pub(crate) fn has_secrets(arguments: &[String]) -> bool {
    !secrets(arguments.join("\0").as_bytes()).is_empty()
}

/// The positions of secrets in a command line whose words end in NUL.
fn secrets(line: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let (mut at, mut is_value, mut pairs) = (0, false, false);
    for word in line.split(|byte| *byte == 0) {
        let end = at + word.len();
        let value = SECRET_OPTIONS.iter().find_map(|option| {
            let rest = word.strip_prefix(*option)?;
            let is_short = option.len() == 2;
            match rest.strip_prefix(b"=") {
                Some(value) => Some(value.len()),
                None => (is_short && !rest.is_empty()).then_some(rest.len()),
            }
        });
        let is_secret = SECRET_STARTS.iter().any(|start| word.starts_with(start))
            || (is_value && word != b"-")
            || (pairs && is_of_a_code(word));
        if is_secret {
            found.push(at..end);
        } else if let Some(length) = value {
            found.push(end - length..end);
        } else if let Some(account) = account(word) {
            found.push(at + account.start..at + account.end);
        }
        is_value = SECRET_OPTIONS.contains(&word);
        pairs |= word == PAIR;
        at = end + 1;
    }
    found.retain(|range| !range.is_empty());
    found
}

/// Whether a word is a pairing code, or a part of one: a number, letters, and marks between them.
fn is_of_a_code(word: &[u8]) -> bool {
    let is_start = word.first().is_some_and(|byte| byte.is_ascii_alphanumeric());
    is_start && word.iter().all(|byte| byte.is_ascii_alphanumeric() || b"- ".contains(byte))
}

/// The account of a TURN server in its URL: `turn:USER:PASSWORD@HOST`.
fn account(word: &[u8]) -> Option<Range<usize>> {
    let start = word.windows(4).position(|part| part == b"turn")?;
    let end = start + word[start..].iter().position(|byte| *byte == b'@')?;
    Some(start + 4..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(words: &str) -> String {
        let mut line = words.replace(' ', "\0").into_bytes();
        for range in secrets(&line) {
            line[range].fill(b'*');
        }
        String::from_utf8(line).unwrap().replace('\0', " ")
    }

    #[test]
    fn only_secrets_are_hidden() {
        for (words, expected) in [
            (
                "p worker --room-id r --token abc --drain",
                "p worker --room-id r --token *** --drain",
            ),
            ("p worker --token=abc -t abc -tabc", "p worker --token=*** -t *** -t***"),
            ("p worker --token - --drain", "p worker --token - --drain"),
            ("p client-train -s sleap-session:x", "p client-train -s ***************"),
            ("p attach sleap-job:abc", "p attach *************"),
            ("p worker --ice-server turn:a:b@host:1", "p worker --ice-server turn****@host:1"),
            (
                "p pair 4-harbor-violin --signaling ws://a:1",
                "p pair *************** --signaling ws://a:1",
            ),
            ("p pair -v 4 harbor violin", "p pair -v * ****** ******"),
            ("p worker --pair 4-harbor-violin", "p worker --pair ***************"),
            ("p --timeout 5 --title x", "p --timeout 5 --title x"),
        ] {
            assert_eq!(shown(words), expected);
        }
    }
}
