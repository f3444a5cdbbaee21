//! Which files are plugins, and what is said of those that are not.

use crate::support::{refused, training, worker};
use sleap_rtc::policy::{Policies, PolicyConfig, PolicyError};
use std::path::Path;

/// A file of the guests that only tests load.
pub fn guest(file: &str) -> Vec<u8> {
    std::fs::read(test_guests::dir().join(file)).unwrap()
}

/// The hostile guest with every `from` in its bytes replaced by `to`, of the same length.
pub fn altered(from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = guest("hostile-guest.wasm");
    let mut place = 0;
    while place + from.len() <= bytes.len() {
        if bytes[place..].starts_with(from.as_bytes()) {
            bytes[place..place + to.len()].copy_from_slice(to.as_bytes());
        }
        place += 1;
    }
    bytes
}

#[test]
fn what_is_no_plugin_is_refused_with_advice() {
    let whole = guest("hostile-guest.wasm");
    let own_log = "sleap-rtc:policy/log@0.1.0";
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "not a WebAssembly component"),
        (b"def check(): pass".to_vec(), "not a WebAssembly component"),
        (b"\0asm\x0d\0\x01\0\xff\xfe\xfd\xfc".to_vec(), "it is damaged"),
        (whole[..whole.len() / 2].to_vec(), "cut off"),
        (guest("hostile-guest.core.wasm"), "a core WebAssembly module"),
        (
            guest("custom-policy.wasm"),
            "does not export `sleap-rtc:policy/compatibility@0.1.0` \
             (it exports sleap-rtc:policy/selection@0.1.0): build it for the world \
             `compatibility-plugin` or `policy-plugin`",
        ),
        (
            altered(own_log, "wasi:cli/environment@0.2.0"),
            "it imports `wasi:cli/environment@0.2.0`, but a policy gets nothing but `log`",
        ),
        (
            altered("@0.1.0", "@0.2.0"),
            "and this host speaks version 0.1.0: build it with the host's WIT",
        ),
        (
            guest("another-field.wasm"),
            "its records or functions differ from version 0.1.0 of the contract",
        ),
        (
            altered("package-bytes", "package-bites"),
            "its records or functions differ from version 0.1.0 of the contract",
        ),
    ];
    for (bytes, expected) in cases {
        let said = refused(&bytes);
        println!("{said}\n");
        assert!(said.contains(expected), "{said}");
        assert!(said.starts_with("[policy.compatibility]"), "{said}");
    }
}

/// What 0.1.1 adds a plugin cannot need of this host: it would import what is not there.
#[tokio::test]
async fn a_plugin_for_a_later_patch_of_the_contract_answers() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("some.wasm"), altered("@0.1.0", "@0.1.1")).unwrap();
    let mut config = PolicyConfig::new(dir.path().to_owned());
    config.selection.plugin = Some("some".into());
    let policies = Policies::load(&config).unwrap();
    let selection = policies.select(&training(), &[worker("w", &[])]).await;
    assert_eq!((selection.notice, selection.ranking.len()), (None, 1));
}

#[test]
fn every_cut_of_a_component_is_refused() {
    let whole = guest("hostile-guest.wasm");
    for length in (9..whole.len()).step_by(whole.len() / 20) {
        refused(&whole[..length]);
    }
}

#[test]
fn a_missing_plugin_is_named_with_its_path() {
    let mut config = PolicyConfig::new("plugins/here".into());
    config.selection.plugin = Some("fair".into());
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
    config.selection.plugin = Some("custom-policy".into());
    config.selection.settings.insert("prefer".into(), "quiet.lab".into());
    let policies = Policies::load(&config).unwrap();
    let workers = [worker("loud", &[24_000]), worker("quiet", &[8000])];
    let selection = policies.select(&training(), &workers).await;
    let order: Vec<_> = selection.ranking.iter().map(|choice| choice.index).collect();
    assert_eq!(order, [1, 0]);
    config.selection.settings.clear();
    let selection = Policies::load(&config).unwrap().select(&training(), &workers).await;
    assert_eq!(
        selection.notice.as_deref(),
        Some("the selection plugin custom-policy failed; the default was used")
    );
    assert_eq!(selection.ranking[0].index, 0);
}
