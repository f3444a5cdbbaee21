//! Our programs with independent ones, written in Python only from the protocol.
//!
//! A [`Pair`] is a client and a worker, each of either kind, on a server of either kind. The table
//! in `docs/switching-from-python.md` lists the test of each combination.

mod aiortc;
mod failing;
mod hostile;
mod matrix;
mod old_server;

use crate::support::*;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// The program: ours, or the Python one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Native,
    Python(Aiortc),
}
use Side::{Native, Python};

/// A Python peer whose version of aiortc makes no difference.
const PYTHON: Side = Python(Aiortc::Newest);

/// How the client finds the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Room,
    Session,
}
use How::{Room, Session};

enum Worker {
    Native(TestWorker),
    Python(Process, Credentials),
}

/// A worker on a server, waiting for clients.
struct Pair {
    worker: Worker,
    server: TestServer,
    site: Site,
    /// Our client's configuration.
    client_config: &'static str,
}

/// The special settings of a pair.
#[derive(Default, Clone, Copy)]
struct Setup<'a> {
    /// Environment variables for the trainer.
    env: &'a [(&'a str, &'a str)],
    /// Arguments of the Python worker.
    python: &'a [&'a str],
    /// Arguments of our worker.
    native: &'a [&'a str],
}

impl Pair {
    /// On our server. `None` if the developer skips the Python peers.
    fn new(worker: Side) -> Option<Self> {
        Self::with(worker, Setup::default())
    }

    fn with(worker: Side, setup: Setup<'_>) -> Option<Self> {
        let site = Site::new();
        let server = site.server();
        Self::on(site, server, worker, setup)
    }

    fn on(site: Site, server: TestServer, worker: Side, setup: Setup<'_>) -> Option<Self> {
        let worker = match worker {
            Native => {
                let worker = TestWorker::setup(&site, "worker").arguments(setup.native);
                let worker = setup.env.iter().fold(worker, |w, (name, value)| w.env(name, value));
                Worker::Native(worker.start(&server))
            }
            Python(aiortc) => {
                let env: Vec<_> = setup.env.iter().map(|(n, v)| format!("--env={n}={v}")).collect();
                let env: Vec<_> = env.iter().map(String::as_str).collect();
                let arguments = [setup.python, &env].concat();
                let (process, credentials) = python_worker(aiortc, &site, &server, &arguments)?;
                Worker::Python(process, credentials)
            }
        };
        Some(Self { worker, server, site, client_config: "" })
    }

    fn credentials(&self) -> &Credentials {
        match &self.worker {
            Worker::Native(worker) => worker.credentials(),
            Worker::Python(_, credentials) => credentials,
        }
    }

    /// A client's training with `package`.
    fn train(&self, side: Side, how: How, package: &Path, more: &[&str]) -> Option<Running> {
        match side {
            Native => {
                let client = self.site.client(&self.server).train(package);
                Some(self.native(client, how, more))
            }
            Python(aiortc) => {
                let package = package.to_str().unwrap();
                let job = [&["--job", "train", "--package", package], more].concat();
                self.python(aiortc, how, &job)
            }
        }
    }

    /// A client's tracking with the fixture; its labels are the predictions.
    fn track(&self, side: Side, how: How) -> Option<Running> {
        match side {
            Native => {
                let client = self.site.client(&self.server).track_fixture(&self.site);
                let output = client.predictions();
                let running = self.native(client, how, &[]);
                Some(Running { output, ..running })
            }
            Python(aiortc) => {
                let package = fixture("track_topdown.zip");
                let job = ["--job", "track", "--package", package.to_str().unwrap()];
                self.python(aiortc, how, &job)
            }
        }
    }

    fn native(&self, client: TestClient, how: How, more: &[&str]) -> Running {
        fs::write(client.home().join("sleap-rtc.toml"), self.client_config).unwrap();
        let output = client.output();
        let client = match how {
            Room => client.auto(self.credentials()),
            Session => client.session(self.credentials()),
        };
        Running { process: client.arguments(more).start(), output }
    }

    fn python(&self, aiortc: Aiortc, how: How, job: &[&str]) -> Option<Running> {
        let Credentials { session_string, room_id, .. } = self.credentials();
        let token = self.credentials().server_token();
        let way = match how {
            Room => vec!["--room-id", room_id, "--token", token],
            Session => vec!["--session-string", session_string],
        };
        let output = self.site.folder("output");
        let to = ["--output", output.to_str().unwrap()];
        let arguments = [job, &way, &to].concat();
        let process = python_peer(aiortc, &self.site, &self.server, "client.py", &arguments)?;
        Some(Running { process, output })
    }

    /// Waits until the room shows the worker as `status`.
    #[track_caller]
    fn wait_status(&self, status: &str) {
        let mut observer = Observer::join(&self.server, self.credentials());
        observer.wait_status(&self.credentials().peer_id, status, A_WHILE);
    }

    /// Waits until the worker is free, with nothing of a job left running.
    #[track_caller]
    fn wait_idle(&self) {
        self.wait_status("available");
        let worker = match &self.worker {
            Worker::Native(worker) => worker.pid(),
            Worker::Python(process, _) => process.pid(),
        };
        self.site.assert_only_processes(&[self.server.pid(), worker]);
    }
}

/// A running client.
struct Running {
    process: Process,
    output: PathBuf,
}

impl Running {
    /// The exit code and everything that was printed.
    #[track_caller]
    fn end(&mut self) -> (i32, String) {
        let code = self.process.wait(Duration::from_secs(120));
        (code, self.process.transcript())
    }

    /// Fails unless it ends with `code`. Returns its output.
    #[track_caller]
    fn assert_code(&mut self, code: i32) -> String {
        let (ended, text) = self.end();
        assert_eq!(ended, code, "{text}");
        text
    }

    /// How many models have arrived.
    fn models(&self) -> usize {
        files_below(&self.output).iter().filter(|file| file.ends_with("best.ckpt")).count()
    }

    /// The predictions that have arrived.
    fn predictions(&self) -> Vec<u8> {
        if self.output.is_file() {
            return fs::read(&self.output).unwrap();
        }
        let files = files_below(&self.output);
        assert_eq!(files.len(), 1, "{files:?}");
        fs::read(self.output.join(&files[0])).unwrap()
    }
}
