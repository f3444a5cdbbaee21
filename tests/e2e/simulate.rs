//! Traces on a virtual clock: the schedule, the numbers and the picture of `plugin simulate`.

use crate::support::*;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{collections::BTreeMap, fs, process::Command, process::Output};

fn simulate(home: &Path, words: &[&str]) -> Output {
    let mut command = Site::binary(home, Path::new("/nonexistent"));
    command.args(["plugin", "simulate"]).args(words).output().unwrap()
}

/// It ends with `code` and says each of `words`; gives its standard output.
#[track_caller]
fn says(output: &Output, code: i32, words: &[&str]) -> String {
    plugins::ended(output, code, words);
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A made-up trace of 1,000 jobs in a room that is too small for its deadline week.
const CROWDED: [&str; 10] = [
    "--generate",
    "--jobs=1000",
    "--users=5",
    "--workers=6",
    "--per-hour=12",
    "--deadline-week",
    "--seed=7",
    "--save=trace.jsonl",
    "--schedule=own.jsonl",
    "--policy=plain.toml",
];

#[test]
fn an_independent_simulation_gives_the_same_schedule() {
    let site = Site::new();
    let home = site.path();
    fs::write(home.join("plain.toml"), "").unwrap();
    let text = says(&simulate(home, &CROWDED), 0, &["1000 jobs, 6 workers with 7 slots"]);
    println!("{text}");
    let own = lines(&fs::read_to_string(home.join("own.jsonl")).unwrap());
    let script = tests_folder().join("python/schedule.py");
    let code = fs::read_to_string(&script).unwrap();
    assert!(code.lines().count() <= 200, "it should stay small enough to check by eye");
    let output =
        Command::new("python3").arg(script).arg(home.join("trace.jsonl")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let other = lines(&String::from_utf8(output.stdout).unwrap());
    assert_eq!((own.len(), other.len()), (1000, 1000));
    for (own, other) in own.iter().zip(&other) {
        for key in ["id", "worker", "slot", "start_ms", "end_ms"] {
            assert_eq!(own[key], other[key], "{own}\n{other}");
        }
    }
    // Otherwise it would say little.
    let trace = lines(&fs::read_to_string(home.join("trace.jsonl")).unwrap());
    let arrived: BTreeMap<&str, f64> = trace
        .iter()
        .filter_map(|line| Some((line["job"]["id"].as_str()?, line["job"]["at_s"].as_f64()?)))
        .collect();
    let waited = |line: &&Value| {
        let start_ms = line["start_ms"].as_f64().unwrap();
        start_ms > arrived[line["id"].as_str().unwrap()] * 1000.0 + 1.0
    };
    let waited = own.iter().filter(waited).count();
    assert!(waited > 200, "only {waited} jobs waited");
}

/// A configuration whose selection is a list: the built-in plugin and the guest.
fn with_a_preferred_machine(site: &Site) -> PathBuf {
    let path = site.path().join("prefers.toml");
    let guest = test_guests::dir().join("custom-policy.wasm");
    let text = format!(
        "[policy.selection]\nplugin = [\"largest-gpu\", {{ name = {guest:?}, settings = {{ prefer = \
         \"gpu2.lab\" }} }}]\n"
    );
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn two_policies_are_compared_side_by_side_and_drawn() {
    let site = Site::new();
    let home = site.path();
    fs::write(home.join("plain.toml"), "").unwrap();
    let prefers = with_a_preferred_machine(&site);
    let words = ["trace.jsonl", "--policy", "plain.toml", "--policy", prefers.to_str().unwrap()];
    let made = ["--generate", "--jobs=200", "--per-hour=2", "--save=trace.jsonl"];
    says(&simulate(home, &made), 0, &["configured", "200 jobs, 4 workers with 5 slots"]);
    let first = simulate(home, &[&words[..], &["--plot=picture.svg"]].concat());
    let rows =
        ["plain", "prefers", "waiting: median, 95 %", "- training", "- ada", "fairness (Jain)"];
    let table = says(&first, 0, &rows);
    println!("{table}");
    assert_eq!(says(&simulate(home, &words), 0, &[]), table, "the same trace, other numbers");
    // The preferred machine, which is the smallest, is used more than by the default.
    let used = table.lines().find(|line| line.starts_with("- gpu2.lab 0 ")).unwrap();
    let shares: Vec<u32> = used.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [.., before, after] = shares[..] else { panic!("{used}") };
    assert!(after > 2 * before, "{used}");
    let picture = fs::read_to_string(home.join("picture.svg")).unwrap();
    assert!(picture.starts_with("<svg ") && picture.trim_end().ends_with("</svg>"));
    for word in ["plain", "prefers", "gpu1.lab", "ada", "polyline"] {
        assert!(picture.contains(word), "no {word:?} in the picture");
    }
}

#[test]
fn a_room_that_was_recorded_has_its_jobs_made_up() {
    let site = Site::new();
    let room = tests_folder().join("../examples/policies/room.json");
    let words = ["--generate", "--jobs=50", "--room", room.to_str().unwrap()];
    says(&simulate(site.path(), &words), 0, &["50 jobs, ", "- tower.lab 0 NVIDIA RTX A6000"]);
}

#[test]
fn the_jobs_of_a_worker_become_a_trace() {
    let site = Site::new();
    let server = site.server();
    let worker = TestWorker::setup(&site, "worker").gpu_mib(24_000).start(&server);
    for _ in 0..2 {
        let client = site.client(&server).train(&fixture("train_single.zip"));
        client.auto(worker.credentials()).run().assert_code(0);
    }
    let room = tests_folder().join("../examples/policies/room.json");
    let state = worker.state_dir();
    let words = ["--room", room.to_str().unwrap(), "--save=past.jsonl"];
    let of = ["--jobs-of", state.to_str().unwrap()];
    says(&simulate(site.path(), &[&of[..], &words].concat()), 0, &["2 jobs, ", "- training"]);
    let past = lines(&fs::read_to_string(site.path().join("past.jsonl")).unwrap());
    let jobs: Vec<_> = past.iter().filter(|line| line["job"].is_object()).collect();
    assert_eq!(jobs.len(), 2, "{past:?}");
    for job in jobs {
        assert!(job["job"]["duration_s"].as_f64().unwrap() > 0.0, "{job}");
        assert_eq!(job["job"]["job_type"], "training");
        assert!(
            !job.to_string().contains("secret") && !job.to_string().contains("verifier"),
            "{job}"
        );
    }
    says(&simulate(site.path(), &["past.jsonl"]), 0, &["2 jobs, "]);
    let empty = site.folder("empty");
    let none = ["--jobs-of", empty.to_str().unwrap()];
    says(&simulate(site.path(), &[&none[..], &words].concat()), 2, &["no jobs that have run"]);
    says(&simulate(site.path(), &of), 2, &["--room"]);
}

#[test]
fn what_cannot_be_simulated_is_said_with_the_reason() {
    let site = Site::new();
    let home = site.path();
    says(&simulate(home, &[]), 2, &["TRACE"]);
    says(&simulate(home, &["absent.jsonl"]), 2, &["cannot read absent.jsonl: "]);
    fs::write(home.join("t.jsonl"), "{\"job\":{}}\n").unwrap();
    says(&simulate(home, &["t.jsonl"]), 2, &["t.jsonl is not a trace: line 1: missing field `id`"]);
    let generate = ["--generate", "--jobs=5", "--policy"];
    let with = |policy: &str| simulate(home, &[&generate[..], &[policy]].concat());
    says(&with("absent.toml"), 2, &["absent.toml"]);
    fs::write(home.join("wrong.toml"), "[policy.selection]\nplugin = 'absent'\n").unwrap();
    says(&with("wrong.toml"), 2, &["[policy.selection] plugin = \"absent\": there is no file"]);
    fs::write(home.join("odd.toml"), "[policy.selection]\nplugins = 'absent'\n").unwrap();
    says(&with("odd.toml"), 2, &["odd.toml:2: unknown key `plugins`"]);
}

#[test]
fn failures_of_a_plugin_are_counted() {
    let site = Site::new();
    let home = site.path();
    let guest = test_guests::dir().join("hostile-guest.wasm");
    let policy =
        format!("[policy.compatibility]\nplugin = {guest:?}\nsettings = {{ do = \"error\" }}\n");
    fs::write(home.join("fails.toml"), policy).unwrap();
    let words = ["--generate", "--jobs=10", "--workers=2", "--policy", "fails.toml"];
    let table = says(&simulate(home, &words), 0, &["failures of plugins", "compatibility "]);
    let refused = table.lines().find(|line| line.starts_with("refused")).unwrap();
    assert!(refused.ends_with(" 10"), "{refused}");
}

#[test]
fn ten_thousand_jobs_on_fifty_workers_take_seconds() {
    let site = Site::new();
    fs::write(site.path().join("plain.toml"), "").unwrap();
    let words = [
        "--generate",
        "--jobs=10000",
        "--workers=50",
        "--users=20",
        "--per-hour=120",
        "--deadline-week",
        "--policy=plain.toml",
    ];
    let begun = Instant::now();
    let table = says(&simulate(site.path(), &words), 0, &["10000 jobs, 50 workers with 62 slots"]);
    println!("{table}\n10,000 jobs on 50 workers in {:.1} s", begun.elapsed().as_secs_f64());
}
