//! `plugins.lock` and the cache of compiled plugins, as a program that loads policies sees them.

use crate::support::{guest, training, worker};
use sleap_rtc_policy::examine::PluginFile;
use sleap_rtc_policy::lock::{Accepted, Lock, install};
use sleap_rtc_policy::{ExtensionPoint, Policies, PolicyConfig};
use std::fs;
use std::path::Path;
use std::time::Instant;

fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

fn locked(dir: &Path) -> PolicyConfig {
    let mut config = PolicyConfig::new(dir.to_owned());
    config.locked = true;
    config.selection[0].plugin = Some("lab".into());
    config.selection[0].settings.insert("prefer".into(), "b.lab".into());
    config
}

/// Accepts `bytes` as the plugin `lab`, and nothing else.
fn accept(lock: &Lock, bytes: &[u8]) {
    let mut accepted = Accepted::default();
    accepted.insert("lab.wasm".into(), hash(bytes), None);
    lock.accept(&accepted).unwrap();
}

fn refused(config: &PolicyConfig) -> String {
    Policies::load(config).map(drop).unwrap_err().to_string()
}

async fn answer(policies: &Policies) -> String {
    let selection = policies.select(&training(), &[worker("a", &[8]), worker("b", &[4])]).await;
    assert_eq!(selection.notice, None);
    selection.ranking[0].reason()
}

#[test]
fn only_what_was_accepted_is_loaded_and_both_hashes_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, other) = (guest("hostile-guest"), guest("custom-policy"));
    install(&dir.path().join("lab.wasm"), &bytes).unwrap();
    let config = locked(dir.path());
    let said = refused(&config);
    assert!(said.contains("lab.wasm is not in") && said.contains(&hash(&bytes)), "{said}");
    let lock = Lock::of(dir.path());
    accept(&lock, &bytes);
    Policies::load(&config).map(drop).unwrap();
    install(&dir.path().join("lab.wasm"), &other).unwrap();
    let said = refused(&config);
    println!("{said}");
    assert!(said.contains(&hash(&bytes)) && said.contains(&hash(&other)), "{said}");
    fs::write(lock.path(), "plugins = 3").unwrap();
    assert!(refused(&config).contains("plugins.lock is damaged"));
}

#[tokio::test]
async fn a_changed_file_must_be_accepted_before_it_answers() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, other) = (guest("hostile-guest"), guest("custom-policy"));
    let lock = Lock::of(dir.path());
    let accept = |bytes: &[u8]| accept(&lock, bytes);
    install(&dir.path().join("lab.wasm"), &bytes).unwrap();
    accept(&bytes);
    let policies = Policies::load(&locked(dir.path())).unwrap();
    install(&dir.path().join("lab.wasm"), &other).unwrap();
    assert_eq!(answer(&policies).await, "because", "the previous version stays in use");
    accept(&other);
    assert_eq!(answer(&policies).await, "the preferred machine");
}

#[test]
fn the_second_load_comes_from_the_cache() {
    let home = tempfile::tempdir().unwrap();
    let cache = home.path().join("cache");
    let load = || {
        let start = Instant::now();
        let file = PluginFile::embedded(ExtensionPoint::Selection, Some(&cache)).unwrap();
        file.load(ExtensionPoint::Selection, &PolicyConfig::new("x".into()).selection[0]).unwrap();
        start.elapsed()
    };
    load();
    fs::remove_dir_all(&cache).unwrap();
    let (cold, mut cached) = (load(), [load(), load(), load()]);
    cached.sort();
    println!("load of the built-in selector: {cold:?} compiled, {:?} from the cache", cached[0]);
    assert!(cached[0] < cold, "{cached:?}");
    for entry in fs::read_dir(&cache).unwrap() {
        fs::write(entry.unwrap().path(), b"damaged").unwrap();
    }
    load();
}
