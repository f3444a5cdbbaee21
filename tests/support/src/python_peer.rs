//! The independent Python peers (`tests/python`).

use crate::process::{Process, clean_command};
use crate::{
    Credentials, SOON, Site, TestServer, python, python_peers, stand_in, target, write_program,
};
use std::{env, fs, path::PathBuf};

/// A developer sets this to skip the tests with Python peers. Those then report that they did not
/// run.
const WITHOUT: &str = "SLEAP_RTC_WITHOUT_PYTHON_PEERS";
/// The folder of the virtual environments, by default `target/python-peers`.
const WHERE: &str = "SLEAP_RTC_PYTHON_PEERS";

/// A Python peer's version of aiortc. Up to 1.15 it derives the roles in SCTP from ICE, and since
/// then from DTLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aiortc {
    Oldest,
    V1_14,
    V1_15,
    Newest,
}

impl Aiortc {
    /// The name of its environment, which `cargo xtask python-peers` creates.
    fn name(self) -> &'static str {
        match self {
            Self::Oldest => "oldest",
            Self::V1_14 => "1.14",
            Self::V1_15 => "1.15",
            Self::Newest => "newest",
        }
    }
}

/// The Python with this aiortc and with websockets, or `None` if the developer skips these tests.
///
/// # Panics
///
/// Panics if it is not installed and the tests are not skipped.
pub fn python_with(aiortc: Aiortc) -> Option<PathBuf> {
    environment(aiortc.name())
}

/// A folder with the stand-in trainer as `sleap-nn`, in a Python that has h5py as a real trainer's
/// has. `None` if the developer skips these tests.
pub fn stand_in_with_hdf5(site: &Site) -> Option<PathBuf> {
    let python = environment("hdf5")?;
    let folder = site.folder("trainer");
    let program = folder.join("sleap-nn");
    let text = fs::read_to_string(stand_in().join("sleap-nn")).unwrap();
    let (_, text) = text.split_once('\n').unwrap();
    write_program(&program, &format!("#!{}\n{text}", python.display()));
    Some(folder)
}

/// `tests/python/pair.py`, run to its end: a laptop that somebody else wrote. Gives its exit code and
/// what it printed; `None` when the developer does without.
pub fn python_laptop(
    site: &Site,
    server: &TestServer,
    arguments: &[&str],
) -> Option<(i32, String)> {
    let interpreter = environment("pairing")?;
    let mut command = clean_command(interpreter, &site.folder("python"), "/usr/bin:/bin");
    command.arg(python_peers().join("pair.py"));
    command.args(["--ws", &format!("ws://{}", server.address())]).args(arguments);
    let mut laptop = Process::start("pair.py", &mut command);
    Some((laptop.wait(SOON), format!("{}{}", laptop.stdout(), laptop.stderr())))
}

fn environment(name: &str) -> Option<PathBuf> {
    let default = || target().join("python-peers");
    let folder = env::var_os(WHERE).map_or_else(default, PathBuf::from).join(name);
    let python = folder.join("bin/python");
    if python.exists() {
        return Some(python);
    }
    if env::var_os(WITHOUT).is_some() {
        println!("not run: {} is not installed and {WITHOUT} is set", folder.display());
        return None;
    }
    panic!(
        "{} does not exist: `cargo xtask python-peers` installs it, {WITHOUT}=1 skips these tests",
        folder.display()
    );
}

/// A Python program `script` of `tests/python` with its `arguments`, for `server`.
pub fn python_peer(
    aiortc: Aiortc,
    site: &Site,
    server: &TestServer,
    script: &str,
    arguments: &[&str],
) -> Option<Process> {
    let address = server.address();
    let (http, ws) = (format!("http://{address}"), format!("ws://{address}"));
    let all = [&["--http", http.as_str(), "--ws", ws.as_str()], arguments].concat();
    program(aiortc, site, script, &all)
}

/// The Python program `script` of `tests/python` with its `arguments`.
pub fn python_program(site: &Site, script: &str, arguments: &[&str]) -> Option<Process> {
    program(Aiortc::Newest, site, script, arguments)
}

fn program(aiortc: Aiortc, site: &Site, script: &str, arguments: &[&str]) -> Option<Process> {
    let interpreter = python_with(aiortc)?;
    let home = site.folder("python");
    let plain_python = python().parent().unwrap().display();
    let path = format!("{}:{plain_python}:/usr/bin:/bin", stand_in().display());
    let mut command = clean_command(interpreter, &home, &path);
    command.arg("-u").arg(python_peers().join(script)).args(arguments);
    Some(Process::start(script, &mut command))
}

/// A Python worker that has printed its credentials.
pub fn python_worker(
    aiortc: Aiortc,
    site: &Site,
    server: &TestServer,
    arguments: &[&str],
) -> Option<(Process, Credentials)> {
    let mut worker = python_peer(aiortc, site, server, "worker.py", arguments)?;
    let credentials = worker.wait_stdout("its credentials", SOON, Credentials::parse);
    Some((worker, credentials))
}
