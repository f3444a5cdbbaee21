//! `sleap-rtc service`, with stand-ins for systemd's programs, and with systemd where it is installed.

use crate::support::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A machine with a `systemctl` and a `loginctl` that record their arguments.
struct Machine {
    home: PathBuf,
    programs: PathBuf,
}

impl Machine {
    fn new(site: &Site) -> Self {
        let machine = Self { home: site.folder("home"), programs: site.folder("programs") };
        let calls = machine.programs.join("calls");
        machine.has(
            "systemctl",
            &format!(
                "echo \"$@\" >> {}\ncase $2 in show) cat {}/state;; esac\n",
                calls.display(),
                machine.programs.display()
            ),
        );
        machine.has("loginctl", "echo Linger=no\n");
        machine.is("ActiveState=active\nMainPID=4711\nResult=success\n");
        machine
    }

    fn has(&self, name: &str, script: &str) {
        write_program(&self.programs.join(name), &format!("#!/bin/sh\n{script}"));
    }

    /// Systemd's answer about a unit.
    fn is(&self, state: &str) {
        fs::write(self.programs.join("state"), state).unwrap();
    }

    /// The changes that systemd was asked for.
    fn changes(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.programs.join("calls")).unwrap_or_default();
        let changes = calls.lines().filter(|call| !call.starts_with("--user show"));
        changes.map(str::to_owned).collect()
    }

    fn service(&self, words: &[&str]) -> Ended {
        self.service_with(&[], words)
    }

    fn service_with(&self, variables: &[(&str, &str)], words: &[&str]) -> Ended {
        let mut command = Site::binary(&self.home, &self.programs);
        command.arg("service").args(words).envs(variables.iter().copied());
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        println!("{words:?}\n{text}");
        Ended { code: output.status.code().unwrap(), text }
    }

    fn unit(&self, name: &str) -> PathBuf {
        self.home.join(".config/systemd/user").join(name)
    }

    fn line(&self, unit: &str, start: &str) -> String {
        let text = fs::read_to_string(self.unit(unit)).unwrap();
        let line = text.lines().find(|line| line.starts_with(start));
        line.unwrap_or_else(|| panic!("no {start} in\n{text}")).to_owned()
    }
}

struct Ended {
    code: i32,
    text: String,
}

impl Ended {
    #[track_caller]
    fn assert(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{}", self.text);
        for word in words {
            assert!(self.text.contains(word), "{word} is missing in:\n{}", self.text);
        }
    }
}

const WORKER: &str = "sleap-rtc-worker.service";

#[test]
fn a_worker_is_installed_shown_and_removed() {
    let site = Site::new();
    let machine = Machine::new(&site);
    machine.service(&["status"]).assert(1, &["sleap-rtc service install"]);
    let server = [("SLEAP_RTC_SIGNALING_WS", "ws://gpu1:8080"), ("SLEAP_RTC_TOKEN", "hunter2")];
    let installed = machine.service_with(&server, &["install"]);
    installed
        .assert(0, &[WORKER, "credentials.txt", "journalctl --user", "loginctl enable-linger"]);
    assert_eq!(
        machine.changes(),
        [
            "--user daemon-reload",
            &format!("--user enable {WORKER}"),
            &format!("--user restart {WORKER}")
        ]
    );
    let start = machine.line(WORKER, "ExecStart=");
    let program = built().join("sleap-rtc");
    assert!(
        start.starts_with(&format!("ExecStart=\"{}\" \"worker\"", program.display())),
        "{start}"
    );
    assert!(start.contains("\"--credentials-file\""), "{start}");
    let unit = fs::read_to_string(machine.unit(WORKER)).unwrap();
    assert!(unit.contains("Environment=\"SLEAP_RTC_SIGNALING_WS=ws://gpu1:8080\""), "{unit}");
    assert!(!unit.contains("hunter2"), "{unit}");
    let mode = machine.unit(WORKER).metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    machine.service(&["status"]).assert(0, &[WORKER, "runs as process 4711"]);
    machine.is("ActiveState=failed\nMainPID=0\nResult=exit-code\n");
    machine.service(&["status"]).assert(1, &["has failed (exit-code)", "journalctl"]);

    machine.service(&["uninstall"]).assert(0, &["removed"]);
    assert!(!machine.unit(WORKER).exists());
    let changes = machine.changes();
    assert_eq!(
        changes[3..],
        [
            format!("--user disable --now {WORKER}"),
            "--user daemon-reload".to_owned(),
            format!("--user reset-failed {WORKER}")
        ]
    );
    machine.service(&["uninstall"]).assert(2, &["nothing to uninstall"]);
}

#[test]
fn options_and_the_configuration_reach_the_service() {
    let site = Site::new();
    let machine = Machine::new(&site);
    fs::write(machine.home.join("sleap-rtc.toml"), "[worker]\nslots = 2\n").unwrap();
    machine.service(&["install", "worker", "--", "--state-dir", "state", "--drain"]).assert(0, &[]);
    let start = machine.line(WORKER, "ExecStart=");
    let config = machine.home.join("sleap-rtc.toml");
    assert!(start.contains(&format!("\"--config\" \"{}\"", config.display())), "{start}");
    assert!(start.contains("\"--state-dir\" \"state\" \"--drain\""), "{start}");
    let folder = machine.line(WORKER, "WorkingDirectory=");
    assert_eq!(folder, format!("WorkingDirectory={}", machine.home.display()));

    machine.service(&["install", "signaling", "--", "--no-relay"]).assert(0, &[]);
    let start = machine.line("sleap-rtc-signaling.service", "ExecStart=");
    assert!(start.ends_with("\"signaling\" \"--no-relay\""), "{start}");
}

#[test]
fn unsuitable_options_are_refused_before_anything_is_written() {
    let site = Site::new();
    let machine = Machine::new(&site);
    for (options, word) in [
        (&["--room-id", "r", "--token", "hunter2"][..], "must not contain secrets"),
        (&["--ice-server", "turn:joe:hunter2@relay:1"], "must not contain secrets"),
        (&["--new-room"], "last room"),
        (&["--no-such-option"], "--no-such-option"),
    ] {
        let ended = machine.service(&[&["install", "worker", "--"], options].concat());
        ended.assert(2, &[word]);
        assert!(!ended.text.contains("hunter2"), "{}", ended.text);
    }
    assert!(machine.changes().is_empty() && !machine.unit(WORKER).exists());
}

#[test]
fn without_systemd_the_alternative_is_explained() {
    let site = Site::new();
    let machine = Machine::new(&site);
    let nothing = site.folder("nothing");
    let path = [("PATH", nothing.to_str().unwrap())];
    machine.service_with(&path, &["install"]).assert(1, &["no `systemctl`", "tmux"]);
    machine.has("systemctl", "echo 'Failed to connect to bus' >&2\nexit 1\n");
    machine.service(&["install"]).assert(1, &["Failed to connect to bus", "ssh"]);
    assert!(!machine.unit(WORKER).exists());
}

#[test]
fn a_change_that_systemd_refuses_is_reported() {
    let site = Site::new();
    let machine = Machine::new(&site);
    machine.has("systemctl", "case $2 in restart) echo 'Job failed.' >&2; exit 1;; esac\n");
    machine.service(&["install"]).assert(1, &["restart", "Job failed."]);
}

#[test]
fn the_units_in_the_examples_keep_jobs_and_secrets() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/systemd/user");
    let unit = fs::read_to_string(folder.join(WORKER)).unwrap();
    for line in ["KillMode=process", "StandardOutput=null", "OOMPolicy=continue"] {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
}

/// A shell beside systemd's instance of root, in namespaces where nothing else of systemd is.
const SYSTEMD: &str = r#"
mount --make-rprivate / && mount -t tmpfs tmpfs /run || exit 1
export XDG_RUNTIME_DIR=/run/user/0
mkdir -p /run/systemd/system "$XDG_RUNTIME_DIR"
/lib/systemd/systemd --user >"$HOME/systemd.log" 2>&1 &
until systemctl --user show-environment >/dev/null 2>&1; do kill -0 $! || exit 1; done
echo "systemd runs"
exec sh
"#;

/// systemd's own instance of a user, and a shell beside it.
struct Login {
    shell: Process,
    commands: usize,
}

impl Login {
    /// `None` where systemd is not installed, or does not run with the rights of this test; says so.
    fn new(home: &Path) -> Option<Self> {
        if !Path::new("/lib/systemd/systemd").exists() || !rustix::process::geteuid().is_root() {
            println!("not run: this needs systemd, and root for namespaces of its own");
            return None;
        }
        let mut apart = with_program(&Site::binary(home, &stand_in()), "unshare");
        let namespaces = ["--mount", "--pid", "--mount-proc", "--fork", "--kill-child"];
        apart.args(namespaces).args(["sh", "-c", SYSTEMD]);
        let mut shell = Process::start("systemd", &mut apart);
        let runs = wait_for("systemd", SOON, || match shell.stdout().contains("systemd runs") {
            true => Some(true),
            false => shell.try_wait().map(|_| false),
        });
        if !runs {
            println!("not run: systemd does not run here: {}", shell.transcript());
        }
        runs.then_some(Self { shell, commands: 0 })
    }

    /// What a command prints. It must succeed.
    #[track_caller]
    fn run(&mut self, command: &str) -> String {
        self.commands += 1;
        let end = format!("command {} ended with ", self.commands);
        let before = self.shell.stdout().len();
        self.shell.type_line(&format!("{command}; echo \"{end}$?\""));
        let printed = self.shell.wait_stdout("the end of a command", A_WHILE, |text| {
            let (printed, code) = text.get(before..)?.split_once(&end)?;
            let (code, _) = code.split_once('\n')?;
            Some((printed.to_owned(), code.to_owned()))
        });
        assert_eq!(printed.1, "0", "{command}{}", self.shell.transcript());
        printed.0
    }
}

#[test]
fn systemd_itself_starts_a_worker_that_trains() {
    let site = Site::new();
    let (server, home) = (site.server(), site.folder("home"));
    let Some(mut login) = Login::new(&home) else { return };
    let program = Site::binary(&home, Path::new("/")).get_program().display().to_string();
    let address = server.address();
    login.run(&format!(
        "export SLEAP_RTC_SIGNALING_WS=ws://{address} SLEAP_RTC_SIGNALING_HTTP=http://{address}"
    ));
    let installed = login.run(&format!("{program} service install -- --ice-server none"));
    let (_, file) = installed.split_once("How to join its room is in ").expect("the credentials");
    let file = Path::new(file.lines().next().unwrap());
    let credentials = wait_for("the credentials", SOON, || {
        Credentials::parse(&fs::read_to_string(file).unwrap_or_default())
    });
    assert!(login.run(&format!("{program} service status")).contains("runs as process"));
    let client = site.client(&server).train(&fixture("train_single.zip"));
    client.auto(&credentials).run().assert_code(0);
    login.run(&format!("{program} service uninstall"));
    assert!(!login.run("systemctl --user list-units --all").contains(WORKER));
    login.run("systemctl --user exit");
}
