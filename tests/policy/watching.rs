//! A plugin's file that changes while the program runs.

use crate::support::{guest, training, worker};
use sleap_rtc_policy::{ExtensionPoint, Policies, PolicyConfig};
use std::fs;
use std::path::{Path, PathBuf};

/// Puts `bytes` in the plugin's place as an installer would: beside it, then renamed.
fn install(plugin: &Path, bytes: &[u8]) {
    let beside = plugin.with_extension("new");
    fs::write(&beside, bytes).unwrap();
    fs::rename(beside, plugin).unwrap();
}

fn watched() -> (tempfile::TempDir, PathBuf, Policies) {
    let dir = tempfile::tempdir().unwrap();
    let plugin = dir.path().join("lab.wasm");
    install(&plugin, &guest("hostile-guest"));
    let mut config = PolicyConfig::new(dir.path().to_owned());
    config.selection.plugin = Some("lab".into());
    config.selection.settings.insert("prefer".into(), "b.lab".into());
    let policies = Policies::load(&config).unwrap();
    (dir, plugin, policies)
}

/// The reason of the first worker tells which plugin answered.
async fn answer(policies: &Policies) -> String {
    let selection = policies.select(&training(), &[worker("a", &[8]), worker("b", &[4])]).await;
    assert_eq!(selection.notice, None);
    selection.ranking[0].reason.clone()
}

#[tokio::test]
async fn a_changed_plugin_answers_the_next_question() {
    let (_dir, plugin, policies) = watched();
    assert_eq!(answer(&policies).await, "because");
    install(&plugin, &guest("custom-policy"));
    assert_eq!(answer(&policies).await, "the preferred machine");
    // Who holds the same plugins already gets the new one too.
    assert_eq!(answer(&policies.asked_by("peer")).await, "the preferred machine");
    install(&plugin, &guest("hostile-guest"));
    assert_eq!(answer(&policies).await, "because");
    assert_eq!(policies.failures(ExtensionPoint::Selection), 0);
}

#[tokio::test]
async fn what_cannot_be_used_leaves_the_last_good_one_in_force() {
    let (_dir, plugin, policies) = watched();
    let whole = guest("custom-policy");
    for bytes in [&whole[..whole.len() / 2], b"", b"def select(): pass"] {
        install(&plugin, bytes);
        assert_eq!(answer(&policies).await, "because");
    }
    fs::remove_file(&plugin).unwrap();
    assert_eq!(answer(&policies).await, "because");
    install(&plugin, &whole);
    assert_eq!(answer(&policies).await, "the preferred machine");
}
