//! What is done to a round, and when: drawn from the seed and the round's number alone.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use std::fmt;
use std::time::Duration;
use support::Machine;

/// Which process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    Worker,
    Client,
    Server,
    Trainer,
    RunJob,
    /// The worker, the job's process and the trainer at once, as when the machine restarts.
    WorkersMachine,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL; a server and a worker are started again, as systemd would.
    Kill(Victim),
    /// SIGSTOP, and SIGCONT after twenty seconds.
    Freeze(Victim),
    /// The cable of a machine is pulled for so many seconds.
    Cut(Machine, u64),
    /// The disk on which the machine keeps what belongs to the job is full for eight seconds.
    FullDisk(Machine),
}

/// What the job is doing meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Connecting,
    Upload,
    Training,
    End,
    Download,
}

/// When it is done: at something that can be observed, never after a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The worker has accepted the client's offer.
    Accepted,
    /// So much of the package is on the worker's disk.
    Uploaded { percent: u64 },
    /// The job's event of this number is written.
    Event { number: u64 },
    /// The job's outcome is written.
    Ended,
    /// So much of the result is on the client's disk.
    Downloaded { percent: u64 },
}

/// One fault of a round.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    pub blow: Blow,
    pub at: Moment,
}

/// Where a job is in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It never began, and the client was told.
    NotBegun,
    Succeeded,
    Failed,
    Interrupted,
}

/// How worker and client are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Over iroh, from machine to machine.
    Direct,
    /// Over iroh, through the server's relay, because nothing else gets through.
    Relayed,
    /// Over WebRTC.
    Webrtc,
}

/// A round.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub round: u64,
    pub way: Way,
    pub faults: Vec<Fault>,
}

/// Twenty seconds frozen.
const FREEZE: Duration = Duration::from_secs(20);
/// How long a disk stays full.
const FULL: Duration = Duration::from_secs(8);
/// One round in so many has a fault that takes its time: two of twenty-five.
const LONG_EVERY: u64 = 12;
/// Events of a training (of about 70, the last ten without a trainer) after which something is done.
const EVENTS: std::ops::Range<u64> = 2..55;

impl Blow {
    /// Until it is lifted again.
    pub fn lasts(self) -> Duration {
        match self {
            Self::Kill(_) => Duration::ZERO,
            Self::Freeze(_) => FREEZE,
            Self::Cut(_, seconds) => Duration::from_secs(seconds),
            Self::FullDisk(_) => FULL,
        }
    }

    /// How a job may be after this blow, at this moment. Nothing else is right.
    pub fn allows(self, at: Moment) -> &'static [Verdict] {
        use Verdict::{Failed, Interrupted, NotBegun, Succeeded};
        match (self, at) {
            (Self::Kill(Victim::Trainer), _) => &[Failed],
            (Self::Kill(Victim::RunJob), _) => &[Interrupted],
            (Self::Kill(Victim::WorkersMachine), Moment::Event { .. }) => &[Interrupted],
            // The trainer's checkpoint does not fit, or what it would say of that.
            (Self::FullDisk(Machine::Worker), Moment::Event { .. }) => &[Failed, Interrupted],
            // What the worker does not have whole it does not run; the client still has it.
            (_, Moment::Accepted | Moment::Uploaded { .. }) => &[NotBegun, Succeeded],
            _ => &[Succeeded],
        }
    }

    /// Whether the client's command may end with an error after this blow, so that its user must come
    /// back. In all other cases it comes back by itself.
    pub fn may_end_client(self, at: Moment) -> bool {
        match self {
            Self::Kill(Victim::Client) | Self::FullDisk(_) => true,
            // There is no job yet to stay with.
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
            Self::Event { .. } => Phase::Training,
            Self::Ended => Phase::End,
            Self::Downloaded { .. } => Phase::Download,
        }
    }
}

impl Plan {
    /// Round `round` (from 1) of `seed`.
    pub fn draw(seed: u64, round: u64) -> Self {
        let is_long = round % LONG_EVERY == LONG_EVERY / 2;
        let (deck, place) = match is_long {
            true => (long_deck(), round / LONG_EVERY),
            false => (short_deck(), round - 1 - (round + LONG_EVERY / 2) / LONG_EVERY),
        };
        // Every card of the deck comes once before any comes again.
        let (pass, place) = (place / deck.len() as u64, place as usize % deck.len());
        let mut deck = deck;
        deck.shuffle(&mut dice(seed, if is_long { !pass } else { pass + (1 << 32) }));
        let (blow, phase) = deck[place];
        let way = way(seed, round);
        let mut dice = dice(seed, round);
        let mut faults = vec![Fault { blow, at: moment(&mut dice, phase) }];
        if !is_long && dice.random_bool(0.3) {
            faults.extend(second(&mut dice, faults[0]));
        }
        Self { seed, round, way, faults }
    }

    /// Whether something is done in `phase`.
    pub fn has(&self, phase: Phase) -> bool {
        self.faults.iter().any(|fault| fault.at.phase() == phase)
    }

    pub fn fills_disk_of(&self, machine: Machine) -> bool {
        self.faults.iter().any(|fault| fault.blow == Blow::FullDisk(machine))
    }

    pub fn needs_networks(&self) -> bool {
        self.way == Way::Relayed || self.faults.iter().any(|fault| fault.blow.needs_networks())
    }

    pub fn needs_mounts(&self) -> bool {
        self.faults.iter().any(|fault| fault.blow.needs_mounts())
    }

    /// As [`Blow::may_end_client`], for all that is done.
    pub fn may_end_client(&self) -> bool {
        self.faults.iter().any(|fault| fault.blow.may_end_client(fault.at))
    }

    /// How the job may be after all that is done to it.
    pub fn allows(&self, verdict: Verdict) -> bool {
        let Some(last) = self.faults.last() else { return verdict == Verdict::Succeeded };
        let ends = |fault: &&Fault| !fault.blow.allows(fault.at).contains(&Verdict::Succeeded);
        // What ends a job ends it whatever else happens; else each blow must allow it.
        match self.faults.iter().find(ends) {
            Some(fault) => fault.blow.allows(fault.at).contains(&verdict),
            None => {
                last.blow.allows(last.at).contains(&verdict)
                    || self.faults[0].blow.allows(self.faults[0].at).contains(&verdict)
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

/// A later blow on top of the first, of those that a job survives.
fn second(dice: &mut StdRng, first: Fault) -> Option<Fault> {
    let ends_job = !first.blow.allows(first.at).contains(&Verdict::Succeeded);
    let phase = match first.at.phase() {
        Phase::Connecting | Phase::Upload => Phase::Training,
        Phase::Training if !ends_job => Phase::Download,
        _ => return None,
    };
    let victim = [Victim::Worker, Victim::Client, Victim::Server][dice.random_range(0..3)];
    Some(Fault { blow: Blow::Kill(victim), at: moment(dice, phase) })
}

fn moment(dice: &mut StdRng, phase: Phase) -> Moment {
    match phase {
        Phase::Connecting => Moment::Accepted,
        Phase::End => Moment::Ended,
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

/// Moments that may come at any point of themselves.
const ALONG: [Phase; 3] = [Phase::Upload, Phase::Training, Phase::Download];

fn short_deck() -> Vec<(Blow, Phase)> {
    let anywhere = [
        Blow::Kill(Victim::Worker),
        Blow::Kill(Victim::Client),
        Blow::Kill(Victim::Server),
        Blow::Cut(Machine::Worker, 3),
        Blow::Cut(Machine::Client, 3),
    ];
    let mut deck: Vec<_> =
        anywhere.into_iter().flat_map(|blow| ALONG.map(|phase| (blow, phase))).collect();
    deck.extend([
        (Blow::Kill(Victim::Trainer), Phase::Training),
        (Blow::Kill(Victim::RunJob), Phase::Training),
        (Blow::Kill(Victim::WorkersMachine), Phase::Upload),
        (Blow::Kill(Victim::WorkersMachine), Phase::Training),
        (Blow::FullDisk(Machine::Worker), Phase::Upload),
        (Blow::FullDisk(Machine::Worker), Phase::Training),
        (Blow::FullDisk(Machine::Client), Phase::Training),
        (Blow::FullDisk(Machine::Client), Phase::Download),
    ]);
    for phase in [Phase::Connecting, Phase::End] {
        let victims = [Victim::Worker, Victim::Client, Victim::Server];
        deck.extend(victims.map(|victim| (Blow::Kill(victim), phase)));
    }
    deck
}

fn long_deck() -> Vec<(Blow, Phase)> {
    let anywhere = [
        Blow::Freeze(Victim::Worker),
        Blow::Freeze(Victim::Client),
        Blow::Cut(Machine::Worker, 40),
        Blow::Cut(Machine::Client, 40),
    ];
    let mut deck: Vec<_> =
        anywhere.into_iter().flat_map(|blow| ALONG.map(|phase| (blow, phase))).collect();
    let in_training = [Victim::Server, Victim::Trainer, Victim::RunJob];
    deck.extend(in_training.map(|victim| (Blow::Freeze(victim), Phase::Training)));
    deck
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

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |machine: &Machine| format!("{machine:?}").to_lowercase();
        match self {
            Self::Kill(victim) => write!(f, "kill {victim}"),
            Self::Freeze(victim) => write!(f, "freeze {victim} {} s", FREEZE.as_secs()),
            Self::Cut(machine, seconds) => write!(f, "cut {} {seconds} s", of(machine)),
            Self::FullDisk(machine) => write!(f, "disk full at {}", of(machine)),
        }
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
            Moment::Accepted => write!(f, "{} while connecting", self.blow),
            Moment::Ended => write!(f, "{} at the job's end", self.blow),
            Moment::Uploaded { percent } => write!(f, "{} at {percent} % of the upload", self.blow),
            Moment::Event { number } => write!(f, "{} after event {number}", self.blow),
            Moment::Downloaded { percent } => {
                write!(f, "{} at {percent} % of the download", self.blow)
            }
        }
    }
}
