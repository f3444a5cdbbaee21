//! Unusual environments: no locks, no `/proc`, little address space, process 1 of a container, a
//! terminal that closes.

use crate::support::*;
use rustix::process::Signal;
use std::fs;
use std::process::Command;

fn train(site: &Site, server: &TestServer, worker: &TestWorker) -> TestClient {
    site.client(server).train(&fixture("train_single.zip")).session(worker.credentials())
}

/// Whether this command, which creates the environment, works on this machine.
fn can(words: &[&str]) -> bool {
    let tried = Command::new(words[0]).args(&words[1..]).arg("true").output();
    let can = tried.is_ok_and(|output| output.status.success());
    if !can {
        println!("not run: this machine cannot {}", words.join(" "));
    }
    can
}

#[test]
fn a_file_system_without_locks_is_worked_on_with_a_warning() {
    for error in ["ENOSYS", "ENOLCK"] {
        let fault = format!("inject=flock:error={error}");
        let no_locks = ["strace", "-f", "-q", "-o", "/dev/null", "-e", "trace=flock", "-e", &fault];
        if !can(&no_locks) {
            return;
        }
        let site = Site::new();
        let server = site.server();
        let worker = TestWorker::setup(&site, "worker").under(&no_locks).start(&server);
        let client = train(&site, &server, &worker).under(&no_locks).run();
        client.assert_code(0).assert_says(&["no file locks", "--output"]);
        let warned = worker.log().matches("no file locks").count();
        assert_eq!(warned, 1, "{}", worker.log());
        assert!(worker.log().contains("--state-dir"), "{}", worker.log());
    }
}

#[test]
fn a_quota_that_is_used_up_makes_the_cache_give_way() {
    if !can(&["strace", "-q", "-o", "/dev/null"]) {
        return;
    }
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    // From now on, the first write of each thread to a file finds the quota used up.
    let mut strace = Command::new("strace");
    strace.args(["-f", "-p", &worker.pid().to_string(), "-e", "trace=pwrite64"]);
    strace.args(["-e", "inject=pwrite64:error=EDQUOT:when=1"]);
    let strace = Process::start("strace", &mut strace);
    wait_for("strace", SOON, || strace.stderr().contains("attached").then_some(()));
    train(&site, &server, &worker).run().assert_code(0);
    assert!(strace.stderr().contains("EDQUOT"), "{}", strace.stderr());
}

#[test]
fn a_worker_without_proc_says_so_at_its_start() {
    let hidden = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs none /proc && exec \"$0\" \"$@\""];
    if !can(&hidden) {
        return;
    }
    let site = Site::new();
    let server = site.server();
    let mut command = Site::binary(&site.folder("worker"), &stand_in());
    command.args(["worker", "--ice-server", "none"]);
    command.env("SLEAP_RTC_SIGNALING_WS", format!("ws://{}", server.address()));
    let mut command = under(&hidden.map(str::to_owned), command);
    let mut worker = Process::start("worker", &mut command);
    assert_eq!(worker.wait(SOON), 2, "{}", worker.transcript());
    assert!(worker.stderr().contains("mount -t proc"), "{}", worker.transcript());
}

#[test]
fn little_address_space_is_enough() {
    let limited = ["sh", "-c", "ulimit -v 3145728 && exec \"$0\" \"$@\""];
    if !can(&limited) {
        return;
    }
    let site = Site::new();
    let server = site.server();
    let worker = TestWorker::setup(&site, "worker").under(&limited).start(&server);
    let client = site.client(&server).train(&fixture("train_single.zip"));
    client.auto(worker.credentials()).under(&limited).run().assert_code(0);
}

#[test]
fn the_first_process_of_a_container_leaves_no_zombies_and_ends_in_order() {
    let container =
        ["unshare", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"];
    if !can(&container) {
        return;
    }
    let site = Site::new();
    let server = site.server();
    let tools = site.folder("tools");
    let trainer =
        format!("#!/bin/sh\nsetsid sleep 0.2 &\nexec {}/sleap-nn \"$@\"\n", stand_in().display());
    write_program(&tools.join("sleap-nn"), &trainer);
    let setup = TestWorker::setup(&site, "worker").trainers_in(&tools);
    let worker = setup.under(&container).start(&server);
    train(&site, &server, &worker).run().assert_code(0);
    let children = |pid: u32| {
        let path = format!("/proc/{pid}/task/{pid}/children");
        let text = fs::read_to_string(path).unwrap_or_default();
        text.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
    };
    let first = children(worker.pid())[0];
    let is_zombie = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
    };
    wait_for("an end to all zombies", SOON, || {
        let below = children(first);
        (below.len() == 1 && !below.iter().any(is_zombie)).then_some(())
    });
    let pid = rustix::process::Pid::from_raw(first.cast_signed()).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    wait_for("an orderly end", SOON, || worker.log().contains("deregistered").then_some(()));
}

#[test]
fn a_folder_for_temporary_files_that_is_missing_is_replaced() {
    let site = Site::new();
    let server = site.server();
    let missing = site.path().join("nowhere");
    let worker =
        TestWorker::setup(&site, "worker").env("TMPDIR", missing.to_str().unwrap()).start(&server);
    train(&site, &server, &worker).run().assert_code(0);
}

#[test]
fn a_client_under_nohup_stays_when_its_terminal_closes() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").env("FAKE_SLEAP_BATCH_S", "0.3");
    let worker = setup.start(&server);
    let mut client = train(&site, &server, &worker).under(&["nohup"]).start();
    wait_for("the trainer", SOON, || (!worker.trainer_starts().is_empty()).then_some(()));
    client.signal(Signal::HUP);
    assert_eq!(client.wait(A_WHILE), 0, "{}", client.transcript());
}
