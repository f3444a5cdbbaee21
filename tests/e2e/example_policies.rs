//! The projects of `examples/policies`: each is tested, built and run with the commands of its own
//! README, and three of them decide about real jobs.

use crate::queue::{endless, reason, started, waiting_user};
use crate::support::plugins::{LIMIT, is_there, place, says, share_what_cargo_makes, with_tools};
use crate::support::*;
use std::{
    env, fs, iter,
    path::{Path, PathBuf},
    process::Command,
};

/// The project `name` in a folder where it can be built, beside the recorded room and job.
fn copied(name: &str) -> PathBuf {
    let examples = tests_folder().join("../examples/policies");
    let shelf = place(name);
    let project = shelf.join(name);
    copy_folder(&examples.join(name), &project);
    for file in ["room.json", "job.json"] {
        fs::copy(examples.join(file), shelf.join(file)).unwrap();
    }
    share_what_cargo_makes(&project);
    project
}

/// Copies the files of a project, and the targets of its links.
fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let (name, path) = (entry.file_name(), entry.path());
        let is_made = ["target", "node_modules", ".venv", "__pycache__"].iter().any(|m| name == *m);
        match path.is_dir() {
            true if is_made => {}
            true => copy_folder(&path, &to.join(name)),
            false => drop(fs::copy(&path, to.join(name)).unwrap()),
        }
    }
}

/// Runs the commands of the project's README, except those that install tools. The last one puts
/// the plugin into the plugin folder. Returns that folder, and the output of `plugin test`.
fn done_as_its_readme_says(site: &Site, name: &str) -> (PathBuf, String) {
    let project = copied(name);
    let readme = fs::read_to_string(project.join("README.md")).unwrap();
    let commands = readme.lines().filter_map(|line| line.strip_prefix("    "));
    let (mut done, mut table) = (Vec::new(), String::new());
    for line in commands.filter(|line| !line.contains("# once")) {
        let line = line.split_once("  #").map_or(line, |(command, _)| command);
        let task = line.strip_prefix("sleap-rtc plugin ").and_then(|rest| rest.split(' ').next());
        let (line, words) = match task {
            Some("build") => (format!("{line} {LIMIT}"), format!("{name} is valid: ")),
            Some(_) => (format!("{line} {LIMIT}"), String::new()),
            None => (line.to_owned(), String::new()),
        };
        let said = says(&mut shell(site, &project, &line), 0, &[&words]);
        if task == Some("test") {
            table = said;
        }
        done.push(task.unwrap_or("own test").to_owned());
    }
    assert_eq!(done, ["own test", "build", "test", "add"], "{name}");
    (site.path().join(".sleap-rtc/plugins"), table)
}

/// `line` in a shell that finds the program under test and the languages' tools.
fn shell(site: &Site, folder: &Path, line: &str) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_sleap-rtc"));
    let mut shell = Command::new("sh");
    shell.env_clear().env("HOME", site.path()).env("LANG", "C.UTF-8");
    with_tools(&mut shell);
    let found = shell.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, path)| path);
    let found = found.unwrap().to_owned();
    let path = iter::once(binary.parent().unwrap().to_owned()).chain(env::split_paths(&found));
    shell.env("PATH", env::join_paths(path).unwrap());
    shell.args(["-ec", line]).current_dir(folder);
    shell
}

#[test]
fn fair_share_sends_a_user_to_another_machine_after_the_first_job() {
    let site = Site::new();
    let (plugins, table) = done_as_its_readme_says(&site, "fair-share");
    let guide = fs::read_to_string(tests_folder().join("../plugins/README.md")).unwrap();
    assert!(guide.contains(&table), "the guide shows another table than\n{table}");
    let server = site.server();
    let (small, large) = TestWorker::small_and_large(&site, &server, 0.02);
    let train = |user: &str| {
        let client = site.client(&server).train(&fixture("train_single.zip"));
        let client = client.auto(small.credentials());
        let config = format!(
            "[client]\nuser = {user:?}\n[policy]\ndir = {plugins:?}\n[policy.selection]\n\
             plugin = [\"largest-gpu\", {{ name = \"fair-share\", on_failure = \"refuse\", \
             timeout = \"20 s\" }}]\n"
        );
        fs::write(client.home().join("sleap-rtc.toml"), config).unwrap();
        client.run().assert_code(0);
        [&large, &small].map(|worker| worker.trainer_starts().len())
    };
    let mut room = Observer::join(&server, small.credentials());
    assert_eq!(train("ada"), [1, 0], "nobody has used anything: the larger one");
    room.wait_properties(large.peer_id(), "ada's use of it", |properties| {
        properties["used_s_by_user"]["ada"].as_u64() >= Some(1)
    });
    assert_eq!(train("ada"), [1, 1], "she has used the larger one");
    assert_eq!(train("bob"), [2, 1], "he has used none");
}

#[test]
fn keep_big_cards_works_as_its_readme_says() {
    let site = Site::new();
    done_as_its_readme_says(&site, "keep-big-cards");
    // What the guide shows of a simulation with it.
    let settings = "{ big-mib = 40000, strict = true }";
    let alone = format!("plugin = \"keep-big-cards\"\nsettings = {settings}");
    let table = simulated(&site, &alone);
    let guide = fs::read_to_string(tests_folder().join("../plugins/README.md")).unwrap();
    assert!(guide.contains(&alone) && guide.contains(&table), "the guide shows another\n{table}");
    // In a list with the built-in plugin it decides in the same way, and within a size the other.
    let listed = format!(
        "plugin = [\"largest-gpu\", {{ name = \"keep-big-cards\", settings = {settings} }}]"
    );
    assert_eq!(simulated(&site, &listed), table);
}

/// The numbers of the guide's simulation, without policies and with this selection.
fn simulated(site: &Site, selection: &str) -> String {
    let folder = site.folder("simulation");
    fs::write(folder.join("now.toml"), "").unwrap();
    fs::write(folder.join("strict.toml"), format!("[policy.selection]\n{selection}\n")).unwrap();
    let line = "sleap-rtc plugin simulate --generate --jobs 250 --users 4 --per-hour 4 --deadline-week \
                --seed 3 --policy now.toml --policy strict.toml --log-level error";
    let table = says(&mut shell(site, &folder, line), 0, &["250 jobs"]);
    assert!(!table.contains("failures of plugins"), "{table}");
    table
}

#[test]
fn office_hours_keep_a_machine_for_its_owner() {
    if !is_there("componentize-py") {
        return;
    }
    let site = Site::new();
    let (plugins, _) = done_as_its_readme_says(&site, "office-hours");
    let room = tests_folder().join("../examples/policies");
    let at = |time: &str| {
        let line = format!(
            "sleap-rtc plugin test office-hours --room room.json --job job.json --setting owner=bob \
             --expect attic --at {time} {LIMIT}"
        );
        shell(&site, &room, &line)
    };
    says(&mut at("2026-01-14T08:59"), 0, &["yes"]);
    says(
        &mut at("2026-01-14T09:00"),
        1,
        &["expected attic to take the job, but it says no: is reserved for bob"],
    );
    let server = site.server();
    // These hours always include the time of the test.
    let policy = format!(
        "[policy]\ndir = {plugins:?}\n[policy.compatibility]\nplugin = [\"requirements\", {{ name = \
         \"office-hours\", settings = {{ owner = \"ada\", from = \"00:00\", to = \"24:00\", \
         days = [1, 2, 3, 4, 5, 6, 7] }}, timeout = \"20 s\" }}]\n"
    );
    // It was already compiled during the build.
    let cache = site.path().join(".cache");
    let worker = TestWorker::setup(&site, "adas").config(&policy);
    let worker = worker.env("XDG_CACHE_HOME", cache.to_str().unwrap()).start(&server);
    let train = |user: &str| {
        let client = site.client(&server).train(&fixture("train_single.zip"));
        let client = client.auto(worker.credentials());
        let config = format!("[client]\nuser = {user:?}\n");
        fs::write(client.home().join("sleap-rtc.toml"), config).unwrap();
        client.run()
    };
    train("bob").assert_code(5).assert_says(&["is reserved for ada from 00:00 to 24:00"]);
    assert_eq!(worker.trainer_starts().len(), 0);
    train("ada").assert_code(0);
    assert_eq!(worker.trainer_starts().len(), 1);
}

#[test]
fn before_the_deadline_of_a_paper_its_authors_start_first() {
    let site = Site::new();
    let (plugins, table) = done_as_its_readme_says(&site, "paper-deadline");
    let cellar: Vec<&str> = table.lines().filter(|line| line.starts_with("cellar")).collect();
    assert!(cellar[0].contains("ada") && cellar[0].contains("their paper is due on 2026-02-01"));
    assert!(cellar[1].contains("eve") && cellar[2].contains("bob"), "{table}");
    if is_there("componentize-py") {
        let (_, in_python) = done_as_its_readme_says(&Site::new(), "paper-deadline-py");
        assert_eq!(in_python, table);
    }
    let server = site.server();
    let policy = format!(
        "[policy]\ndir = {plugins:?}\n[policy.queueing]\nplugin = [{{ name = \"paper-deadline\", settings = \
         {{ users = [\"ada\"], date = 2999-12-31 }}, timeout = \"20 s\" }}]\n"
    );
    let worker = endless(TestWorker::setup(&site, "worker").config(&policy)).start(&server);
    let mut jobs = ["eve", "bob", "ada"].map(|user| {
        let mut job = waiting_user(&site, &server, &worker, user);
        job.sees(if user == "eve" { "started on" } else { "1st in line" });
        job
    });
    let why = reason(&site, &server, &jobs[2]);
    assert!(why.contains("their paper is due on 2999-12-31 (paper-deadline)"), "{why}");
    for job in [0, 2, 1] {
        jobs[job].sees("started on").command(&site, &server, "stop").assert_code(0);
        assert_eq!(jobs[job].process.wait(A_WHILE), 0, "{}", jobs[job].process.transcript());
    }
    assert_eq!(started(&worker), [0, 2, 1].map(|job| jobs[job].job.clone()));
}

#[test]
fn points_works_as_its_readme_says() {
    if is_there("jco") {
        let site = Site::new();
        done_as_its_readme_says(&site, "points");
        simulated(&site, "plugin = [\"largest-gpu\", \"points\"]");
    }
}
