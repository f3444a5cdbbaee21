//! Options: which belong together, and which exclude each other. No connection is opened before
//! that is checked.

use crate::support::*;
use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
    path::Path,
};

const SESSION: &str =
    "sleap-session:eyJyIjogImFiMTJjZDM0IiwgInQiOiAiMGYxZTJkIiwgInAiOiAid29ya2VyLTEifQ==";

/// A signaling address that records whether a client connected.
struct SilentServer(TcpListener);

impl SilentServer {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    #[track_caller]
    fn assert_nobody_came(&self) {
        let error = self.0.accept().expect_err("a socket was opened");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
}

/// Both commands with `options` end with a usage error that has `words`, and open no socket.
#[track_caller]
fn refused(options: &[&str], words: &[&str]) {
    let site = Site::new();
    let (labels, models) = labels_and_models(&site);
    let silent = SilentServer::new();
    let client = || TestClient::new(&site, silent.address()).arguments(&[]);
    let train = client().train(&fixture("train_single.zip")).arguments(options);
    let track = client().track(&labels, &models).arguments(options);
    for client in [train, track] {
        client.run_within(SOON).assert_code(2).assert_says(words);
    }
    silent.assert_nobody_came();
}

#[test]
fn room_id_without_token_is_refused() {
    refused(&["--room-id", "r", "--auto-select"], &["--room-id", "--token"]);
}

#[test]
fn token_without_room_id_is_refused() {
    refused(&["--token", "t", "--auto-select"], &["--room-id", "--token"]);
}

#[test]
fn auto_select_with_worker_id_is_refused() {
    refused(
        &["--room-id", "r", "--token", "t", "--auto-select", "--worker-id", "w"],
        &["--auto-select", "--worker-id"],
    );
}

#[test]
fn session_string_with_room_credentials_is_refused() {
    let words = ["--session-string", "--room-id"];
    refused(&["--session-string", SESSION, "--room-id", "r", "--token", "t"], &words);
    refused(&["--session-string", SESSION, "--room-id", "r"], &words);
}

#[test]
fn session_string_with_a_choice_of_worker_is_refused() {
    let already = "already";
    refused(
        &["--session-string", SESSION, "--auto-select"],
        &["--session-string", "--auto-select", already],
    );
    refused(
        &["--session-string", SESSION, "--worker-id", "w"],
        &["--session-string", "--worker-id", already],
    );
}

#[test]
fn no_credentials_at_all_are_refused() {
    refused(&[], &["--session-string", "--room-id"]);
}

#[test]
fn a_damaged_session_string_is_refused() {
    refused(&["--session-string", "sleap-session:%%%"], &["session string"]);
}

#[test]
fn a_choice_of_worker_without_room_credentials_is_refused() {
    refused(&["--auto-select"], &["--room-id"]);
    refused(&["--worker-id", "w"], &["--room-id"]);
}

#[test]
fn a_package_that_is_not_there_is_refused() {
    let site = Site::new();
    let silent = SilentServer::new();
    let ended = TestClient::new(&site, silent.address())
        .train(Path::new("nowhere.zip"))
        .arguments(&["--session-string", SESSION])
        .run_within(SOON);
    ended.assert_code(2).assert_says(&["nowhere.zip"]);
    silent.assert_nobody_came();
}

#[test]
fn help_shows_an_example_for_each_way_to_connect() {
    let site = Site::new();
    let silent = SilentServer::new();
    for command in ["client-train", "client-track"] {
        let mut command_line = Site::binary(site.path(), Path::new("/nonexistent"));
        let output = command_line.args([command, "--help"]).output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        for option in [
            "--session-string",
            "--room-id",
            "--token",
            "--auto-select",
            "--worker-id",
            "--min-gpu-memory",
            "--controller-port",
            "--publish-port",
            "--gui",
        ] {
            assert!(text.contains(option), "{command} --help does not mention {option}");
        }
        let example = format!("sleap-rtc {command} --");
        let examples = text.matches(&example).count();
        assert!(examples >= 3, "{command} --help has {examples} examples:\n{text}");
    }
    silent.assert_nobody_came();
}

#[test]
fn long_options_work_with_underscores() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let credentials = worker.credentials();
    let client = site.client(&server);
    let output = client.output();
    let package = fixture("train_single.zip");
    client
        .arguments(&["client-train", "--room_id", &credentials.room_id])
        .arguments(&["--token", &credentials.token, "--auto_select", "--pkg_path"])
        .argument(package)
        .arguments(&["--output"])
        .argument(&output)
        .run()
        .assert_code(0);
    assert!(output.is_dir());
}

#[test]
fn the_token_may_come_from_the_environment() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let credentials = worker.credentials();
    site.client(&server)
        .train(&fixture("train_single.zip"))
        .arguments(&["--room-id", &credentials.room_id, "--auto-select"])
        .env("SLEAP_RTC_TOKEN", &credentials.token)
        .run()
        .assert_code(0);
}

#[test]
fn the_token_may_come_from_standard_input() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let credentials = worker.credentials();
    let mut client = site
        .client(&server)
        .train(&fixture("train_single.zip"))
        .arguments(&["--room-id", &credentials.room_id, "--token", "-", "--auto-select"])
        .start_with_input();
    client.type_line(&credentials.token);
    client.close_stdin();
    assert_eq!(client.wait(A_WHILE), 0, "{}", client.transcript());
}

#[test]
fn client_is_a_hidden_name_for_client_train() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let ended = site
        .client(&server)
        .arguments(&["client", "--pkg-path"])
        .argument(fixture("train_single.zip"))
        .auto(worker.credentials())
        .run();
    ended.assert_code(0).assert_says(&["deprecated", "client-train"]);
    let mut help = Site::binary(site.path(), Path::new("/nonexistent"));
    let help = String::from_utf8(help.arg("--help").output().unwrap().stdout).unwrap();
    assert!(!help.lines().any(|line| line.trim_start().starts_with("client ")), "{help}");
}

#[test]
fn an_unknown_key_in_the_config_is_named_with_the_nearest_known_one() {
    let site = Site::new();
    let silent = SilentServer::new();
    let client = TestClient::new(&site, silent.address());
    let config = client.home().join("sleap-rtc.toml");
    std::fs::write(config, "[worker]\nstate_dri = \"x\"\n").unwrap();
    let ended =
        client.train(&fixture("train_single.zip")).arguments(&["--session-string", SESSION]);
    let ended = ended.run_within(SOON);
    ended.assert_code(2).assert_says(&["sleap-rtc.toml", "state_dri", "state_dir"]);
    silent.assert_nobody_came();
}

#[test]
fn an_output_that_cannot_be_written_is_found_before_the_job() {
    let site = Site::new();
    let (labels, models) = labels_and_models(&site);
    let silent = SilentServer::new();
    let session = ["--session-string", SESSION];
    let client = |output: &str| {
        let client = TestClient::new(&site, silent.address());
        let client = client.arguments(&["client-track", "--data-path"]).argument(&labels);
        let client = client.arguments(&["--model-paths"]).argument(&models[0]);
        client.arguments(&session).arguments(&["--output", output]).run_within(SOON)
    };
    let labels = labels.to_str().unwrap();
    for (output, words) in [
        (labels, "--data-path"),
        ("/dev/null", "regular file"),
        ("new/", "folder"),
        (&format!("{labels}/predictions.slp"), "--output"),
    ] {
        client(output).assert_code(2).assert_says(&[output, words]);
    }
    let train = TestClient::new(&site, silent.address()).arguments(&["client-train"]);
    let train = train.arguments(&["--pkg-path"]).argument(fixture("train_single.zip"));
    let train = train.arguments(&["--output", &format!("{labels}/models")]).arguments(&session);
    train.run_within(SOON).assert_code(2).assert_says(&["--output", labels]);
    silent.assert_nobody_came();
}

#[test]
fn servers_that_are_not_reached_over_udp_are_named() {
    let site = Site::new();
    let config =
        "[signaling]\nice_servers = [{ urls = \"turns:relay:5349\", secret = \"north\" }]\n";
    let server = TestServer::configured(&site, std::net::Ipv4Addr::LOCALHOST.into(), config);
    let said = server.transcript();
    assert!(said.contains("turns:relay:5349 is given to all peers"), "{said}");
    let worker = TestWorker::setup(&site, "worker").given_ice_servers().start(&server);
    let turn = "turn:joe:s3cret@relay:3478?transport=tcp";
    let client = site.client(&server).given_ice_servers().train(&fixture("train_single.zip"));
    let client = client.arguments(&["--ice-server", turn]).session(worker.credentials());
    let ended = client.run();
    ended.assert_code(0).assert_says(&["turn:relay:3478?transport=tcp is not used", "UDP alone"]);
    assert!(!ended.text().contains("s3cret"), "{}", ended.text());
    // The worker does not silently ignore these options either.
    assert!(worker.log().contains(r#"unused=["turns:relay:5349"]"#), "{}", worker.log());
}

#[test]
fn the_allocators_options_are_in_the_program() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_sleap-rtc"))
        .arg("--version")
        .env("_RJEM_MALLOC_CONF", "stats_print:true")
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stderr);
    for option in ["opt.narenas: 2", "opt.dirty_decay_ms: 500"] {
        assert!(report.contains(option), "{option} is not in the allocator's report:\n{report}");
    }
}
