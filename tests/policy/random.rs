//! Files of random bytes, and components with random damage, in the place of a plugin.

use crate::support::{training, worker};
use proptest::prelude::*;
use proptest::sample::Index;
use sleap_rtc::policy::{ExtensionPoint, Policies, PolicyConfig};

/// Loads these bytes at every extension point and, where that works, asks. Whatever happens, the
/// host must answer, and a job must have somebody to go to.
fn survives(bytes: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("some.wasm"), bytes).unwrap();
    for point in ExtensionPoint::ALL {
        let mut config = PolicyConfig::new(dir.path().to_owned());
        match point {
            ExtensionPoint::Selection => &mut config.selection,
            ExtensionPoint::Compatibility => &mut config.compatibility,
            ExtensionPoint::Estimate => &mut config.estimate,
        }
        .plugin = Some("some".into());
        let policies = match Policies::load(&config) {
            Ok(policies) => policies,
            Err(error) => {
                let said = error.to_string();
                assert!(said.starts_with(&format!("[policy.{}]", point.key())), "{said}");
                assert!(!said.contains('\n') && said.len() < 1000, "{said}");
                continue;
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let workers = [worker("w", &[1000])];
        runtime.block_on(async {
            match point {
                ExtensionPoint::Selection => {
                    let selection = policies.select(&training(), &workers).await;
                    assert!(selection.ranking.len() <= 1);
                }
                ExtensionPoint::Compatibility => {
                    drop(policies.check(&training(), &workers[0]).await)
                }
                ExtensionPoint::Estimate => drop(policies.estimate(&training(), &workers[0]).await),
            }
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn random_files_are_refused(
        header in prop::sample::select(vec![
            &b""[..], b"\0asm\x0d\0\x01\0", b"\0asm\x01\0\0\0", b"\0asm\x0d\0\x01\0\x01\x08\0asm\x01\0\0\0",
        ]),
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        survives(&[header, bytes.as_slice()].concat());
    }
}

proptest! {
    // Those that still compile cost a compilation each.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn damaged_components_harm_nobody(
        flips in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4),
        cut in prop::option::weighted(0.2, any::<Index>()),
    ) {
        let mut bytes = std::fs::read(test_guests::dir().join("hostile-guest.wasm")).unwrap();
        for (place, byte) in flips {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        survives(&bytes);
    }
}
