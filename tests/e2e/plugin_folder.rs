//! The plugin folder: its plugins, their acceptance, and their compiled form.

use crate::support::plugins::ended as says;
use crate::support::*;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, process::Output};

/// Generous, because the binary under test is not optimized.
const LIMIT: &str = "--timeout-ms=20000";

fn guest(name: &str) -> PathBuf {
    test_guests::dir().join(format!("{name}.wasm"))
}

fn hash(path: &Path) -> String {
    blake3::hash(&fs::read(path).unwrap()).to_hex().to_string()
}

/// Runs `sleap-rtc WORDS`.
fn run(home: &Path, words: &[&str]) -> Output {
    Site::binary(home, Path::new("/nonexistent")).args(words).output().unwrap()
}

fn add<'a>(file: &'a Path, setting: &'a str) -> [&'a str; 6] {
    ["plugin", "add", file.to_str().unwrap(), "--setting", setting, LIMIT]
}

#[test]
fn a_plugin_is_added_listed_locked_and_removed() {
    let site = Site::new();
    let (home, file) = (site.path(), guest("custom-policy"));
    let folder = home.join(".sleap-rtc/plugins");
    let list = |words: &[&str]| says(&run(home, &["plugin", "list"]), 0, words);
    list(&["no plugins in", "the built-in ones are used"]);
    let hostile = guest("hostile-guest");
    says(&run(home, &add(&hostile, "do=panic")), 2, &["it panicked", "hostile-guest is not valid"]);
    assert!(!folder.exists());
    let words = ["custom-policy is valid", "and accepted", "plugin = \"custom-policy\""];
    says(&run(home, &add(&file, "prefer=gpu0.lab")), 0, &words);
    let own = hash(&file);
    list(&[
        "custom-policy.wasm",
        "selection-plugin",
        "sleap-rtc:policy@0.1.0",
        &own[..12],
        " accepted",
    ]);

    let installed = folder.join("custom-policy.wasm");
    fs::copy(&hostile, &installed).unwrap();
    list(&["CHANGED since it was accepted"]);
    let words = ["1 accepted in", &hash(&hostile), "`[policy] locked = true`"];
    says(&run(home, &["plugin", "lock"]), 0, &words);
    list(&["full-plugin", " accepted"]);
    fs::write(folder.join("text.wasm"), "def select(): pass").unwrap();
    list(&["NOT USABLE", "text.wasm cannot be used: it is not a WebAssembly component"]);
    fs::remove_file(folder.join("text.wasm")).unwrap();

    let config = home.join("sleap-rtc.toml");
    fs::write(&config, "[policy.estimate]\nplugin = \"custom-policy\"\n").unwrap();
    list(&[" estimate"]);
    let remove = ["plugin", "remove", "custom-policy"];
    says(&run(home, &remove), 2, &["[policy.estimate] uses custom-policy"]);
    fs::remove_file(config).unwrap();
    says(&run(home, &remove), 0, &["removed custom-policy"]);
    assert!(!fs::read_to_string(folder.join("plugins.lock")).unwrap().contains("custom"));
    list(&["no plugins in"]);
    says(&run(home, &remove), 2, &["cannot remove", "custom-policy.wasm"]);
}

#[test]
fn bench_shows_a_plugin_beside_the_built_in_one() {
    let site = Site::new();
    let file = guest("custom-policy");
    let words = ["plugin", "bench", file.to_str().unwrap(), "--setting", "prefer=gpu0.lab", LIMIT];
    let text = says(&run(site.path(), &words), 0, &["size", "custom-policy", "built-in", "ratio"]);
    let rooms: Vec<_> = text.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(rooms, ["size", "10", "100", "1000"], "{text}");
}

#[test]
fn an_unaccepted_plugin_starts_neither_worker_nor_job() {
    let site = Site::new();
    let home = site.path();
    says(&run(home, &add(&guest("custom-policy"), "prefer=a")), 0, &[]);
    let installed = home.join(".sleap-rtc/plugins/custom-policy.wasm");
    let accepted = hash(&installed);
    fs::copy(guest("hostile-guest"), &installed).unwrap();
    let section = "plugin = \"custom-policy\"\n";
    let config = format!("[policy]\nlocked = true\n[policy.selection]\n{section}");
    fs::write(home.join("sleap-rtc.toml"), config).unwrap();
    let both = [accepted.as_str(), &hash(&installed), "sleap-rtc plugin lock"];
    let package = fixture("train_single.zip");
    let (room, package) = (["--room-id", "r", "--token", "t"], package.to_str().unwrap());
    says(&run(home, &["worker"]), 2, &both);
    let job = [&["client-train", "--pkg-path", package, "--auto-select"][..], &room].concat();
    says(&run(home, &job), 2, &both);
    // Once it is accepted, only the missing server stops the client.
    says(&run(home, &["plugin", "lock"]), 0, &["1 accepted"]);
    let elsewhere = ["--signaling", "ws://127.0.0.1:9"];
    let text = says(&run(home, &[&job[..], &elsewhere].concat()), 3, &[]);
    assert!(!text.contains("locked"), "{text}");
}

#[test]
fn a_compiled_plugin_is_kept_and_not_trusted_once_it_was_modified() {
    let site = Site::new();
    let home = site.path();
    // Otherwise the cache would begin with the built-in plugins.
    fs::create_dir(home.join(".cache")).unwrap();
    says(&run(home, &add(&guest("custom-policy"), "prefer=a")), 0, &[]);
    let list = || says(&run(home, &["plugin", "list"]), 0, &["custom-policy.wasm", " accepted"]);
    let complains =
        |text: &str| text.contains("was not written by this host; compiling the plugin again");
    assert!(!complains(&list()));
    let cache = home.join(".cache/sleap-rtc/plugins");
    let entry = || {
        let files = fs::read_dir(&cache).unwrap().map(|file| file.unwrap().path());
        let mut compiled = files.filter(|path| path.extension().is_some_and(|e| e == "cwasm"));
        (compiled.next().unwrap(), compiled.next()).0
    };
    let written = || (entry().metadata().unwrap().ino(), fs::read(entry()).unwrap());
    let first = written();
    assert!(!complains(&list()));
    assert!(written() == first, "it was compiled again");
    let mut touched = first.1.clone();
    let middle = touched.len() / 2;
    touched[middle] ^= 1;
    fs::write(entry(), &touched).unwrap();
    assert!(complains(&list()));
    assert!(written().1 != touched, "what was touched is still there");
    assert!(!complains(&list()));
}

#[test]
fn a_plugin_that_changes_decides_the_next_job_without_a_restart() {
    let site = Site::new();
    let server = site.server();
    let plugin = site.path().join("lab.wasm");
    // Written beside it and then renamed, like an installer.
    let install = |name: &str| {
        fs::copy(guest(name), plugin.with_extension("new")).unwrap();
        fs::rename(plugin.with_extension("new"), &plugin).unwrap();
    };
    install("hostile-guest");
    let config = format!("[policy.compatibility]\nplugin = {plugin:?}\n");
    let worker = TestWorker::setup(&site, "worker").config(&config).start(&server);
    let train = || site.client(&server).train(&fixture("train_single.zip"));
    train().auto(worker.credentials()).run().assert_code(0);
    install("unaltered");
    let failed = ["refused: the compatibility plugin lab failed"];
    train().auto(worker.credentials()).run().assert_code(5).assert_says(&failed);
    install("hostile-guest");
    train().auto(worker.credentials()).run().assert_code(0);
    assert_eq!(worker.trainer_starts().len(), 2);
}
