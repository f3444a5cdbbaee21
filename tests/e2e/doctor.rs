//! `sleap-rtc doctor` finds the problems of a machine before a user waits for a job.

use crate::pairing::pair_in;
use crate::support::*;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Exit code and output.
fn doctor(site: &Site, path: &Path, server: &str, arguments: &[&str]) -> (i32, String) {
    let mut command = Site::binary(&site.folder("machine"), path);
    command.arg("doctor").args(arguments);
    command.env("SLEAP_RTC_SIGNALING_WS", format!("ws://{server}"));
    command.env("SLEAP_RTC_SIGNALING_HTTP", format!("http://{server}"));
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap(), text)
}

fn verdict<'a>(findings: &'a Value, check: &str) -> Vec<&'a str> {
    let findings = findings.as_array().unwrap().iter().filter(|f| f["check"] == check);
    findings.map(|finding| finding["verdict"].as_str().unwrap()).collect()
}

#[test]
fn a_working_machine_passes() {
    let site = Site::new();
    let server = site.server();
    let Some(driver) = Driver::new(&site) else { return };
    driver.lists(&gpu_row(0, 24_000));
    let address = server.address().to_string();
    let (code, text) = doctor(&site, driver.folder(), &address, &["--worker"]);
    assert_eq!(code, 0);
    for words in
        ["NVIDIA A0, 24000 MB", "sleap-nn 0.3.5", "answers", "lets peers register", "within"]
    {
        assert!(text.contains(words), "{words}");
    }
    assert!(!text.contains("fail"));
    let (code, text) = doctor(&site, Path::new("/nonexistent"), &address, &["--client"]);
    assert_eq!(code, 0);
    assert!(!text.contains("trainer") && !text.contains("gpu"));
}

/// The findings about the server, where nobody has named one.
fn without_a_name(site: &Site, home: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = Site::binary(home, &stand_in());
    command.current_dir(home).arg("doctor").args(arguments);
    command.env("SLEAP_RTC_SIGNALING_WS", "").env("SLEAP_RTC_SIGNALING_HTTP", "");
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].map(|out| String::from_utf8(out).unwrap()).concat();
    println!("{}: {text}", site.path().display());
    (output.status.code().unwrap(), text)
}

#[test]
fn a_server_that_nobody_has_named_is_no_failure() {
    let island = match Island::new() {
        Ok(island) => island,
        Err(error) => return println!("not run: no network namespaces here ({error})"),
    };
    let site = Site::new();
    let home = site.folder("machine");
    for (arguments, words) in [("--worker", "worker --serve"), ("--client", "sleap-rtc pair")] {
        let (code, text) = island.on(|| without_a_name(&site, &home, &[arguments]));
        assert_eq!(code, 0, "{text}");
        assert!(text.contains("nobody has named one") && text.contains(words), "{text}");
    }
}

#[test]
fn the_server_of_a_worker_with_other_ports_is_found_by_its_configuration() {
    let island = match Island::new() {
        Ok(island) => island,
        Err(error) => return println!("not run: no network namespaces here ({error})"),
    };
    let site = Site::new();
    let setup = TestWorker::setup(&site, "worker");
    let worker = island.on(|| setup.serve("127.0.0.1:9000".parse().unwrap()));
    let config = site.folder("machine").join("sleap-rtc.toml");
    fs::write(&config, "[environments.production.signaling]\nlisten = [\"127.0.0.1:9000\"]\n")
        .unwrap();
    let home = config.parent().unwrap();
    let (code, text) = island.on(|| without_a_name(&site, home, &["--worker"]));
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("127.0.0.1:9000/ answers"), "{text}");
    drop(worker);
}

#[test]
fn servers_that_do_not_share_their_rooms_are_named() {
    let site = Site::new();
    let (one, other) = (site.server(), site.server());
    let address = |server: &TestServer| format!("http://{}", server.address());
    let mut command = Site::binary(&site.folder("machine"), Path::new("/nonexistent"));
    command.args(["doctor", "--client"]);
    command.args(["--signaling", &address(&one), "--signaling", &address(&other)]);
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("do not share their rooms"), "{text}");

    // A worker and a client that are given both say the same.
    let (first, second) = (address(&one), address(&other));
    let both = ["--signaling", &first, "--signaling", &second];
    let worker = TestWorker::setup(&site, "worker").arguments(&both).start(&one);
    wait_for("the warning of the worker", SOON, || {
        worker.log().contains("do not share their rooms").then_some(())
    });
    let client =
        site.client(&one).train(&fixture("train_single.zip")).session(worker.credentials());
    let mut client = client.arguments(&both).start();
    client.wait_stderr("the warning of the client", SOON, |text| {
        text.contains("do not share their rooms").then_some(())
    });
    assert_eq!(client.wait(A_WHILE), 0, "{}", client.transcript());
}

#[test]
fn every_problem_is_named_with_its_fix() {
    let site = Site::new();
    let Some(driver) = Driver::new(&site) else { return };
    driver.breaks();
    let trainer = driver.folder().join("sleap-nn");
    fs::remove_file(&trainer).unwrap();
    write_program(&trainer, "#!/bin/sh\necho \"No module named 'torch'\" >&2\nexit 1\n");
    let nowhere = "127.0.0.1:1";
    let arguments = ["--worker", "--json", "--state-dir", "/proc/nowhere"];
    let (code, text) = doctor(&site, driver.folder(), nowhere, &arguments);
    assert_eq!(code, 1);
    let findings: Value = serde_json::from_str(&text).unwrap();
    for check in ["gpu", "trainer", "state", "server"] {
        assert_eq!(verdict(&findings, check)[..1], ["fail"], "{check}");
    }
    for finding in findings.as_array().unwrap().iter().filter(|f| f["verdict"] != "ok") {
        assert!(finding["advice"].as_str().is_some_and(|advice| !advice.is_empty()), "{finding}");
    }
    assert!(text.contains("version mismatch") && text.contains("'torch'"));
}

#[test]
fn a_cpu_build_of_torch_is_reported_beside_a_gpu() {
    let site = Site::new();
    let server = site.server();
    let Some(driver) = Driver::new(&site) else { return };
    driver.lists(&gpu_row(0, 24_000));
    let trainer = driver.folder().join("sleap-nn");
    fs::remove_file(&trainer).unwrap();
    let report = "#!/bin/sh\n[ $1 = --version ] && echo sleap-nn 0.3.5\n\
                  [ $1 = system ] && echo 'CUDA available: False'\nexit 0\n";
    write_program(&trainer, report);
    let address = server.address().to_string();
    let (code, text) = doctor(&site, driver.folder(), &address, &["--worker"]);
    assert_eq!(code, 1);
    assert!(text.contains("PyTorch does not use the GPU"));
}

#[test]
fn a_limit_on_the_size_of_files_is_named_and_ends_nothing() {
    let site = Site::new();
    let binary = Site::binary(&site.folder("machine"), &stand_in());
    let mut limited = Command::new("sh");
    limited.env_clear();
    limited.args(["-c", "ulimit -f 64 && exec \"$0\" \"$@\""]).arg(binary.get_program());
    for (name, value) in binary.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited.args(["doctor", "--worker", "--signaling", "ws://127.0.0.1:1"]);
    let output = limited.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("a file may have at most") && text.contains("File too large"));
}

#[test]
fn a_program_that_hangs_is_named_while_it_is_waited_for() {
    let site = Site::new();
    let programs = site.folder("programs");
    for name in ["sleap-nn", "nvidia-smi"] {
        write_program(&programs.join(name), "#!/bin/sh\n[ \"$1\" = train ] || exec sleep 600\n");
    }
    let mut command = Site::binary(&site.folder("machine"), &programs);
    command.args(["doctor", "--worker", "--signaling", "ws://127.0.0.1:1"]);
    let mut doctor = Process::start("doctor", &mut command);
    for words in ["waiting for the NVIDIA driver", "sleap-nn predict --help`, for at most 20 s"] {
        doctor.wait_stderr(words, A_WHILE, |said| said.contains(words).then_some(()));
    }
    assert_eq!(doctor.wait(A_WHILE), 1);
    let said = doctor.stdout();
    assert!(said.contains("sleap-nn predict --help` does not answer within 20 s"), "{said}");
}

#[test]
fn a_paired_room_is_checked_as_a_client_would_use_it() {
    let site = Site::new();
    let server = site.server();
    let worker =
        TestWorker::setup(&site, "worker").config("room_name = \"northlab\"\n").start(&server);
    let home = site.folder("machine");
    pair_in(&site, &server, &home, TestInvitation::of(&worker, &[]).code()).assert_code(0);
    // Neither an option nor a variable names the server.
    let check = |arguments: &[&str]| {
        let mut command = Site::binary(&home, Path::new("/nonexistent"));
        command.args(arguments).args(["--ice-server", "none"]);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{text}");
        text
    };
    let address = server.address().to_string();
    let text = check(&["doctor", "--client"]);
    assert!(text.contains("northlab") && text.contains(&address), "{text}");
    let text = check(&["netcheck"]);
    assert!(text.contains(worker.peer_id()) && text.contains(&address), "{text}");
}
