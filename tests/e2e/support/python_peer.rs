//! The independent Python peers (`tests/python`), and whether they can run here.

use super::process::{Process, clean_command};
use super::{Credentials, SOON, Site, TestServer, python, python_peers, stand_in};
use std::{
    env,
    path::{Path, PathBuf},
};

/// Set by a developer who wants to do without: the tests then say that they did not run.
const WITHOUT: &str = "SLEAP_RTC_WITHOUT_PYTHON_PEERS";
/// Where the virtual environment is, when not in `target/python-peers`.
const WHERE: &str = "SLEAP_RTC_PYTHON_PEERS";

/// The Python with aiortc and websockets; `None` when the developer does without.
///
/// # Panics
/// When it is not installed and nobody said that this is meant.
pub fn python_with_aiortc() -> Option<PathBuf> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python-peers");
    let folder = env::var_os(WHERE).map_or_else(default, PathBuf::from);
    let python = folder.join("bin/python");
    if python.exists() {
        return Some(python);
    }
    if env::var_os(WITHOUT).is_some() {
        println!("not run: {} is not installed and {WITHOUT} is set", folder.display());
        return None;
    }
    panic!(
        "{} is not there: `cargo xtask python-peers` installs it, {WITHOUT}=1 does without",
        folder.display()
    );
}

/// A Python program `script` of `tests/python` with its `arguments`, for `server`.
pub fn python_peer(
    site: &Site,
    server: &TestServer,
    script: &str,
    arguments: &[&str],
) -> Option<Process> {
    let address = server.address();
    let (http, ws) = (format!("http://{address}"), format!("ws://{address}"));
    let all = [&["--http", http.as_str(), "--ws", ws.as_str()], arguments].concat();
    python_program(site, script, &all)
}

/// Any Python program `script` of `tests/python` with its `arguments`.
pub fn python_program(site: &Site, script: &str, arguments: &[&str]) -> Option<Process> {
    let interpreter = python_with_aiortc()?;
    let home = site.folder("python");
    let plain_python = python().parent().unwrap().display();
    let path = format!("{}:{plain_python}:/usr/bin:/bin", stand_in().display());
    let mut command = clean_command(interpreter, &home, &path);
    command.arg("-u").arg(python_peers().join(script)).args(arguments);
    Some(Process::start(script, &mut command))
}

/// A Python worker, once it has printed its credentials.
pub fn python_worker(
    site: &Site,
    server: &TestServer,
    arguments: &[&str],
) -> Option<(Process, Credentials)> {
    let mut worker = python_peer(site, server, "worker.py", arguments)?;
    let credentials = worker.wait_stdout("its credentials", SOON, Credentials::parse);
    Some((worker, credentials))
}
