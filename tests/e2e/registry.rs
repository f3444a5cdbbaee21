//! Plugins that are shared through a registry: Debian's `docker-registry` on loopback.

use crate::support::plugins::{LIMIT, ended as says};
use crate::support::*;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

/// Runs `sleap-rtc plugin WORDS`. Nobody is there to answer a question.
fn plugin(home: &Path, words: &[&str]) -> Output {
    let mut command = Site::binary(home, Path::new("/nonexistent"));
    command.arg("plugin").args(words).stdin(Stdio::null()).output().unwrap()
}

/// A plugin called `fair` that is made of the guest `guest`.
fn fair(site: &Site, guest: &str) -> PathBuf {
    let path = site.folder(guest).join("fair.wasm");
    fs::copy(test_guests::dir().join(format!("{guest}.wasm")), &path).unwrap();
    path
}

fn publish(home: &Path, file: &Path, to: &str) -> Output {
    plugin(home, &["publish", file.to_str().unwrap(), to, "--setting", "prefer=a", LIMIT])
}

/// Publishes and gives the reference with its digest.
fn published(home: &Path, file: &Path, to: &str) -> String {
    let text = says(&publish(home, file, to), 0, &["fair is valid", "published "]);
    let (_, pinned) = text.split_once("plugin add ").unwrap();
    pinned.split_whitespace().next().unwrap().to_owned()
}

fn lock(home: &Path) -> String {
    fs::read_to_string(home.join(".sleap-rtc/plugins/plugins.lock")).unwrap()
}

#[test]
fn a_plugin_is_published_added_with_its_digest_and_updated_after_a_look() {
    let site = Site::new();
    let Some(registry) = TestRegistry::start(&site) else { return };
    let (author, to) = (site.folder("author"), registry.reference("lab/fair:1"));
    let pinned = published(&author, &fair(&site, "custom-policy"), &to);
    assert!(pinned.starts_with(&format!("{to}@sha256:")), "{pinned}");
    let again = published(&author, &fair(&site, "custom-policy"), &to);
    assert_eq!(again, pinned, "the same plugin has another digest");

    // Another user installs it by its tag, and it decides in a room.
    let server = site.server();
    let (small, _large) = TestWorker::small_and_large(&site, &server, 0.02);
    let client = site.client(&server).arguments(&["why"]).room(small.credentials());
    let home = client.home().to_owned();
    let add = ["add", &to, "--setting", "prefer=a", LIMIT];
    says(&plugin(&home, &add), 0, &["fetched ", &pinned, "fair is installed", "and accepted"]);
    assert!(lock(&home).contains(&format!("\"fair.wasm\" = \"{pinned}\"")), "{}", lock(&home));
    says(&plugin(&home, &["update", "fair", LIMIT]), 0, &["fair is up to date", &pinned]);
    let config = "[policy]\nrecord = \"decisions.jsonl\"\nlocked = true\n[policy.selection]\n\
                  plugin = \"fair\"\nsettings = { prefer = \"elsewhere\" }\ntimeout = \"20 s\"\n";
    fs::write(home.join("sleap-rtc.toml"), config).unwrap();
    client.run_within(SOON).assert_code(0).assert_says(&["any other machine"]);

    // The author changes it: it now takes the first of the list alone.
    let new = published(&author, &fair(&site, "hostile-guest"), &to);
    let (old_digest, new_digest) = (digest(&pinned), digest(&new));
    assert_ne!(old_digest, new_digest);
    // The table has the beginning of each.
    let table = ["version", "digest", &old_digest[..30], &new_digest[..30], "BLAKE3", "worlds"];
    let shown = plugin(&home, &["update", "fair", LIMIT]);
    let text = says(&shown, 130, &table);
    println!("{text}");
    says(&shown, 130, &["of 1 decisions 1 differs", "he installed version stays", "--yes"]);
    assert!(lock(&home).contains(old_digest) && !lock(&home).contains(new_digest));
    says(&plugin(&home, &["update", "fair", "--yes", LIMIT]), 0, &["differs", "is installed"]);
    assert!(lock(&home).contains(new_digest) && !lock(&home).contains(old_digest));

    // Back to what was there, by its digest.
    let back = ["add", &pinned, "--setting", "prefer=a", LIMIT];
    says(&plugin(&home, &back), 0, &["fair is installed"]);
    assert!(lock(&home).contains(old_digest));
    says(&plugin(&home, &["list"]), 0, &["fair.wasm", " accepted", "selection"]);
    says(&plugin(&home, &["update", "fair", "--tag", "3"]), 2, &[":3 does not exist"]);
    says(&plugin(&home, &["update", "other"]), 2, &["other did not come from a registry"]);
}

fn digest(pinned: &str) -> &str {
    pinned.split_once('@').unwrap().1
}

#[test]
fn a_digest_that_does_not_match_is_refused() {
    let site = Site::new();
    let Some(registry) = TestRegistry::start(&site) else { return };
    let (home, to) = (site.folder("home"), registry.reference("lab/fair:1"));
    let file = fair(&site, "custom-policy");
    let pinned = published(&home, &file, &to);
    // Somebody changes a byte of the plugin, and then the manifest.
    let component = fs::read(&file).unwrap();
    let mut other = component.clone();
    other[component.len() / 2] ^= 1;
    registry.replace(&sha256(&component), &other);
    let refused = ["is not what was expected", "the digest of its component is"];
    for from in [&to, &pinned] {
        says(&plugin(&home, &["add", from, LIMIT]), 2, &refused);
    }
    registry.replace(&sha256(&component), &component);
    registry.replace(digest(&pinned), b"{}");
    let text = says(&plugin(&home, &["add", &pinned, LIMIT]), 2, &[]);
    let is_refused = text.contains("the digest of its manifest is") || text.contains("answers 500");
    assert!(is_refused, "{text}");
    assert!(!home.join(".sleap-rtc/plugins").exists());
    // A digest that was never there.
    let never = format!("{to}@sha256:{}", "0".repeat(64));
    says(&plugin(&home, &["add", &never, LIMIT]), 2, &["does not exist, or only for others"]);
}

fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

#[test]
fn a_registry_that_asks_for_a_login_gets_the_one_of_other_tools() {
    let site = Site::new();
    let Some(registry) = TestRegistry::start_for_ada(&site) else { return };
    let (home, to) = (site.folder("home"), registry.reference("fair:1"));
    let file = fair(&site, "custom-policy");
    let words = ["asks for a login", "docker login", ".docker/config.json"];
    says(&publish(&home, &file, &to), 3, &words);
    registry.log_in(&home);
    let pinned = published(&home, &file, &to);
    let add = ["add", &pinned, "--setting", "prefer=a", LIMIT];
    says(&plugin(&home, &add), 0, &["fair is installed"]);
}

#[test]
fn a_reference_that_cannot_be_meant_is_explained() {
    let site = Site::new();
    let home = site.folder("home");
    for (reference, words) in [
        ("oci://ghcr.io", "expects oci://REGISTRY/NAME:TAG"),
        ("oci://ghcr.io/Fair:1", "is not a name in a registry"),
        ("oci://ghcr.io/fair@sha256:1", "64 lower-case hexadecimal digits"),
    ] {
        says(&plugin(&home, &["add", reference]), 2, &[words]);
    }
    says(&plugin(&home, &["add", "oci://127.0.0.1:9/fair:1"]), 3, &["cannot reach the registry"]);
}
