//! `scp` and `rsync` to a separate OpenSSH server, with its own port and keys.

use super::files::{FileSet, Payload};
use super::meter::{Cost, Meter, Scope};
use super::place::{Place, Side};
use super::running::{Deadline, Missing, RunningProgram};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);
/// The shortest duration of a copy.
const LEAST: Duration = Duration::from_millis(1);

/// The program that copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copier {
    Scp,
    Rsync,
}

/// The result of a copy.
#[derive(Debug, Clone, Copy)]
pub struct Copied {
    /// The duration without logging in.
    pub took: Duration,
    /// The duration of logging in.
    pub connect: Duration,
    pub send: Cost,
    pub receive: Cost,
}

/// A running server.
pub struct Sshd<'a> {
    place: &'a Place,
    folder: tempfile::TempDir,
    server: RunningProgram,
    port: u16,
    user: String,
}

impl<'a> Sshd<'a> {
    /// Starts it at the right end. Copies go into `folder`.
    pub fn start(place: &'a Place, folder: &Path) -> Result<Self> {
        let program = find("sshd").ok_or(Missing("OpenSSH's server"))?;
        find("ssh-keygen").ok_or(Missing("ssh-keygen"))?;
        let folder = tempfile::Builder::new().prefix("ssh-").tempdir_in(folder)?;
        for key in ["host", "user"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.path().join(key));
            ensure!(keygen.stdin(Stdio::null()).status()?.success(), "ssh-keygen failed");
        }
        fs::rename(folder.path().join("user.pub"), folder.path().join("authorized"))?;
        let (address, port) = (place.address(Side::Right), free_port(place)?);
        let config = format!(
            "Port {port}\nListenAddress {address}\nHostKey {0}/host\nAuthorizedKeysFile {0}/authorized\n\
             StrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\n\
             PermitRootLogin yes\nSubsystem sftp internal-sftp\n",
            folder.path().display()
        );
        fs::write(folder.path().join("config"), config)?;
        // As root it needs this folder, which the system creates only when it starts the server
        // itself.
        let _ = fs::create_dir_all("/run/sshd");
        let mut command = Command::new(program);
        command.args(["-D", "-e", "-f"]).arg(folder.path().join("config"));
        let mut server = RunningProgram::start("sshd", command, place, Side::Right)?;
        server.line("word that it listens", Deadline::after(SOON), |line| {
            line.contains("Server listening").then_some(())
        })?;
        let user = Command::new("id").arg("-un").output()?.stdout;
        let user = String::from_utf8_lossy(&user).trim().to_owned();
        Ok(Self { place, folder, server, port, user })
    }

    /// Copies the payload from left to right.
    pub fn copy(
        &mut self,
        copier: Copier,
        payload: &Payload,
        deadline: Deadline,
    ) -> Result<Copied> {
        let connect = self.timed(self.ssh("true"), deadline)?.0;
        let into = self.folder.path().join("copied");
        fs::create_dir(&into)?;
        let mut receiver = Meter::start(self.server.pid(), Scope::Tree);
        receiver.lap();
        let idle_bytes = receiver.held_bytes();
        let (took, send) = self.timed(self.command(copier, payload, &into)?, deadline)?;
        let mut receive = receiver.lap();
        receive.peak_bytes = receive.peak_bytes.saturating_sub(idle_bytes);
        let name = payload.path.file_name().context("a payload has a name")?;
        ensure!(into.join(name).exists(), "nothing arrived");
        fs::remove_dir_all(&into)?;
        // A copy that is faster than logging in cannot be distinguished from it.
        let took = took.saturating_sub(connect).max(LEAST);
        Ok(Copied { took, connect, send, receive })
    }

    fn timed(&self, command: Command, deadline: Deadline) -> Result<(Duration, Cost)> {
        let start = Instant::now();
        let what = command.get_program().to_string_lossy().into_owned();
        let mut running = RunningProgram::start(&what, command, self.place, Side::Left)?;
        let mut meter = Meter::start(running.pid(), Scope::Tree);
        running.end(deadline)?;
        Ok((start.elapsed(), meter.lap()))
    }

    fn options(&self) -> Vec<String> {
        let key = self.folder.path().join("user");
        let known = "UserKnownHostsFile=/dev/null";
        let options = ["-F", "none", "-i", &key.to_string_lossy(), "-o", known].map(str::to_owned);
        let more = ["-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"].map(str::to_owned);
        options.into_iter().chain(more).collect()
    }

    fn ssh(&self, remote: &str) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(self.options()).args(["-p", &self.port.to_string()]).arg(self.host()).arg(remote);
        ssh
    }

    fn host(&self) -> String {
        format!("{}@{}", self.user, self.place.address(Side::Right))
    }

    fn command(&self, copier: Copier, payload: &Payload, into: &Path) -> Result<Command> {
        let to = format!("{}:{}/", self.host(), into.display());
        let is_folder = matches!(payload.files, FileSet::Many(..));
        let mut command;
        match copier {
            Copier::Scp => {
                command = Command::new(find("scp").ok_or(Missing("scp"))?);
                command.arg("-q").args(self.options()).args(["-P", &self.port.to_string()]);
                command.args(is_folder.then_some("-r"));
            }
            Copier::Rsync => {
                command = Command::new(find("rsync").ok_or(Missing("rsync"))?);
                let shell = format!("ssh {} -p {}", self.options().join(" "), self.port);
                command.arg("-a").arg("-e").arg(shell);
            }
        }
        command.arg(&payload.path).arg(to);
        Ok(command)
    }
}

/// A port for the server. Any port is free in a separate namespace.
fn free_port(place: &Place) -> Result<u16> {
    match place {
        Place::Machine => Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port()),
        Place::Loopback(_) | Place::Link(_) => Ok(2222),
    }
}

/// The program with this name, also from folders for the system's programs.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}
