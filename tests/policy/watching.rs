//! A plugin's file changes while the program runs.

use crate::support::{guest, training, worker};
use sleap_rtc_policy::examine::PluginFile;
use sleap_rtc_policy::{ExtensionPoint, Policies, PolicyConfig};
use std::fs;
use std::path::{Path, PathBuf};

/// Replaces the plugin as an installer would: writes a file next to it and renames that.
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
    config.selection[0].plugin = Some("lab".into());
    config.selection[0].settings.insert("prefer".into(), "b.lab".into());
    let policies = Policies::load(&config).unwrap();
    (dir, plugin, policies)
}

/// The reason of the first worker shows which plugin answered.
async fn answer(policies: &Policies) -> String {
    let selection = policies.select(&training(), &[worker("a", &[8]), worker("b", &[4])]).await;
    assert_eq!(selection.notice, None);
    selection.ranking[0].reason()
}

#[tokio::test]
async fn a_changed_plugin_answers_the_next_question() {
    let (_dir, plugin, policies) = watched();
    assert_eq!(answer(&policies).await, "because");
    install(&plugin, &guest("custom-policy"));
    assert_eq!(answer(&policies).await, "the preferred machine");
    // Other holders of the same plugins get the new one, too.
    assert_eq!(answer(&policies.asked_by("peer")).await, "the preferred machine");
    install(&plugin, &guest("hostile-guest"));
    assert_eq!(answer(&policies).await, "because");
    assert_eq!(policies.failures(ExtensionPoint::Selection), 0);
}

#[tokio::test]
async fn an_unusable_file_leaves_the_previous_version_in_use() {
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

#[tokio::test]
async fn a_pipe_or_a_device_in_the_plugins_place_does_not_block() {
    let (_dir, plugin, policies) = watched();
    let made = std::process::Command::new("mkfifo").arg(plugin.with_extension("pipe")).status();
    assert!(made.unwrap().success());
    let devices = ["/dev/zero", "/proc/self/mem"].map(PathBuf::from);
    for odd in [plugin.with_extension("pipe")].iter().chain(&devices) {
        fs::remove_file(&plugin).unwrap();
        std::os::unix::fs::symlink(odd, &plugin).unwrap();
        let start = std::time::Instant::now();
        for _ in 0..2 {
            assert_eq!(answer(&policies).await, "because");
        }
        assert!(start.elapsed() < std::time::Duration::from_secs(5), "{}", odd.display());
        let refused = PluginFile::open_cached(&plugin, None).err().unwrap();
        assert!(refused.to_string().contains("cannot read"), "{refused}");
    }
    fs::remove_file(&plugin).unwrap();
    install(&plugin, &guest("custom-policy"));
    assert_eq!(answer(&policies).await, "the preferred machine");
}

/// A component whose only function has so many blocks that compiling takes minutes.
fn compile_bomb() -> Vec<u8> {
    fn number(mut n: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while n > 127 {
            bytes.push((n & 127) as u8 | 128);
            n >>= 7;
        }
        bytes.push(n as u8);
        bytes
    }
    let section = |id: u8, body: Vec<u8>| [vec![id], number(body.len()), body].concat();
    const FUNCTIONS: usize = 20;
    let ifs = b"\x41\0\x04\x40\x0b".repeat(400_000);
    let body = [vec![0], ifs, vec![0x0b]].concat();
    let function = [number(body.len()), body].concat();
    let code = [number(FUNCTIONS), function.repeat(FUNCTIONS)].concat();
    let types = section(1, vec![1, 0x60, 0, 0]);
    let functions = section(3, [number(FUNCTIONS), vec![0; FUNCTIONS]].concat());
    let module = [b"\0asm\x01\0\0\0".to_vec(), types, functions, section(10, code)].concat();
    [b"\0asm\x0d\0\x01\0".to_vec(), section(1, module)].concat()
}

#[tokio::test]
async fn the_previous_plugin_answers_while_the_next_one_is_compiled() {
    let (_dir, plugin, policies) = watched();
    install(&plugin, &compile_bomb());
    for _ in 0..3 {
        let start = std::time::Instant::now();
        assert_eq!(answer(&policies).await, "because");
        assert!(start.elapsed() < std::time::Duration::from_secs(5), "{:?}", start.elapsed());
    }
    // The process ends even while the compiling thread runs.
}
