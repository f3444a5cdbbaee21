//! A client of the real binary.

use crate::process::{Process, python};
use crate::{A_WHILE, Credentials, Site, Windows, labels_and_models};
use std::{
    ffi::{OsStr, OsString},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Connects its own input and output to a new terminal in which a command runs.
const TERMINAL: &str =
    "import os,pty,sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";

/// A client command under construction.
pub struct TestClient {
    home: PathBuf,
    server: SocketAddr,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
    on_terminal: bool,
    given_ice_servers: bool,
    wrapper: Vec<String>,
    windows: Option<Windows>,
}

/// How a client ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Ended {
    /// Everything that the user saw.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Fails unless the exit code is `code`.
    #[track_caller]
    pub fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "wrong exit code; it said:\n{}", self.text());
        self
    }

    /// Fails unless the user saw each of `words`, in any case.
    #[track_caller]
    pub fn assert_says(&self, words: &[&str]) -> &Self {
        let text = self.text().to_lowercase();
        for word in words {
            assert!(text.contains(&word.to_lowercase()), "no {word:?} in:\n{}", self.text());
        }
        self
    }
}

impl TestClient {
    /// A command without arguments, in a home folder of its own, for a server at `server`.
    pub fn new(site: &Site, server: SocketAddr) -> Self {
        let (arguments, environment) = (Vec::new(), Vec::new());
        let home = site.folder("client");
        let (wrapper, windows) = (Vec::new(), None);
        let (on_terminal, given_ice_servers) = (false, false);
        Self {
            home,
            server,
            arguments,
            environment,
            on_terminal,
            given_ice_servers,
            wrapper,
            windows,
        }
    }

    /// Runs in the folder of an earlier client. Call it before anything that refers to files in
    /// that folder.
    pub fn in_home(self, home: &Path) -> Self {
        Self { home: home.to_owned(), ..self }
    }

    /// `client-train --pkg-path PACKAGE --output models` (in the client's folder).
    pub fn train(self, package: &Path) -> Self {
        self.train_to(package, "models")
    }

    /// The same with another output folder.
    pub fn train_to(self, package: &Path, output: &str) -> Self {
        let output = self.home.join(output);
        let this = self.arguments(&["client-train", "--pkg-path"]).argument(package);
        this.arguments(&["--output"]).argument(output)
    }

    /// `client-track --data-path LABELS --model-paths MODELS… -o predictions.slp` (in the client's
    /// folder).
    pub fn track(self, labels: &Path, models: &[PathBuf]) -> Self {
        let output = self.predictions();
        let this = self.arguments(&["client-track", "--data-path"]).argument(labels);
        let this = models.iter().fold(this.arguments(&["--model-paths"]), Self::argument);
        this.arguments(&["-o"]).argument(output)
    }

    /// A quick tracking job with the fixture.
    pub fn track_fixture(self, site: &Site) -> Self {
        let (labels, models) = labels_and_models(site);
        self.track(&labels, &models)
    }

    /// `--room-id R --token T`.
    pub fn room(self, credentials: &Credentials) -> Self {
        self.arguments(&["--room-id", &credentials.room_id, "--token", &credentials.token])
    }

    /// `--room-id R --token T --auto-select`.
    pub fn auto(self, credentials: &Credentials) -> Self {
        self.room(credentials).arguments(&["--auto-select"])
    }

    /// `--session-string S`.
    pub fn session(self, credentials: &Credentials) -> Self {
        self.arguments(&["--session-string", &credentials.session_string])
    }

    /// Adds arguments.
    pub fn arguments(self, arguments: &[&str]) -> Self {
        arguments.iter().fold(self, Self::argument)
    }

    /// Adds an argument.
    pub fn argument(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Uses the ICE servers that the signaling server gives, instead of none.
    pub fn given_ice_servers(mut self) -> Self {
        self.given_ice_servers = true;
        self
    }

    /// Runs it in a terminal instead of on pipes.
    pub fn on_terminal(mut self) -> Self {
        self.on_terminal = true;
        self
    }

    /// The folder in which `train` puts the models.
    pub fn output(&self) -> PathBuf {
        self.home.join("models")
    }

    /// The file in which `track` puts the predictions.
    pub fn predictions(&self) -> PathBuf {
        self.home.join("predictions.slp")
    }

    /// Starts it through another program.
    #[allow(dead_code, reason = "the torture's clients are started directly")]
    pub fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Runs the program for Windows.
    pub fn on_windows(mut self, windows: &Windows) -> Self {
        self.windows = Some(windows.clone());
        self
    }

    /// The client's home and working folder.
    pub fn home(&self) -> &Path {
        &self.home
    }

    pub(crate) fn command(&self) -> Command {
        let binary = Site::binary(&self.home, Path::new("/nonexistent"));
        let mut command = match self.on_terminal {
            false => binary,
            true => {
                let mut terminal = Command::new(python());
                terminal.args(["-c", TERMINAL]).arg(binary.get_program());
                terminal.env_clear().current_dir(&self.home).env("TERM", "xterm");
                terminal.envs(binary.get_envs().filter_map(|(k, v)| Some((k, v?))));
                terminal
            }
        };
        let words = if self.arguments.first().is_some_and(|first| first == "room") { 2 } else { 1 };
        command.args(self.arguments.iter().take(words));
        // These open no connection to a peer.
        let offline =
            ["--help", "estimates", "jobs", "plugin", "report", "rooms", "run-job", "signaling"];
        let connects =
            self.arguments.first().is_some_and(|first| !offline.iter().any(|word| first == word));
        if connects && !self.given_ice_servers {
            command.args(["--ice-server", "none"]);
        }
        command
            .args(self.arguments.iter().skip(words))
            .env("SLEAP_RTC_SIGNALING_WS", format!("ws://{}", self.server))
            .env("SLEAP_RTC_SIGNALING_HTTP", format!("http://{}", self.server))
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        match &self.windows {
            Some(windows) => windows.command(&command),
            None => super::under(&self.wrapper, command),
        }
    }

    /// Starts it. A client on pipes has an empty standard input.
    pub fn start(self) -> Process {
        let on_terminal = self.on_terminal;
        let mut process = self.start_with_input();
        if !on_terminal {
            process.close_stdin();
        }
        process
    }

    /// Runs it to its end while nobody reads its output, and returns its exit code.
    pub fn run_unheard(self) -> Option<i32> {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = self.command();
        let command = command.stdin(Stdio::null()).stdout(writer.try_clone().unwrap());
        command.stderr(writer).status().unwrap().code()
    }

    /// Starts it with an open standard input.
    pub fn start_with_input(self) -> Process {
        Process::start("client", &mut self.command())
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(self) -> Ended {
        self.run_within(A_WHILE)
    }

    /// Runs it to its end. Fails if it takes longer than `limit`.
    #[track_caller]
    pub fn run_within(self, limit: Duration) -> Ended {
        let start = Instant::now();
        let mut process = self.start();
        let code = process.wait(limit);
        Ended { code, stdout: process.stdout(), stderr: process.stderr(), took: start.elapsed() }
    }
}
