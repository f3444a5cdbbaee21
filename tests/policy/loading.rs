//! Which files are plugins, and the messages about those that are not.

use crate::support::{guest, guest_path, refused, training, worker};
use sleap_rtc_policy::{Policies, PolicyConfig, PolicyError};
use std::path::Path;

#[test]
fn other_files_are_refused_with_advice() {
    let whole = guest("hostile-guest");
    let core = std::fs::read(guest_path("hostile-guest.core")).unwrap();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "not a WebAssembly component"),
        (b"def check(): pass".to_vec(), "not a WebAssembly component"),
        (b"\0asm\x0d\0\x01\0\xff\xfe\xfd\xfc".to_vec(), "it is damaged"),
        (whole[..whole.len() / 2].to_vec(), "truncated"),
        (core, "a core WebAssembly module"),
        (
            guest("custom-policy"),
            "does not export `sleap-rtc:policy/compatibility@0.1.0` \
             (it exports sleap-rtc:policy/selection@0.1.0): build it for the world \
             `compatibility-plugin` or `full-plugin`",
        ),
        (guest("stranger"), "(it exports run): build it for the world `compatibility-plugin`"),
        (
            guest("wasi"),
            "it imports `wasi:cli/environment@0.2.3` and 2 more, but a policy can import only \
             `log`",
        ),
    ];
    for (bytes, expected) in cases {
        says(&bytes, expected);
    }
}

#[test]
fn a_contract_that_differs_is_refused_with_advice() {
    for (name, expected) in [
        ("newer-minor", "but this host supports version 0.1.0: build it with the host's WIT"),
        ("newer-patch", "but this host supports version 0.1.0: build it with the host's WIT"),
        ("another-field", "its records or functions differ from version 0.1.0 of the contract"),
        ("another-case", "its records or functions differ from version 0.1.0 of the contract"),
        ("another-argument", "its records or functions differ from version 0.1.0 of the contract"),
    ] {
        says(&guest(name), expected);
    }
}

#[test]
fn plugins_that_fail_at_start_are_refused_with_advice() {
    for (name, expected) in [
        ("start-loop", "it did not answer within 200 ms and was stopped"),
        ("start-recursion", "its stack overflowed and it was stopped"),
        ("start-trap", "it panicked"),
        ("huge-memory", "it needed more than 64 MiB of memory and was stopped"),
        ("many-memories", "it is larger than a plugin may be, which is 200 instances, 50 memories"),
        ("huge-table", "tables of 100000 entries"),
    ] {
        says(&guest(name), expected);
    }
}

#[track_caller]
fn says(bytes: &[u8], expected: &str) {
    let said = refused(bytes);
    println!("{said}\n");
    assert!(said.contains(expected), "{said}");
    assert!(said.starts_with("[policy.compatibility]"), "{said}");
}

#[test]
fn every_truncated_component_is_refused() {
    let whole = guest("hostile-guest");
    for length in (9..whole.len()).step_by(whole.len() / 20) {
        refused(&whole[..length]);
    }
}

#[test]
fn a_missing_plugin_is_named_with_its_path() {
    let mut config = PolicyConfig::new("plugins/here".into());
    config.selection[0].plugin = Some("fair".into());
    match Policies::load(&config) {
        Err(PolicyError::NotFound { key, plugin, path }) => {
            assert_eq!((key, plugin.as_str()), ("selection", "fair"));
            assert_eq!(path, Path::new("plugins/here/fair.wasm"));
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("accepted"),
    }
}

#[tokio::test]
async fn the_example_for_outsiders_ranks_by_its_setting() {
    let mut config = PolicyConfig::new(test_guests::dir().to_owned());
    config.selection[0].plugin = Some("custom-policy".into());
    config.selection[0].settings.insert("prefer".into(), "quiet.lab".into());
    let policies = Policies::load(&config).unwrap();
    let workers = [worker("loud", &[24_000]), worker("quiet", &[8000])];
    let selection = policies.select(&training(), &workers).await;
    let order: Vec<_> = selection.ranking.iter().map(|choice| choice.index).collect();
    assert_eq!(order, [1, 0]);
    config.selection[0].settings.clear();
    let selection = Policies::load(&config).unwrap().select(&training(), &workers).await;
    assert_eq!(
        selection.notice.as_deref(),
        Some("the selection plugin custom-policy failed; the built-in plugin answered instead")
    );
    assert_eq!(selection.ranking[0].index, 0);
}
