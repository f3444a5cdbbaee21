//! The host survives damaged components and random files.

use crate::support::{guest, guest_path};
use proptest::prelude::*;
use sleap_rtc_policy::examine::PluginFile;
use sleap_rtc_policy::{ExtensionPoint, OnFailure, PluginConfig};
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Much longer than compiling and calling take on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// A way to damage a file. Positions are shares of its length.
#[derive(Debug, Clone)]
enum Damage {
    Flip { place: f64, bit: u8 },
    Overwrite { place: f64, bytes: Vec<u8> },
    Cut { place: f64 },
    Repeat { place: f64, length: usize },
}

impl Damage {
    fn inflict(&self, bytes: &mut Vec<u8>) {
        let at = |place: &f64| (place * bytes.len() as f64) as usize;
        match self {
            Self::Flip { place, bit } => {
                let at = at(place);
                bytes[at] ^= 1 << bit;
            }
            Self::Overwrite { place, bytes: new } => {
                let at = at(place);
                let length = new.len().min(bytes.len() - at);
                bytes[at..at + length].copy_from_slice(&new[..length]);
            }
            // The header stays intact, so that the host examines the rest.
            Self::Cut { place } => bytes.truncate(at(place).max(9)),
            Self::Repeat { place, length } => {
                let at = at(place);
                let again = bytes[at..(at + length).min(bytes.len())].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = || 0.0..1.0;
    prop_oneof![
        4 => (place(), 0u8..8).prop_map(|(place, bit)| Damage::Flip { place, bit }),
        2 => (place(), prop::collection::vec(any::<u8>(), 1..16))
            .prop_map(|(place, bytes)| Damage::Overwrite { place, bytes }),
        1 => place().prop_map(|place| Damage::Cut { place }),
        1 => (place(), 1usize..64).prop_map(|(place, length)| Damage::Repeat { place, length }),
    ]
}

/// Loads `bytes` as a plugin at every point and calls it. The host may accept or refuse it, but it
/// must return, and explain a refusal.
fn survives(bytes: &[u8]) {
    let file = tempfile::NamedTempFile::with_suffix(".wasm").unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let start = Instant::now();
    match PluginFile::open(file.path(), Path::new("/nonexistent")) {
        Err(error) => assert!(error.to_string().contains("cannot be used: "), "{error}"),
        Ok(plugin) => {
            for point in ExtensionPoint::ALL {
                match plugin.load(point, &PluginConfig::new(OnFailure::Refuse)) {
                    Err(error) => assert!(error.to_string().contains("cannot be used"), "{error}"),
                    Ok(candidate) => drop(candidate.try_case(&candidate.cases()[0])),
                }
            }
        }
    }
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

static SMALL: LazyLock<Vec<u8>> = LazyLock::new(|| guest("unaltered"));
static WHOLE: LazyLock<Vec<u8>> = LazyLock::new(|| guest("custom-policy"));

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// Mostly types, so most damage is to the contract.
    #[test]
    fn the_host_survives_damaged_contracts(damages in prop::collection::vec(damage(), 1..4)) {
        let mut bytes = SMALL.clone();
        damages.iter().for_each(|damage| damage.inflict(&mut bytes));
        survives(&bytes);
    }

    #[test]
    fn the_host_survives_random_bytes(
        header in prop_oneof![
            Just(&b""[..]), Just(&b"\0asm"[..]), Just(&b"\0asm\x0d\0\x01\0"[..]),
            Just(&b"\0asm\x01\0\0\0"[..]),
        ],
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        survives(&[header, &bytes].concat());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(30) })]

    /// Mostly code, so most damage is to what runs.
    #[test]
    fn the_host_survives_damaged_programs(damage in damage()) {
        let mut bytes = WHOLE.clone();
        damage.inflict(&mut bytes);
        survives(&bytes);
    }
}

#[test]
fn the_undamaged_file_is_valid() {
    for (name, points) in [("unaltered", 3), ("custom-policy", 1)] {
        let file = PluginFile::open(&guest_path(name), Path::new("/nonexistent")).unwrap();
        assert_eq!(file.points().len(), points, "{name}");
        for point in file.points() {
            file.load(point, &PluginConfig::new(OnFailure::Refuse)).map(drop).unwrap();
        }
    }
}
