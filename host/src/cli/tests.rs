//! Parses command lines, and compares the checked options or the error text.

use super::client::ClientCommand;
use super::client::track::{TrackOptions, TrackSettings};
use super::client::train::TrainOptions;
use super::environment::SecretText;
use super::known_rooms::KnownRooms;
use super::*;
use crate::client::{Choose, Join, ViewerPorts};
use crate::config::Sources;
use crate::worker::WorkerRoom;
use sleap_rtc_protocol::ids::PeerId;
use std::io::Cursor;

const SESSION: &str =
    "sleap-session:eyJyIjogImFiMTJjZDM0IiwgInQiOiAiMGYxZTJkIiwgInAiOiAid29ya2VyLTEifQ==";

fn environment() -> Environment {
    Environment {
        token: None,
        log: None,
        stdin_is_terminal: true,
        stdin: Box::new(Cursor::new("from-stdin\nsecond line\n")),
        rooms: KnownRooms::default(),
        sources: |file| Sources { file, cwd: "/nonexistent".into(), ..Sources::default() },
    }
}

/// The files that options name, and the placeholders for them.
struct TestFolder(tempfile::TempDir);

impl TestFolder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("p.zip"), "zip").unwrap();
        std::fs::create_dir(dir.path().join("m1")).unwrap();
        std::fs::create_dir(dir.path().join("m2")).unwrap();
        Self(dir)
    }

    /// Parses `words`, split at spaces. `DIR` stands for the folder and `SESSION` for a session
    /// string.
    fn parse(&self, words: &str, environment: &mut Environment) -> Result<Invocation, Stop> {
        let dir = self.0.path().to_str().unwrap();
        let words = words.replace("DIR", dir).replace("SESSION", SESSION);
        parse_in(["sleap-rtc"].into_iter().chain(words.split(' ')).map(OsString::from), environment)
    }

    fn train(&self, words: &str) -> TrainOptions {
        let words = format!("client-train --pkg-path DIR/p.zip {words}");
        match self.parse(&words, &mut environment()).unwrap().command {
            Command::Client(ClientCommand::Train(options), _) => options,
            other => panic!("{other:?}"),
        }
    }

    fn track(&self, words: &str) -> TrackOptions {
        let words = format!("client-track --session-string SESSION {words}");
        match self.parse(&words, &mut environment()).unwrap().command {
            Command::Client(ClientCommand::Track(options), _) => options,
            other => panic!("{other:?}"),
        }
    }

    /// The error for the user, without the folder.
    fn error_in(&self, words: &str, environment: &mut Environment) -> String {
        let text = match self.parse(words, environment).unwrap_err() {
            Stop::Failure(failure) => {
                assert_eq!(failure.exit, Exit::Usage);
                failure.report()
            }
            Stop::Clap(error) => {
                assert_eq!(error.exit_code(), 2);
                error.to_string()
            }
        };
        text.replace(self.0.path().to_str().unwrap(), "DIR")
    }

    fn error(&self, words: &str) -> String {
        self.error_in(words, &mut environment())
    }
}

fn credentials(join: Join) -> (String, String, Choose) {
    let Join::Room { credentials, choose } = join else { panic!("not a room") };
    (credentials.room_id.to_string(), String::from(credentials.token), choose)
}

#[test]
fn each_way_to_connect_is_understood() {
    let files = TestFolder::new();
    let join = files.train("--session-string SESSION").connect.join;
    assert!(matches!(join, Join::Session(session) if session.worker.as_str() == "worker-1"));
    for (words, expected) in [
        ("--room-id r --token t", Choose::Prompt),
        ("--room-id r --token t --auto-select", Choose::Auto),
        ("--room_id=r --token t --worker_id w_1", Choose::Worker(PeerId::new("w_1").unwrap())),
    ] {
        let expected = ("r".to_owned(), "t".to_owned(), expected);
        assert_eq!(credentials(files.train(words).connect.join), expected, "{words}");
    }
}

#[test]
fn every_conflict_has_its_message() {
    let files = TestFolder::new();
    let mut texts = Vec::new();
    for words in [
        "",
        "--session-string SESSION --room-id r",
        "--session-string SESSION --token t",
        "--session-string SESSION --room-id r --token t",
        "--session-string SESSION --auto-select",
        "--session-string SESSION --worker-id w",
        "--room-id r",
        "--token t",
        "--room-id r --token t --auto-select --worker-id w",
        "--auto-select",
        "--worker-id w",
        "--session-string nonsense",
        "--room-id  --token t",
        "--session-string SESSION --controller-port 9001",
        "--session-string SESSION --signaling gpu1:8080",
        "--session-string SESSION --ice-server none --ice-server stun:a",
        "--session-string SESSION --ice-server turn:a",
        "--session-string SESSION --shared-storage-root DIR/absent",
        "--session-string SESSION --config /nonexistent/c.toml",
        "--session-string SESSION --min-gpu-memory lots",
        "--session-string SESSION --min-gpu-memory -1",
        "--session-string SESSION -o DIR/p.zip",
    ] {
        let words = format!("client-train -p DIR/p.zip {words}");
        texts.push(format!("$ {words}\n{}", files.error(words.trim_end())));
    }
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn files_that_are_missing_are_named_after_conflicts() {
    let files = TestFolder::new();
    let mut texts = Vec::new();
    for words in [
        "client-train --session-string SESSION",
        "client-train --session-string SESSION --pkg-path DIR/absent.zip",
        "client-train --pkg-path DIR/absent.zip",
        "client-track --session-string SESSION",
        "client-track --session-string SESSION --data-path DIR/absent.slp",
        "client-track --session-string SESSION --data-path DIR/p.zip",
        "client-track --session-string SESSION --data-path DIR/p.zip --model-paths DIR/m1 DIR/m3",
        "client-track --session-string SESSION -d DIR/p.zip -m DIR/m1 -o DIR/m1",
        "client-track --session-string SESSION -d DIR/p.zip -m DIR/m1 -o predictions.v2",
        "client-track --session-string SESSION --frames 9-1",
        "worker --new-room --room-id r --token t",
        "worker --room-id r",
        "worker --token t",
        "no-such-command",
    ] {
        texts.push(format!("$ {words}\n{}", files.error(words)));
    }
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn a_choice_needs_a_terminal() {
    let files = TestFolder::new();
    let mut environment = Environment { stdin_is_terminal: false, ..environment() };
    let text = files.error_in("client-train -p DIR/p.zip --room-id r --token t", &mut environment);
    assert!(text.contains("--auto-select") && text.contains("--worker-id"), "{text}");
    // A command line that names a worker asks no questions.
    let words = "client-train -p DIR/p.zip --room-id r --token t --auto-select";
    assert!(files.parse(words, &mut environment).is_ok());
}

#[test]
fn the_token_comes_from_the_environment_or_from_standard_input() {
    let files = TestFolder::new();
    let from_env = || Environment { token: Some(SecretText("env".into())), ..environment() };
    let train = |words: &str, environment: &mut Environment| match files
        .parse(&format!("client-train -p DIR/p.zip {words}"), environment)
        .unwrap()
        .command
    {
        Command::Client(ClientCommand::Train(options), _) => options.connect.join,
        other => panic!("{other:?}"),
    };
    assert_eq!(credentials(train("--room-id r", &mut from_env())).1, "env");
    assert_eq!(credentials(train("--room-id r --token t", &mut from_env())).1, "t");
    let mut environment = from_env();
    assert_eq!(credentials(train("--room-id r --token -", &mut environment)).1, "from-stdin");
    let mut rest = String::new();
    environment.stdin.read_line(&mut rest).unwrap();
    assert_eq!(rest, "second line\n");
    // A session string needs no token, so a token in the environment is no conflict.
    assert!(matches!(train("-s SESSION", &mut from_env()), Join::Session(_)));
    let error = files.error_in("client-train -p DIR/p.zip", &mut from_env());
    assert!(error.contains("no worker was chosen"), "{error}");
    let mut empty = Environment { stdin: Box::new(Cursor::new("\n")), ..from_env() };
    let error = files.error_in("client-train -p DIR/p.zip --room-id r --token -", &mut empty);
    assert!(error.contains("first line of standard input is empty"), "{error}");
}

#[test]
fn underscores_work_in_names_and_stay_in_values() {
    let files = TestFolder::new();
    let options = files.track("--data_path=DIR/p.zip --model_paths DIR/m1 --only_labeled_frames");
    assert!(options.settings.only_labeled_frames);
    let join = files.train("--room_id a_b --token --c_d --worker_id=--e_f").connect.join;
    let worker = PeerId::new("--e_f").unwrap();
    assert_eq!(credentials(join), ("a_b".into(), "--c_d".into(), Choose::Worker(worker)));
}

#[test]
fn models_may_follow_each_other_or_be_repeated() {
    let files = TestFolder::new();
    let once = files.track("-d DIR/p.zip --model-paths DIR/m1 DIR/m2 -o out.slp");
    let twice = files.track("-d DIR/p.zip --model-paths DIR/m1 -o out.slp --model_paths DIR/m2");
    assert_eq!(once, twice);
    assert_eq!((once.models.len(), once.output.to_str()), (2, Some("out.slp")));
}

#[test]
fn track_settings_become_arguments_of_the_trainer() {
    let files = TestFolder::new();
    let options = files.track(
        "-d DIR/p.zip -m DIR/m1 --frames 0-2,5 --batch-size 4 --tracking --only-suggested-frames \
         --peak-threshold 0.10 --max-tracks 2 --tracker bytetrack --device cpu --no-empty-frames",
    );
    let words = options.settings.arguments().join(" ");
    assert_eq!(
        words,
        "--batch_size 4 --peak_threshold 0.10 --device cpu --max_tracks 2 --tracker bytetrack \
         --only_suggested_frames --no_empty_frames --tracking"
    );
    assert_eq!(options.settings.frames.unwrap().to_string(), "0,1,2,5");
    for refused in ["--only-labeled-frames --only-suggested-frames", "--max-tracks 2"] {
        let error = files.error(&format!("client-track -d DIR/p.zip -m DIR/m1 {refused}"));
        assert!(error.contains("--"), "{error}");
    }
    assert!(TrackSettings::default().arguments().is_empty());
}

#[test]
fn a_port_of_the_viewer_implies_the_viewer() {
    let files = TestFolder::new();
    let gui = |words: &str| files.train(&format!("-s SESSION {words}")).connect.gui;
    assert_eq!(gui("--min-gpu-memory 1"), None);
    assert_eq!(gui("--gui"), Some(ViewerPorts { controller: 9000, publish: 9001 }));
    assert_eq!(gui("--publish_port 7"), Some(ViewerPorts { controller: 9000, publish: 7 }));
}

#[test]
fn network_options_override_the_configuration() {
    let files = TestFolder::new();
    let words = "worker --signaling ws://gpu1:9 --ice-server none --state-dir /s --log-format json";
    let invocation = files.parse(words, &mut environment()).unwrap();
    assert_eq!(invocation.log.format, logging::LogFormat::Json);
    let Command::Worker(worker, config) = invocation.command else { panic!("not a worker") };
    assert_eq!(worker.options.room, WorkerRoom::Kept);
    assert_eq!(config.signaling.first().http.as_str(), "http://gpu1:9/");
    assert_eq!(config.worker.state_dir, PathBuf::from("/s"));
    assert!(config.ice.servers.is_empty());
    let words = "worker --signaling wss://a --signaling wss://b";
    let invocation = files.parse(words, &mut environment()).unwrap();
    let Command::Worker(_, config) = invocation.command else { panic!("not a worker") };
    let hosts: Vec<_> = config.signaling.iter().filter_map(|it| it.websocket.host_str()).collect();
    assert_eq!(hosts, ["a", "b"]);
}

#[test]
fn the_deprecated_name_works_with_one_warning() {
    let files = TestFolder::new();
    let words = "client -s SESSION --pkg_path DIR/p.zip";
    let invocation = files.parse(words, &mut environment()).unwrap();
    assert!(matches!(invocation.command, Command::Client(ClientCommand::Train(_), _)));
    assert_eq!(
        invocation.warnings,
        ["`sleap-rtc client` is deprecated: use `sleap-rtc client-train`"]
    );
}

#[test]
fn explaining_needs_a_room_but_no_choice() {
    let files = TestFolder::new();
    let mut environment = Environment { stdin_is_terminal: false, ..environment() };
    for words in [
        "client-train --explain -p DIR/p.zip --room-id r --token t",
        "client-train --explain -p DIR/p.zip --room-id r --token t --worker-id w",
        "client-train --explain -p DIR/p.zip -s SESSION",
        "why --room-id r --token t --job DIR/p.zip --min_gpu_memory 9",
        "why -s SESSION",
        "room snapshot --room_id r --token t",
    ] {
        assert!(files.parse(words, &mut environment).is_ok(), "{words}");
    }
    for words in ["client-train --explain -p DIR/p.zip", "why", "why --room-id r", "room snapshot"]
    {
        let error = files.error_in(words, &mut environment);
        assert!(error.contains("--token") && error.contains("--session-string"), "{error}");
    }
    files.error_in("why --room-id r --token t -s SESSION", &mut environment);
}

#[test]
fn plugin_tools_need_a_file_and_take_settings() {
    let files = TestFolder::new();
    for words in [
        "plugin validate f.wasm",
        "plugin inspect f --memory_mib 9 --timeout_ms 5",
        "plugin test f --room r.json --job j.json --expect --p --setting a=1 --setting b=x",
    ] {
        let command = files.parse(words, &mut environment()).unwrap().command;
        assert!(matches!(command, Command::Client(ClientCommand::Plugin(_), _)), "{words}");
    }
    for words in ["plugin validate", "plugin test f --room r", "plugin validate f --setting a"] {
        files.error(words);
    }
}

#[test]
fn no_secret_shows_in_debug_or_in_errors() {
    let files = TestFolder::new();
    for words in ["--room-id r --token hunter2 --auto-select", "-s SESSION"] {
        let shown = format!("{:?}", files.train(words));
        assert!(!shown.contains("hunter2") && !shown.contains("0f1e2d"), "{shown}");
    }
    for words in ["--token hunter2", "--room-id r --token hunter2 --token hunter2"] {
        let error = files.error(&format!("client-train -p DIR/p.zip {words}"));
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn help_shows_each_way_to_connect_and_the_exit_codes() {
    for words in ["--help", "client-train --help", "client-track --help", "worker --help"] {
        let Stop::Clap(error) = TestFolder::new().parse(words, &mut environment()).unwrap_err()
        else {
            panic!("no help")
        };
        assert_eq!(error.exit_code(), 0);
        insta::assert_snapshot!(words.trim_start_matches("--").replace(" --", "-"), error);
    }
}

/// The page on switching says for each option whether the Python program has it.
#[test]
fn the_page_on_switching_has_every_option() {
    let page = include_str!("../../../docs/switching-from-python.md");
    let missing = |command: &clap::Command| {
        let options = command.get_arguments().filter_map(clap::Arg::get_long);
        let missing = options.filter(|name| !page.contains(&format!("`--{name}`")));
        missing.map(|name| format!("{} --{name}", command.get_name())).collect::<Vec<_>>()
    };
    let program = Cli::command();
    let sides = ["signaling", "worker", "client-train", "client-track"];
    let sides = sides.map(|name| program.find_subcommand(name).unwrap());
    let all: Vec<String> = sides.into_iter().chain([&program]).flat_map(missing).collect();
    assert!(all.is_empty(), "not in docs/switching-from-python.md: {all:?}");
}
