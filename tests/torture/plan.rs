//! The faults of a round and their times, drawn from the seed and the round's number alone.

use crate::deck;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use std::fmt;
use std::time::Duration;
use support::Machine;

/// The process that a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    Worker,
    Client,
    Server,
    Trainer,
    RunJob,
    /// The worker, the job's process and the trainer together, as in a restart of the machine.
    WorkersMachine,
}

/// The kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// SIGKILL. Servers and workers are started again, as systemd would do.
    Kill(Victim),
    /// SIGSTOP, and SIGCONT after twenty seconds.
    Freeze(Victim),
    /// The cable of a machine is pulled for this many seconds.
    Cut(Machine, u64),
    /// The disk with the job's files on this machine is full for eight seconds.
    FullDisk(Machine),
    /// Something befalls the Slurm that has the job.
    Cluster(Blow),
}

/// What befalls a Slurm. What was killed is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// The daemon of the job's node is killed. The job's processes live on.
    Slurmd,
    /// The job's node is killed, with all its processes.
    Node,
    /// The controller is killed. It forgets what it has not saved.
    Slurmctld,
    /// An administrator cancels the job.
    Scancel,
}

/// What runs the jobs of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Executor {
    /// The worker's own machine.
    Machine,
    /// A Slurm of two nodes.
    Slurm,
}

/// The phase of the job that a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Connecting,
    Upload,
    Waiting,
    Training,
    End,
    Download,
}

/// The time of a fault: always an observable event, never a delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The worker has accepted the client's offer.
    Accepted,
    /// This share of the package is on the worker's disk.
    Uploaded { percent: u64 },
    /// The job waits for the worker's only slot.
    Waits,
    /// The job's event with this number is written.
    Event { number: u64 },
    /// The job's outcome is written.
    Ended,
    /// This share of the result is on the client's disk.
    Downloaded { percent: u64 },
}

/// One fault of a round.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    pub kind: FaultKind,
    pub at: Moment,
}

/// How a job ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It never began, and the client knows.
    NotBegun,
    Succeeded,
    Failed,
    Interrupted,
}

/// The way in which worker and client connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Over iroh, directly.
    Direct,
    /// Over iroh, through the server's relay, because UDP is blocked.
    Relayed,
    /// Over WebRTC.
    Webrtc,
}

/// The faults of one round, and the way of its connection.
#[derive(Debug, Clone)]
pub struct Plan {
    pub executor: Executor,
    pub seed: u64,
    pub round: u64,
    pub way: Way,
    pub faults: Vec<Fault>,
}

/// How long a process stays frozen.
const FREEZE: Duration = Duration::from_secs(20);
/// How long a disk stays full.
const FULL: Duration = Duration::from_secs(8);
/// One round of this many has a fault that takes long, which makes two of twenty-five.
const LONG_EVERY: u64 = 12;
/// Events of a training after which a fault may strike. There are about 70, the last ten without a
/// trainer.
const EVENTS: std::ops::Range<u64> = 2..55;

impl FaultKind {
    /// How long the fault lasts.
    pub fn lasts(self) -> Duration {
        match self {
            Self::Kill(_) | Self::Cluster(_) => Duration::ZERO,
            Self::Freeze(_) => FREEZE,
            Self::Cut(_, seconds) => Duration::from_secs(seconds),
            Self::FullDisk(_) => FULL,
        }
    }

    /// The verdicts that are correct after this fault at this moment.
    pub fn allows(self, at: Moment) -> &'static [Verdict] {
        use Verdict::{Failed, Interrupted, NotBegun, Succeeded};
        match (self, at) {
            (Self::Kill(Victim::Trainer), _) => &[Failed],
            (Self::Kill(Victim::RunJob), _) => &[Interrupted],
            (Self::Kill(Victim::WorkersMachine), Moment::Event { .. }) => &[Interrupted],
            // It had not begun, and Slurm had removed it, or had not saved it.
            (Self::Cluster(Blow::Scancel), Moment::Waits) => &[Failed],
            (Self::Cluster(Blow::Slurmctld), Moment::Waits) => &[Succeeded, Failed],
            (Self::Cluster(Blow::Scancel | Blow::Node), _) => &[Interrupted],
            // Slurm ends a running job that it has forgotten.
            (Self::Cluster(Blow::Slurmctld), Moment::Event { .. }) => &[Succeeded, Interrupted],
            // The trainer's checkpoint does not fit on the disk, or its log does not.
            (Self::FullDisk(Machine::Worker), Moment::Event { .. }) => &[Failed, Interrupted],
            // The same, if the job's turn comes while the disk is full.
            (Self::FullDisk(Machine::Worker), Moment::Waits) => &[Succeeded, Failed, Interrupted],
            // The worker does not run an incomplete package, which the client still has.
            (_, Moment::Accepted | Moment::Uploaded { .. }) => &[NotBegun, Succeeded],
            _ => &[Succeeded],
        }
    }

    /// Whether this fault may end the client's command with an error, so that its user must return.
    /// In all other cases the client recovers by itself.
    pub fn may_end_client(self, at: Moment) -> bool {
        match self {
            Self::Kill(Victim::Client) | Self::FullDisk(_) => true,
            // There is no job yet to follow.
            _ => at == Moment::Accepted,
        }
    }

    fn needs_networks(self) -> bool {
        matches!(self, Self::Cut(..))
    }

    fn needs_mounts(self) -> bool {
        matches!(self, Self::FullDisk(_))
    }
}

impl Moment {
    pub fn phase(self) -> Phase {
        match self {
            Self::Accepted => Phase::Connecting,
            Self::Uploaded { .. } => Phase::Upload,
            Self::Waits => Phase::Waiting,
            Self::Event { .. } => Phase::Training,
            Self::Ended => Phase::End,
            Self::Downloaded { .. } => Phase::Download,
        }
    }
}

impl Plan {
    /// The plan of round `round` (from 1) of `seed`.
    pub fn draw(executor: Executor, seed: u64, round: u64) -> Self {
        let is_long = round % LONG_EVERY == LONG_EVERY / 2;
        let (deck, place) = match is_long {
            true => (deck::long(), round / LONG_EVERY),
            false => (deck::short(executor), round - 1 - (round + LONG_EVERY / 2) / LONG_EVERY),
        };
        // Every card of the deck comes once before any comes again.
        let (pass, place) = (place / deck.len() as u64, place as usize % deck.len());
        let mut deck = deck;
        deck.shuffle(&mut dice(seed, if is_long { !pass } else { pass + (1 << 32) }));
        let (kind, phase) = deck[place];
        let way = way(seed, round);
        let mut dice = dice(seed, round);
        let mut faults = vec![Fault { kind, at: moment(&mut dice, phase) }];
        if !is_long && dice.random_bool(0.3) {
            faults.extend(second(&mut dice, faults[0]));
        }
        Self { executor, seed, round, way, faults }
    }

    /// Whether a fault strikes in `phase`.
    pub fn has(&self, phase: Phase) -> bool {
        self.faults.iter().any(|fault| fault.at.phase() == phase)
    }

    pub fn fills_disk_of(&self, machine: Machine) -> bool {
        self.faults.iter().any(|fault| fault.kind == FaultKind::FullDisk(machine))
    }

    pub fn needs_networks(&self) -> bool {
        self.way == Way::Relayed || self.faults.iter().any(|fault| fault.kind.needs_networks())
    }

    pub fn needs_mounts(&self) -> bool {
        self.faults.iter().any(|fault| fault.kind.needs_mounts())
    }

    /// Like [`FaultKind::may_end_client`], for all faults of the round.
    pub fn may_end_client(&self) -> bool {
        self.faults.iter().any(|fault| fault.kind.may_end_client(fault.at))
    }

    /// Whether the job may end like this after all faults.
    pub fn allows(&self, verdict: Verdict) -> bool {
        let Some(last) = self.faults.last() else { return verdict == Verdict::Succeeded };
        let ends = |fault: &&Fault| !fault.kind.allows(fault.at).contains(&Verdict::Succeeded);
        // A fault that ends a job does so despite the others. Otherwise each fault must allow the
        // verdict.
        match self.faults.iter().find(ends) {
            Some(fault) => fault.kind.allows(fault.at).contains(&verdict),
            None => {
                last.kind.allows(last.at).contains(&verdict)
                    || self.faults[0].kind.allows(self.faults[0].at).contains(&verdict)
            }
        }
    }
}

/// One round in four is relayed, and one in four over WebRTC.
fn way(seed: u64, round: u64) -> Way {
    match dice(seed, round + (1 << 48)).random_range(0..4) {
        0 => Way::Relayed,
        1 => Way::Webrtc,
        _ => Way::Direct,
    }
}

/// A second fault after the first, if the job survives both.
fn second(dice: &mut StdRng, first: Fault) -> Option<Fault> {
    let ends_job = !first.kind.allows(first.at).contains(&Verdict::Succeeded);
    let phase = match first.at.phase() {
        Phase::Connecting | Phase::Upload | Phase::Waiting => Phase::Training,
        Phase::Training if !ends_job => Phase::Download,
        _ => return None,
    };
    let victim = [Victim::Worker, Victim::Client, Victim::Server][dice.random_range(0..3)];
    Some(Fault { kind: FaultKind::Kill(victim), at: moment(dice, phase) })
}

fn moment(dice: &mut StdRng, phase: Phase) -> Moment {
    match phase {
        Phase::Connecting => Moment::Accepted,
        Phase::End => Moment::Ended,
        Phase::Waiting => Moment::Waits,
        Phase::Upload => Moment::Uploaded { percent: dice.random_range(5..70) },
        Phase::Training => Moment::Event { number: dice.random_range(EVENTS) },
        Phase::Download => Moment::Downloaded { percent: dice.random_range(5..60) },
    }
}

fn dice(seed: u64, stream: u64) -> StdRng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&stream.to_le_bytes());
    StdRng::from_seed(bytes)
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Relayed => "relayed",
            Self::Webrtc => "WebRTC",
        })
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |machine: &Machine| format!("{machine:?}").to_lowercase();
        match self {
            Self::Kill(victim) => write!(f, "kill {victim}"),
            Self::Freeze(victim) => write!(f, "freeze {victim} {} s", FREEZE.as_secs()),
            Self::Cut(machine, seconds) => write!(f, "cut {} {seconds} s", of(machine)),
            Self::FullDisk(machine) => write!(f, "disk full at {}", of(machine)),
            Self::Cluster(blow) => write!(f, "{blow}"),
        }
    }
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Slurmd => "kill slurmd",
            Self::Node => "kill node",
            Self::Slurmctld => "kill slurmctld",
            Self::Scancel => "scancel by an administrator",
        })
    }
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Worker => "worker",
            Self::Client => "client",
            Self::Server => "server",
            Self::Trainer => "trainer",
            Self::RunJob => "run-job",
            Self::WorkersMachine => "worker's machine",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Moment::Accepted => write!(f, "{} while connecting", self.kind),
            Moment::Waits => write!(f, "{} while the job waits", self.kind),
            Moment::Ended => write!(f, "{} at the job's end", self.kind),
            Moment::Uploaded { percent } => write!(f, "{} at {percent} % of the upload", self.kind),
            Moment::Event { number } => write!(f, "{} after event {number}", self.kind),
            Moment::Downloaded { percent } => {
                write!(f, "{} at {percent} % of the download", self.kind)
            }
        }
    }
}
