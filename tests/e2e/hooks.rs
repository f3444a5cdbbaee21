//! Word when a job has ended: commands of the client's user and of the worker's operator, and the desktop.

use crate::queue::{Waiting, endless};
use crate::support::*;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A command that writes the job's variables and its arguments into `seen`.
fn hook(folder: &Path, seen: &Path) -> PathBuf {
    let path = folder.join("hook.sh");
    let seen = seen.display();
    let script = format!(
        "#!/bin/sh\n{{ env | grep ^SLEAP_RTC_; echo \"arguments=$*\"; }} > '{seen}.part'\nmv '{seen}.part' '{seen}'\n"
    );
    write_program(&path, &script);
    path
}

/// What the command saw, without `SLEAP_RTC_JOB_`.
fn facts(seen: &Path) -> BTreeMap<String, String> {
    let text = wait_for("the command", SOON, || fs::read_to_string(seen).ok());
    let facts = text.lines().filter_map(|line| line.split_once('='));
    facts.map(|(key, value)| (key.replace("SLEAP_RTC_JOB_", ""), value.to_owned())).collect()
}

/// Writes the configuration of a client.
fn configure(client: &TestClient, lines: &str) {
    fs::write(client.home().join("sleap-rtc.toml"), format!("[client]\n{lines}\n")).unwrap();
}

/// A training package whose name is a trap.
fn trap(site: &Site) -> PathBuf {
    let zip = Zip::new(site, "a;touch pwned $(touch pwned) `touch pwned`.pkg.zip");
    zip.fixture("train_single.zip", "", &[]).finish()
}

#[test]
fn a_clients_command_gets_the_facts_in_its_environment_and_nothing_reaches_a_shell() {
    let site = Site::new();
    let server = site.server();
    let worker = TestWorker::setup(&site, "worker").start(&server);
    let client = site.client(&server).train(&trap(&site)).session(worker.credentials());
    let (home, output) = (client.home().to_owned(), client.output());
    let seen = home.join("seen");
    hook(&home, &seen);
    configure(&client, "on_end = './hook.sh first \"second word\"'");
    client.env("SLEAP_RTC_TOKEN", "a secret").run().assert_code(0);
    let facts = facts(&seen);
    let fact = |name: &str| facts[name].as_str();
    assert_eq!(fact("arguments"), "first second word");
    assert_eq!((fact("OUTCOME"), fact("TYPE")), ("succeeded", "training"));
    assert_eq!(fact("NAME"), "a;touch pwned $(touch pwned) `touch pwned`.pkg");
    assert_eq!(Path::new(fact("RESULT")), output);
    assert_eq!(fact("WORKER"), worker.peer_id());
    assert!(
        fact("ID").starts_with("job-") && fact("SUMMARY").contains("succeeded after"),
        "{facts:?}"
    );
    fact("SECONDS").parse::<u32>().unwrap();
    assert!(!facts.values().any(|value| value.contains("secret")), "{facts:?}");
    assert!(files_below(site.path()).iter().all(|file| !file.ends_with("pwned")));
}

#[test]
fn a_command_that_fails_is_a_warning_and_a_failed_job_is_told_too() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").env("FAKE_SLEAP_FAIL_EPOCH", "1");
    let worker = setup.start(&server);
    let train =
        || site.client(&server).train(&fixture("train_single.zip")).session(worker.credentials());
    let client = train();
    let seen = client.home().join("seen");
    hook(client.home(), &seen);
    configure(&client, "on_end = './hook.sh'");
    client.run().assert_code(6);
    let facts = facts(&seen);
    assert_eq!(facts["OUTCOME"], "failed");
    assert!(facts["MESSAGE"].contains("fake failure") && facts["RESULT"].is_empty(), "{facts:?}");

    let client = train();
    configure(&client, "on_end = 'sh -c \"echo no mail server >&2; exit 3\"'");
    client.run().assert_code(6).assert_says(&[
        "Warning: `on_end`",
        "exit status: 3",
        "no mail server",
    ]);
    let client = train();
    configure(&client, "on_end = './absent.sh'");
    client.run().assert_code(6).assert_says(&["Warning: `on_end`", "absent.sh"]);
}

#[test]
fn the_operators_command_runs_for_each_job_once_also_for_one_that_ended_while_the_worker_was_away()
{
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").env("FAKE_SLEAP_BATCH_S", "0.2");
    let log = setup.home().join("ends");
    let command =
        format!("sh -c 'echo $SLEAP_RTC_JOB_ID $SLEAP_RTC_JOB_OUTCOME >> {}'", log.display());
    let mut worker = setup.config(&format!("on_job_end = \"{command}\"\n")).start(&server);
    let train = |worker: &TestWorker| {
        site.client(&server).train(&fixture("train_single.zip")).session(worker.credentials())
    };
    train(&worker).run().assert_code(0);
    let lines = |count: usize| {
        wait_for(&format!("{count} ends"), A_WHILE, || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            (lines.len() >= count).then_some(lines)
        })
    };
    assert!(lines(1)[0].ends_with(" succeeded"));

    let mut client = train(&worker).start();
    client.wait_stdout("the trainer's log", SOON, |text: &str| {
        text.contains("Starting training loop").then_some(())
    });
    worker.kill();
    wait_for("the job's end", A_WHILE, || {
        let over = |job: &serde_json::Value| job["state"]["state"] == "finished";
        worker.jobs().iter().all(over).then_some(())
    });
    assert_eq!(lines(1).len(), 1);
    let worker = worker.start_again("");
    assert_eq!(lines(2).len(), 2);
    client.wait(A_WHILE);
    let worker = worker.restart(&[]);
    train(&worker).run().assert_code(0);
    let mut all = lines(3);
    assert_eq!(all.len(), 3, "{all:?}");
    all.dedup();
    assert_eq!(all.len(), 3, "{all:?}");
}

#[test]
fn the_operators_command_runs_for_a_job_that_is_withdrawn_while_it_waits() {
    let site = Site::new();
    let server = site.server();
    let setup = endless(TestWorker::setup(&site, "worker"));
    let (home, seen) = (setup.home().to_owned(), setup.home().join("seen"));
    let command = format!("on_job_end = \"{}\"\n", hook(&home, &seen).display());
    let worker = setup.config(&command).start(&server);
    let train =
        || site.client(&server).train(&fixture("train_single.zip")).session(worker.credentials());
    let mut first = Waiting::start(train());
    first.sees("started on");
    let mut second = Waiting::start(train().arguments(&["--wait"]));
    second.sees("1st in line").command(&site, &server, "cancel").assert_code(0);
    let facts = facts(&seen);
    assert_eq!((&facts["ID"], facts["OUTCOME"].as_str()), (&second.job, "cancelled"));
    assert!(facts["SECONDS"].is_empty() && facts["RESULT"].is_empty(), "{facts:?}");
    first.command(&site, &server, "cancel").assert_code(0);
}

/// The folder of the example hooks.
fn examples() -> PathBuf {
    tests_folder().parent().unwrap().join("examples/hooks")
}

#[test]
fn the_example_hooks_mail_and_post() {
    let site = Site::new();
    let server = site.server();
    let worker = TestWorker::setup(&site, "worker").start(&server);
    let train = || site.client(&server).train(&trap(&site)).session(worker.credentials());

    let client = train();
    let (mail, sendmail) = (client.home().join("mail"), client.home().join("sendmail"));
    write_program(&sendmail, &format!("#!/bin/sh\ncat > '{}'\n", mail.display()));
    let hook = examples().join("mail.sh");
    configure(&client, &format!("on_end = '{} ada@example.org'", hook.display()));
    let ended = client.env("SENDMAIL", sendmail.to_str().unwrap()).run();
    assert!(!ended.assert_code(0).text().contains("Warning"), "{}", ended.text());
    let mail = fs::read_to_string(mail).unwrap();
    let (head, body) = mail.split_once("\n\n").unwrap();
    assert!(
        head.contains("To: ada@example.org\nSubject: sleap-rtc: a training job succeeded"),
        "{mail}"
    );
    assert!(body.contains("training a;touch pwned") && body.contains("succeeded after"), "{mail}");

    if Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("SKIPPED in part: there is no curl");
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let posted = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut text = String::new();
        let mut bytes = [0; 4096];
        while !text.contains("succeeded after") {
            let count = stream.read(&mut bytes).unwrap();
            assert!(count > 0, "incomplete: {text}");
            text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .unwrap();
        text
    });
    let client = train();
    let hook = examples().join("ntfy.sh");
    configure(&client, &format!("on_end = '{} http://{address}/a-topic'", hook.display()));
    let ended = client.run();
    assert!(!ended.assert_code(0).text().contains("Warning"), "{}", ended.text());
    let posted = posted.join().unwrap();
    assert!(
        posted.starts_with("POST /a-topic HTTP/1.1") && posted.contains("Priority: default"),
        "{posted}"
    );
    assert!(files_below(site.path()).iter().all(|file| !file.ends_with("pwned")));
}

#[test]
fn a_notification_reaches_the_desktop_and_where_there_is_none_a_warning_says_so() {
    let site = Site::new();
    let server = site.server();
    let worker = TestWorker::setup(&site, "worker").start(&server);
    let train = || {
        let client = site.client(&server).train(&fixture("train_single.zip"));
        client.session(worker.credentials()).arguments(&["--notify"])
    };
    let none = site.folder("no-desktop").join("bus");
    let none = format!("unix:path={}", none.display());
    let ended = train().env("DBUS_SESSION_BUS_ADDRESS", &none).run();
    ended.assert_code(0).assert_says(&["Warning: cannot show a notification"]);

    let bus = site.folder("desktop").join("bus");
    let address = format!("unix:path={}", bus.display());
    let mut daemon = Command::new("dbus-daemon");
    daemon.args(["--session", "--nofork", "--nopidfile", "--address", &address]);
    let mut monitor = Command::new("dbus-monitor");
    monitor.args(["--address", &address, "interface=org.freedesktop.Notifications"]);
    let is_there = |program: &Command| {
        let asked = Command::new(program.get_program())
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        asked.is_ok()
    };
    if !is_there(&daemon) || !is_there(&monitor) {
        println!("SKIPPED in part: there is no dbus-daemon or no dbus-monitor");
        return;
    }
    let mut daemon = Process::start("dbus-daemon", &mut daemon);
    wait_for("the bus", SOON, || bus.exists().then_some(()));
    let mut monitor = Process::start("dbus-monitor", &mut monitor);
    monitor.wait_stdout("its name on the bus", SOON, |text: &str| {
        text.contains("NameAcquired").then_some(())
    });
    train().env("DBUS_SESSION_BUS_ADDRESS", &address).run().assert_code(0);
    monitor.wait_stdout("the notification", SOON, |text: &str| {
        let sent = text.contains("member=Notify")
            && text.contains("training train_single succeeded after");
        sent.then_some(())
    });
    monitor.kill();
    daemon.kill();
}
