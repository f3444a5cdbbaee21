//! Several plugins decide together, and what they decided is recorded and put to another one.

use crate::support::*;
use std::{fs, path::Path, process::Output};

fn guest(name: &str) -> std::path::PathBuf {
    test_guests::dir().join(format!("{name}.wasm"))
}

/// A list in the section of `point`: the built-in plugin, then the guest with a setting.
fn list(point: &str, built_in: &str, name: &str, setting: &str) -> String {
    let guest = guest(name);
    format!(
        "[policy.{point}]\nplugin = [{built_in:?}, {{ name = {guest:?}, settings = {{ {setting} }}, \
         timeout = \"20 s\" }}]\n"
    )
}

fn run(home: &Path, words: &[&str]) -> Output {
    Site::binary(home, Path::new("/nonexistent")).args(words).output().unwrap()
}

/// It ends with `code` and says each of `words`; gives its standard output.
#[track_caller]
fn says(output: &Output, code: i32, words: &[&str]) -> String {
    plugins::ended(output, code, words);
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_refusal_has_the_reasons_of_all_plugins() {
    let site = Site::new();
    let server = site.server();
    let config = list("compatibility", "requirements", "hostile-guest", "do = \"panic\"");
    let worker = TestWorker::setup(&site, "worker").gpu_mib(8_000).config(&config).start(&server);
    let client = site.client(&server).train(&fixture("train_single.zip"));
    let client = client.session(worker.credentials()).arguments(&["--min-gpu-memory", "16000"]);
    client.run_within(SOON).assert_code(5).assert_says(&[
        "refused: needs 16,000 MB, has 8,000 MB; the compatibility plugin hostile-guest failed",
    ]);
    assert_eq!(worker.trainer_starts().len(), 0);
    let config = list("compatibility", "requirements", "hostile-guest", "");
    let worker = TestWorker::setup(&site, "calm").config(&config).start(&server);
    let client = site.client(&server).train(&fixture("train_single.zip"));
    client.session(worker.credentials()).run().assert_code(0);
}

#[test]
fn why_names_the_plugin_behind_each_line_and_a_record_is_replayed() {
    let site = Site::new();
    let server = site.server();
    let (small, _large) = TestWorker::small_and_large(&site, &server, 0.02);
    let client = site.client(&server).arguments(&["why"]).room(small.credentials());
    let client = client.arguments(&["--min-gpu-memory", "16000"]);
    let home = client.home().to_owned();
    let config = format!(
        "[policy]\nrecord = \"kept/decisions.jsonl\"\n{}",
        list("selection", "largest-gpu", "custom-policy", "prefer = \"elsewhere\"")
    );
    fs::write(home.join("sleap-rtc.toml"), &config).unwrap();
    client.run_within(SOON).assert_code(0).assert_says(&[
        "largest-gpu: largest GPU Test GPU 24000 with 24,000 MB; custom-policy: any other machine",
        "largest-gpu: needs 16,000 MB, has 8,000 MB",
    ]);
    let record = fs::read_to_string(home.join("kept/decisions.jsonl")).unwrap();
    assert_eq!(record.lines().count(), 2, "{record}");
    for secret in ["elsewhere", small.credentials().server_token()] {
        assert!(!record.contains(secret), "{secret:?} is in the record");
    }
    let hostile = guest("hostile-guest");
    let replay = |more: &[&str]| {
        let words = ["plugin", "replay", "kept/decisions.jsonl", hostile.to_str().unwrap()];
        run(&home, &[&words[..], &["--timeout-ms=20000"], more].concat())
    };
    // It takes the first of the list.
    says(
        &replay(&["--of", "custom-policy", "--expect-same"]),
        0,
        &["all 1 decisions are the same"],
    );
    let fails = ["--of", "custom-policy", "--setting", "do=error"];
    let words =
        ["before", "failed: it says: ", "of 1 decisions 1 differs: 1 failed instead of answered"];
    says(&replay(&fails), 0, &words);
    let error = ["the plugin decides otherwise"];
    says(&replay(&[&fails[..], &["--expect-same"]].concat()), 1, &error);
    says(&replay(&["--of", "fair"]), 2, &["it has those of custom-policy, largest-gpu"]);
    let absent = run(&home, &["plugin", "replay", "absent.jsonl", hostile.to_str().unwrap()]);
    says(&absent, 2, &["cannot read the record absent.jsonl"]);
    // The settings of a plugin that is configured are those of the configuration.
    let custom = guest("custom-policy");
    let own = ["plugin", "replay", "kept/decisions.jsonl", custom.to_str().unwrap()];
    says(&run(&home, &[&own[..], &["--timeout-ms=20000"]].concat()), 0, &["all 1 decisions are"]);
}

#[test]
fn a_list_is_checked_like_a_single_plugin() {
    let site = Site::new();
    let home = site.path();
    let worker = |policy: &str| {
        fs::write(home.join("sleap-rtc.toml"), format!("[policy.compatibility]\n{policy}"))
            .unwrap();
        run(home, &["worker"])
    };
    let absent = ["[policy.compatibility] plugin = \"absent\": there is no file", "absent.wasm"];
    says(&worker("plugin = ['requirements', 'absent']"), 2, &absent);
    let terms =
        ["sleap-rtc.toml:1", "`policy.compatibility` has `settings` beside a list of plugins"];
    says(&worker("plugin = ['requirements']\nsettings = { a = 1 }"), 2, &terms);
    says(&worker("plugin = []"), 2, &["sleap-rtc.toml:2", "a list of 1 to 8 plugins, not 0"]);
    let nearest = ["sleap-rtc.toml:2", "did you mean `name`?"];
    says(&worker("plugin = [{ nam = 'requirements' }]"), 2, &nearest);
    let file = guest("hostile-guest");
    let list = format!("plugin = ['requirements', {{ name = {file:?} }}]");
    fs::write(home.join("sleap-rtc.toml"), format!("[policy.compatibility]\n{list}")).unwrap();
    let listed = says(&run(home, &["plugin", "list"]), 0, &["full-plugin"]);
    assert!(!listed.contains("requirements") && listed.contains(" compatibility"), "{listed}");
}
