//! Other users of the machine: the files that they leave, and what they can see and connect to.

use crate::support::*;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};

/// The user `nobody`.
const SOMEBODY_ELSE: u32 = 65534;

#[test]
fn a_configuration_file_that_others_could_have_written_does_not_count() {
    let site = Site::new();
    let server = site.server();
    let home = site.folder("shared");
    let file = home.join("sleap-rtc.toml");
    // If the file were read, the program would end.
    fs::write(&file, "no_such_key = 1\n").unwrap();
    let doctor = || site.client(&server).in_home(&home).arguments(&["doctor", "--client"]).run();
    doctor().assert_code(2).assert_says(&["no_such_key"]);
    fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
    doctor().assert_says(&["is ignored", "other users", "there is no configuration file"]);
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    if chown(&file, Some(SOMEBODY_ELSE), None).is_err() {
        return println!("not tested: only root can give a file away");
    }
    doctor().assert_says(&["is ignored", "another user", "--config"]);
}

#[test]
fn a_token_does_not_stay_on_the_command_line() {
    let site = Site::new();
    let server = site.server();
    let first = site.worker(&server);
    let token = &first.credentials().token;
    let second = TestWorker::setup(&site, "second").join(first.credentials()).start(&server);
    let shown = fs::read_to_string(format!("/proc/{}/cmdline", second.pid())).unwrap();
    assert!(shown.contains("--token") && !shown.contains(token.as_str()), "{shown}");
}

#[test]
fn a_state_folder_that_is_open_to_others_is_closed() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker");
    let state = setup.home().join("state");
    let inner = ["", "jobs", "cache"].map(|name| state.join(name));
    for folder in &inner {
        fs::create_dir_all(folder).unwrap();
        fs::set_permissions(folder, Permissions::from_mode(0o777)).unwrap();
    }
    let worker = setup.start(&server);
    let client = site.client(&server).train(&fixture("train_single.zip"));
    client.session(worker.credentials()).run().assert_code(0);
    for folder in &inner {
        let mode = folder.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{}", folder.display());
    }
    assert!(worker.log().contains("was open to other users"), "{}", worker.log());
}

#[test]
fn no_other_process_speaks_for_a_trainer() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").env("FAKE_SLEAP_BATCH_S", "0.3");
    let worker = setup.env("FAKE_SLEAP_EPOCHS", "4").start(&server);
    let client = site.client(&server).train(&fixture("train_single.zip"));
    let mut client = client.session(worker.credentials()).start();
    let ports = wait_for("the trainer's ports", SOON, || {
        let process = worker.jobs().first()?.pointer("/state/pid")?.as_i64()?;
        Some(listening(process)).filter(|ports| ports.len() == 2)
    });
    for port in ports {
        // This test is no descendant of the job, though it is the same user.
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut greeting = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 0];
        greeting.extend(*b"NULL");
        greeting.resize(64, 0);
        let _ = stream.write_all(&greeting);
        // The connection is closed in some way. A listener would send a greeting.
        assert!(!matches!(stream.read(&mut [0; 64]), Ok(1..)), "port {port} answers");
    }
    // The job's own trainer is still heard.
    assert_eq!(client.wait(A_WHILE), 0);
    assert!(client.stdout().contains("Epoch"), "{}", client.stdout());
}

/// The ports of 127.0.0.1 at which a process listens.
fn listening(process: i64) -> Vec<u16> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let open = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    let open: Vec<String> = open
        .filter_map(|entry| fs::read_link(entry.path()).ok()?.into_os_string().into_string().ok())
        .collect();
    let port = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_open = open.contains(&format!("socket:[{}]", fields.get(9)?));
        let listens = fields.get(3) == Some(&"0A") && is_open;
        listens.then(|| u16::from_str_radix(fields[1].split_once(':')?.1, 16).ok())?
    };
    table.lines().skip(1).filter_map(port).collect()
}
