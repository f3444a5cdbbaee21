//! `plugin new` and `plugin build`: from an empty folder to a job that the plugin decides.
//!
//! Rust needs only cargo. componentize-py and jco are searched for in the folders that
//! `SLEAP_RTC_PLUGIN_TOOLS` lists; if one is missing, its test reports "not run".

use crate::support::plugins::{
    LIMIT, is_there, place, plugin, says, share_what_cargo_makes, with_tools,
};
use crate::support::*;
use std::{fs, process::Command};

/// From `plugin new` to a job whose worker the plugin chose.
fn from_nothing_to_a_job(lang: &str, own_test: &[&str]) {
    let site = Site::new();
    let place = place(lang);
    says(plugin(&place).args(["new", "mine", "--lang", lang]), 0, &["created mine"]);
    let project = place.join("mine");
    if lang == "rust" {
        share_what_cargo_makes(&project);
    }
    let mut test = Command::new(own_test[0]);
    with_tools(&mut test);
    says(test.args(&own_test[1..]).current_dir(&project), 0, &[]);
    says(
        plugin(&project).args(["build", LIMIT]),
        0,
        &["world  selection-plugin", "mine is valid: 10 cases"],
    );
    let server = site.server();
    let (small, large) = TestWorker::small_and_large(&site, &server, 0.02);
    let client = site.client(&server).train(&fixture("train_single.zip"));
    // The build has already compiled it, so it is not compiled again.
    let cache = project.join(".cache");
    let client = client.auto(small.credentials()).env("XDG_CACHE_HOME", cache.to_str().unwrap());
    let config = format!(
        "[policy.selection]\nplugin = {:?}\non_failure = \"refuse\"\ntimeout = \"20 s\"\n",
        project.join("mine.wasm")
    );
    fs::write(client.home().join("sleap-rtc.toml"), config).unwrap();
    client.run().assert_code(0).assert_says(&[large.peer_id(), "MiB of GPU memory free"]);
    assert_eq!((large.trainer_starts().len(), small.trainer_starts().len()), (1, 0));
}

/// The author's guide.
fn guide() -> String {
    fs::read_to_string(tests_folder().join("../plugins/README.md")).unwrap()
}

#[test]
fn the_guides_twenty_lines_are_a_plugin() {
    let (guide, place) = (guide(), place("guide"));
    let (_, rest) = guide.split_once("```rust\n").unwrap();
    let (lines, _) = rest.split_once("```").unwrap();
    let begin = "new small-jobs-only --lang rust --for compatibility";
    assert!(guide.contains(begin));
    says(plugin(&place).args(begin.split(' ')), 0, &[]);
    let project = place.join("small-jobs-only");
    fs::write(project.join("src/lib.rs"), lines).unwrap();
    share_what_cargo_makes(&project);
    let build = ["build", "--setting", "max-epochs=199", LIMIT];
    says(plugin(&project).args(build), 0, &["trains at most 199 epochs, not 200", "is valid: 7"]);
}

#[test]
fn rust_from_nothing_to_a_job() {
    from_nothing_to_a_job("rust", &["cargo", "test", "--quiet"]);
}

#[test]
fn python_from_nothing_to_a_job() {
    if is_there("componentize-py") {
        from_nothing_to_a_job("python", &["python3", "-m", "unittest"]);
    }
}

#[test]
fn js_from_nothing_to_a_job() {
    if is_there("jco") {
        from_nothing_to_a_job("js", &["node", "--test"]);
    }
}

/// From `plugin new` to an order: short jobs first.
fn from_nothing_to_an_order(lang: &str, own_test: &[&str]) {
    let place = place(&format!("order-{lang}"));
    let words = ["new", "short-first", "--lang", lang, "--for", "queueing"];
    says(plugin(&place).args(words), 0, &["created short-first"]);
    let project = place.join("short-first");
    if lang == "rust" {
        share_what_cargo_makes(&project);
    }
    let mut test = Command::new(own_test[0]);
    with_tools(&mut test);
    says(test.args(&own_test[1..]).current_dir(&project), 0, &[]);
    let built = ["world  queueing-plugin", "short-first is valid: 7 cases", "orders 1000"];
    says(plugin(&project).args(["build", LIMIT]), 0, &built);
    let recorded = tests_folder().join("../examples/policies");
    let [room, job] = ["room.json", "job.json"].map(|file| recorded.join(file));
    let mut asked = plugin(&project);
    asked.args(["test", "short-first.wasm", LIMIT, "--room"]).arg(&room).arg("--job").arg(&job);
    let table = says(&mut asked, 0, &["takes 30 min", "nobody knows how long it takes"]);
    let waiting = table.lines().filter(|line| line.starts_with("cellar"));
    let places: Vec<_> = waiting.map(|line| line.split_whitespace().nth(2).unwrap()).collect();
    assert_eq!(places, ["bob", "eve", "ada"], "{table}");
}

#[test]
fn rust_plugins_order_jobs() {
    from_nothing_to_an_order("rust", &["cargo", "test", "--quiet"]);
}

#[test]
fn python_plugins_order_jobs() {
    if is_there("componentize-py") {
        from_nothing_to_an_order("python", &["python3", "-m", "unittest"]);
    }
}

#[test]
fn js_plugins_order_jobs() {
    if is_there("jco") {
        from_nothing_to_an_order("js", &["npm", "test"]);
    }
}

/// Builds a plugin for each extension point of the contract as it was first published. Each answers today.
fn the_first_contract_still_holds(lang: &str) {
    let place = place(&format!("first-contract-{lang}"));
    let recorded = tests_folder().join("../examples/policies");
    for point in ["selection", "compatibility", "estimate"] {
        let name = format!("old-{point}");
        let words = ["new", &name, "--lang", lang, "--for", point];
        says(plugin(&place).args(words), 0, &[]);
        let project = place.join(&name);
        if lang == "rust" {
            share_what_cargo_makes(&project);
        }
        let contract = project.join("wit/policy.wit");
        fs::write(contract, include_str!("../policy/policy-0.1.0.wit")).unwrap();
        says(plugin(&project).args(["build", LIMIT]), 0, &[&format!("{name} is valid: ")]);
        let mut asked = plugin(&project);
        asked.args(["test", &format!("{name}.wasm"), LIMIT, "--room"]);
        asked.arg(recorded.join("room.json")).arg("--job").arg(recorded.join("job.json"));
        says(&mut asked, 0, &["tower", "attic"]);
    }
}

#[test]
fn rust_plugins_for_the_first_contract_still_work() {
    the_first_contract_still_holds("rust");
}

#[test]
fn python_plugins_for_the_first_contract_still_work() {
    if is_there("componentize-py") {
        the_first_contract_still_holds("python");
    }
}

#[test]
fn nothing_is_overwritten() {
    let site = Site::new();
    fs::create_dir(site.path().join("mine")).unwrap();
    let words = ["mine already exists", "choose another name"];
    says(plugin(site.path()).args(["new", "mine", "--lang", "js"]), 2, &words);
    assert_eq!(fs::read_dir(site.path().join("mine")).unwrap().count(), 0);
}

#[test]
fn a_missing_tool_is_named_with_what_installs_it() {
    let site = Site::new();
    for (lang, words) in [
        ("python", ["componentize-py is neither", ".venv/bin/pip install componentize-py==0.25.0"]),
        ("rust", ["cargo is not on PATH", "https://rustup.rs"]),
        ("js", ["JavaScript plugins need Node 20", "https://nodejs.org"]),
    ] {
        says(plugin(site.path()).args(["new", lang, "--lang", lang]), 0, &[]);
        let mut build = plugin(&site.path().join(lang));
        says(build.arg("build").env("PATH", "/nonexistent"), 2, &words);
        assert!(lang == "rust" || guide().contains(words[0]), "the guide lacks {}", words[0]);
    }
}

#[test]
fn a_tool_that_never_ends_is_stopped() {
    let site = Site::new();
    says(plugin(site.path()).args(["new", "mine", "--lang", "python"]), 0, &[]);
    let bin = site.path().join("mine/.venv/bin");
    fs::create_dir_all(&bin).unwrap();
    write_program(&bin.join("componentize-py"), "#!/bin/sh\nsleep 600\n");
    let mut build = plugin(&site.path().join("mine"));
    let words = ["componentize-py did not finish within 1 s", "--tool-timeout-s"];
    says(build.args(["build", "--tool-timeout-s", "1"]), 2, &words);
    assert!(!site.path().join("mine/mine.wasm").exists());
    site.assert_no_process_left();
}
