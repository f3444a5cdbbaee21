//! Two ends of `bench end` or of `aiortc_end.py`, brought together.

use super::end::Said;
use super::files::root;
use super::meter::{Cost, Meter, Scope};
use super::place::{Place, Side};
use super::running::{Deadline, Missing, RunningProgram};
use anyhow::{Context, Result, bail, ensure};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Who is at the ends, the sender first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pair {
    /// Plain sockets.
    Tcp(Congestion),
    /// The original's library at both ends.
    Aiortc,
    /// Ours sends to the original's.
    ToAiortc,
    /// The original's sends to ours.
    FromAiortc,
}

/// How TCP's sender decides how fast it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Congestion {
    Cubic,
    Bbr,
}

impl Congestion {
    /// As the kernel calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cubic => "cubic",
            Self::Bbr => "bbr",
        }
    }
}

#[derive(Clone, Copy)]
enum Program {
    Ours(&'static str),
    Python(&'static str),
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub struct Paired {
    pub took: Duration,
    pub connect: Duration,
    pub send: Cost,
    pub receive: Cost,
}

impl Pair {
    fn programs(self) -> [Program; 2] {
        let ours = [Program::Ours("original-send"), Program::Ours("original-receive")];
        let python = [Program::Python("send"), Program::Python("receive")];
        match self {
            Self::Tcp(_) => [Program::Ours("tcp-send"), Program::Ours("tcp-receive")],
            Self::Aiortc => python,
            Self::ToAiortc => [ours[0], python[1]],
            Self::FromAiortc => [python[0], ours[1]],
        }
    }

    /// Sends `bytes` from left to right.
    pub fn run(self, place: &Place, bytes: u64, deadline: Deadline) -> Result<Paired> {
        let [from, to] = self.programs();
        let start = |what, program: Program, side| {
            let mut command = program.command(place, side, bytes)?;
            if let Self::Tcp(congestion) = self {
                command.args(["--congestion", congestion.name()]);
            }
            RunningProgram::start(what, command, place, side)
        };
        let mut sender = start("sender", from, Side::Left)?;
        let mut receiver = start("receiver", to, Side::Right)?;
        let connected_ms = match self {
            Self::Tcp(_) => {
                let address = here(&mut receiver, deadline)?;
                sender.tell(&address)?;
                connected(&mut sender, &mut receiver, deadline)?
            }
            _ => {
                let offer = here(&mut sender, deadline)?;
                receiver.tell(&serde_json::to_string(&offer)?)?;
                let answer = here(&mut receiver, deadline)?;
                sender.tell(&serde_json::to_string(&answer)?)?;
                connected(&mut sender, &mut receiver, deadline)?
            }
        };
        let mut meters = [&sender, &receiver].map(|end| Meter::start(end.pid(), Scope::Process));
        let idle = meters.each_mut().map(|meter| {
            meter.lap();
            meter.held_bytes()
        });
        receiver.tell("go")?;
        sender.tell("go")?;
        let seconds = done(&mut sender, bytes, deadline)?;
        done(&mut receiver, bytes, deadline)?;
        let [send, receive] = [0, 1].map(|end| {
            let mut cost = meters[end].lap();
            cost.peak_bytes = cost.peak_bytes.saturating_sub(idle[end]);
            cost
        });
        sender.kill();
        receiver.kill();
        let connect = Duration::from_secs_f64(connected_ms / 1e3);
        Ok(Paired { took: Duration::from_secs_f64(seconds), connect, send, receive })
    }
}

impl Program {
    fn command(self, place: &Place, side: Side, bytes: u64) -> Result<Command> {
        let mut command = match self {
            Self::Ours(what) => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["end", what]);
                command
            }
            Self::Python(what) => {
                let mut command = Command::new(aiortc()?);
                command.arg(root().join("xtask/bench/aiortc_end.py")).arg(what);
                command
            }
        };
        command.args(["--address", &place.address(side).to_string()]);
        command.args(["--bytes", &bytes.to_string()]);
        Ok(command)
    }
}

/// The Python that has aiortc.
fn aiortc() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(2).context("this program is in no target folder")?;
    let python = target.join("python-peers/newest/bin/python");
    ensure!(python.exists(), Missing("aiortc (`cargo xtask python-peers`)"));
    Ok(python)
}

fn said(end: &mut RunningProgram, what: &str, deadline: Deadline) -> Result<Said> {
    end.line(what, deadline, |line| serde_json::from_str(line).ok())
}

fn here(end: &mut RunningProgram, deadline: Deadline) -> Result<String> {
    match said(end, "address", deadline)? {
        Said::Here { to } => Ok(to),
        other => bail!("instead of an address came {other:?}"),
    }
}

fn connected(
    sender: &mut RunningProgram,
    receiver: &mut RunningProgram,
    deadline: Deadline,
) -> Result<f64> {
    let mut took_ms = 0.0_f64;
    for end in [sender, receiver] {
        match said(end, "connection", deadline)? {
            Said::Connected { ms } => took_ms = took_ms.max(ms),
            other => bail!("instead of a connection came {other:?}"),
        }
    }
    Ok(took_ms)
}

fn done(end: &mut RunningProgram, wanted: u64, deadline: Deadline) -> Result<f64> {
    match said(end, "end of the transfer", deadline)? {
        Said::Done { bytes, seconds } if bytes == wanted => Ok(seconds),
        other => bail!("instead of the end came {other:?}"),
    }
}
