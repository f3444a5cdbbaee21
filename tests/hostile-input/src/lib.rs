//! Tests decoders of data from the network with damaged inputs, and checks that they free their memory.
//!
//! Each test has 5,000 inputs, or as many as `PROPTEST_CASES` says. It prints the number of inputs, the
//! duration and the memory (`--nocapture`, or nextest's `--success-output final`).

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{TestCaseResult, TestRunner};
use std::time::Instant;

/// The number of inputs of each test.
const CASES: u32 = 5_000;
/// How far the memory of this process may grow after the first inputs.
const MAX_GROWTH_KIB: u64 = 16 << 10;
/// The longest input that repetition creates, in bytes: twice the longest message of a data
/// channel.
const SWOLLEN_BYTES: usize = 128 << 10;

/// Passes each input to `test`. An input that fails or panics is made smaller and shown.
///
/// # Panics
///
/// Panics if an input fails, or if the inputs together leak memory.
pub fn each<S: Strategy>(what: &str, inputs: S, test: impl Fn(S::Value) -> TestCaseResult) {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|number| number.parse().ok());
    let cases = asked.unwrap_or(CASES);
    let run = |cases| {
        let config =
            ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
        if let Err(failure) = TestRunner::new(config).run(&inputs, &test) {
            panic!("{what}: {failure}");
        }
    };
    // The first inputs fill pools and caches that remain.
    let first = cases / 10;
    run(first);
    let (before, start) = (Memory::now(), Instant::now());
    run(cases - first);
    let after = Memory::now();
    let seconds = start.elapsed().as_secs_f64();
    let grown_kib = after.peak_kib.saturating_sub(before.peak_kib);
    println!(
        "{what}: {cases} inputs, the last {} in {seconds:.1} s; memory {} KiB before, {} KiB after, \
         its peak rose by {grown_kib} KiB",
        cases - first,
        before.resident_kib,
        after.resident_kib,
    );
    assert!(grown_kib <= MAX_GROWTH_KIB, "{what}: the peak memory grew by {grown_kib} KiB");
}

/// A temporary folder for inputs that are files, in memory if possible, because a disk would be too
/// slow.
///
/// # Panics
///
/// Panics if it cannot be created.
pub fn folder() -> tempfile::TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    match in_memory.or_else(|_| tempfile::tempdir()) {
        Ok(folder) => folder,
        Err(error) => panic!("no temporary folder: {error}"),
    }
}

/// The memory of this process.
struct Memory {
    resident_kib: u64,
    /// The peak so far.
    peak_kib: u64,
}

impl Memory {
    /// All zero if the system does not report it.
    fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kib = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
            number.unwrap_or_default()
        };
        Self { resident_kib: kib("VmRSS:"), peak_kib: kib("VmHWM:") }
    }
}

/// One of `whole` in which a few parts are removed, doubled, or replaced by part of another or by
/// something unexpected. Sometimes an extremely long input, and sometimes random text.
pub fn damaged(whole: Vec<String>) -> impl Strategy<Value = String> {
    let donors = whole.clone();
    let change = (any::<Index>(), 0..24_usize, odd(donors));
    let changed = (select(whole), vec(change, 0..4)).prop_map(|(whole, changes)| {
        let mut bytes = whole.into_bytes();
        for (at, length, new) in changes {
            let start = at.index(bytes.len() + 1);
            let end = (start + length).min(bytes.len());
            bytes.splice(start..end, new.into_bytes());
        }
        String::from_utf8_lossy(&bytes).into_owned()
    });
    prop_oneof![91 => changed, 8 => any::<String>(), 1 => swollen()]
}

/// Bytes of `whole` with some replaced and some removed, or random bytes.
pub fn damaged_bytes(
    whole: impl Strategy<Value = Vec<u8>> + 'static,
) -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<Index>(), any::<u8>()), 0..6);
    let cut = (any::<Index>(), 0..8_usize);
    let changed = (whole, changes, cut).prop_map(|(mut bytes, changes, (at, length))| {
        if bytes.is_empty() {
            return bytes;
        }
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let start = at.index(bytes.len());
        bytes.drain(start..(start + length).min(bytes.len()));
        bytes
    });
    prop_oneof![8 => changed, 1 => vec(any::<u8>(), 0..200)]
}

/// A replacement that the decoder does not expect.
fn odd(donors: Vec<String>) -> impl Strategy<Value = String> {
    let piece = (select(donors), any::<Index>(), 0..40_usize).prop_map(|(donor, at, length)| {
        let start = at.index(donor.len().max(1));
        donor.chars().skip(start).take(length).collect::<String>()
    });
    let words = [
        "",
        "\"",
        "\\",
        "{",
        "}",
        "[",
        "]",
        ":",
        "::",
        ",",
        "\r",
        "\n",
        "\0",
        "null",
        "true",
        "-1",
        "0",
        "65536",
        "4294967296",
        "18446744073709551616",
        "1e999",
        "-0.0",
        "NaN",
        "{}",
        "[[]]",
        "\"\"",
        "../",
        "/",
        "C:\\",
        "=",
        "\u{202e}",
        "\u{fffd}",
        "\u{1f41d}",
        "a=",
        " ",
        "typ",
    ];
    prop_oneof![3 => piece, 3 => select(words.to_vec()).prop_map(str::to_owned), 1 => ".{0,6}"]
}

/// A short text repeated very often, to exhaust a parser's stack or memory.
fn swollen() -> impl Strategy<Value = String> {
    let pieces = vec![
        "[",
        "{\"a\":",
        "\"",
        "9",
        "a=candidate:",
        "m=application 9 UDP/DTLS/SCTP x\r\n",
        "::",
        "=",
        "\\u0000",
        "[],",
        "\n",
        "{\"type\":\"offer\",",
    ];
    (select(pieces), 0..SWOLLEN_BYTES).prop_map(|(piece, bytes)| piece.repeat(bytes / piece.len()))
}
