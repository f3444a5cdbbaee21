//! One round: submits a job, strikes with faults, restarts what was killed, and follows the job until
//! its client has the result.

use crate::interrupt;
use crate::job::JobFolder;
use crate::plan::{Fault, FaultKind, Moment, Phase, Plan, Verdict, Victim};
use crate::program::Program;
use crate::scene::{ClientMachine, Scene};
use rustix::process::{Pid, Signal, kill_process};
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_protocol::job::JobState;
use sleap_rtc_trust::session::JobString;
use std::thread::sleep;
use std::time::{Duration, Instant};
use support::disk::Disk;
use support::{Machine, bytes_below};
use walk::hidden_bytes;

/// How often to check whether a moment has come.
const LOOK: Duration = Duration::from_millis(5);
/// How long a round may take, in addition to the duration of its faults.
const LIMIT: Duration = Duration::from_secs(180);
/// How long the client's user waits after an error before the next attempt.
const AGAIN: Duration = Duration::from_millis(500);

/// The client's exit codes that report how the job ended.
pub const DONE: i32 = 0;
pub const JOB_FAILED: i32 = 6;
const USAGE: i32 = 2;
const REFUSED: i32 = 5;

/// How the client's user returned to the job.
#[derive(Debug, Default, Clone, Copy)]
pub struct Recoveries {
    /// Returns with `attach` or `fetch`, because the client was killed.
    pub after_kill: u32,
    /// Returns with `attach` or `fetch`, because the client's command ended with an error.
    pub after_error: u32,
    /// Commands that failed again before one succeeded.
    pub in_vain: u32,
    /// Jobs that had never begun and were submitted again.
    pub resubmitted: u32,
}

/// The course of a round, before the checks.
pub struct Played {
    pub client_machine: ClientMachine,
    /// What the last command of the client printed.
    pub shown: String,
    /// The outcome that the client's user knows.
    pub told: Verdict,
    pub recoveries: Recoveries,
    /// The client's message when it ended with an error.
    pub first_error: Option<String>,
    /// The time from the end of the last fault to the client's next line about the job.
    pub recovery: Option<Duration>,
    /// Faults whose moment never came.
    pub missed: Vec<Fault>,
}

/// A fault that is active and will end.
struct ActiveFault {
    kind: FaultKind,
    until: Instant,
    pid: Option<i32>,
}

pub struct Round<'a> {
    scene: &'a mut Scene,
    plan: &'a Plan,
    /// The client of the job before, which is killed at the end of the round.
    _before: Option<Program>,
    pending: Vec<Fault>,
    active: Option<ActiveFault>,
    client_machine: ClientMachine,
    client: Program,
    commands: u32,
    is_submission: bool,
    /// The job that was known before the last submission.
    earlier: Option<JobId>,
    not_before: Instant,
    recoveries: Recoveries,
    first_error: Option<String>,
    lifted: Option<(Instant, usize)>,
    recovery: Option<Duration>,
}

impl<'a> Round<'a> {
    pub fn begin(scene: &'a mut Scene, plan: &'a Plan) -> Self {
        let before = plan.has(Phase::Waiting).then(|| scene.occupy(plan)).flatten();
        let client_machine = scene.client_machine(plan);
        let client = scene.train("client-1", &client_machine);
        let mut pending = plan.faults.clone();
        pending.reverse();
        Self {
            scene,
            plan,
            _before: before,
            pending,
            active: None,
            client_machine,
            client,
            commands: 1,
            is_submission: true,
            earlier: None,
            not_before: Instant::now(),
            recoveries: Recoveries::default(),
            first_error: None,
            lifted: None,
            recovery: None,
        }
    }

    /// Runs the round to its end. The error says why it did not end.
    pub fn play(mut self) -> Result<Played, String> {
        let taken: Duration = self.plan.faults.iter().map(|fault| fault.kind.lasts()).sum();
        let deadline = Instant::now() + LIMIT + taken;
        loop {
            self.strike();
            self.lift()?;
            self.listen();
            if let Some(told) = self.answer()? {
                self.wait_for_lifting()?;
                return Ok(self.over(told));
            }
            if interrupt::came() {
                return Err("ended by Ctrl-C".into());
            }
            if Instant::now() > deadline {
                let said = self.client.stderr();
                let last = said.lines().last().unwrap_or("nothing");
                return Err(format!("the client did not end; its last output: {last}"));
            }
            sleep(LOOK);
        }
    }

    fn over(self, told: Verdict) -> Played {
        let shown = self.client.stdout();
        let Self { client_machine, recoveries, first_error, recovery, pending: missed, .. } = self;
        Played { client_machine, shown, told, recoveries, first_error, recovery, missed }
    }

    /// The job of the last submission, once the client has a record of it.
    fn known(&self) -> Option<JobString> {
        let known = self.scene.known_jobs(&self.client_machine).pop()?;
        (Some(&known.job) != self.earlier.as_ref()).then_some(known)
    }

    fn job(&self) -> Option<JobFolder> {
        Some(JobFolder::of(&self.scene.jobs_dir(), &self.known()?.job))
    }

    /// Strikes with the next fault, if its moment has come.
    fn strike(&mut self) {
        let Some(&Fault { kind, at }) = self.pending.last() else { return };
        if self.active.is_some() || self.client.ended().is_some() || !self.has_come(at) {
            return;
        }
        let victim = match kind {
            FaultKind::Kill(victim) | FaultKind::Freeze(victim) => self.pid(victim),
            FaultKind::Cut(..) | FaultKind::FullDisk(_) | FaultKind::Cluster(_) => None,
        };
        let pid = match kind {
            // The trainer is about to start.
            FaultKind::Kill(_) | FaultKind::Freeze(_) if victim.is_none() => return,
            FaultKind::Kill(victim) => {
                self.pending.pop();
                return self.kill(victim);
            }
            FaultKind::Cluster(blow) => {
                self.pending.pop();
                let known = self.known().expect("the moment has come");
                self.scene.strike_cluster(blow, &known.job);
                return self.lifted();
            }
            FaultKind::Freeze(_) => {
                send(victim, Signal::STOP);
                victim
            }
            FaultKind::Cut(machine, _) => {
                let network = self.scene.network.as_ref().expect("cuts need a network");
                network.cut(machine).unwrap();
                None
            }
            FaultKind::FullDisk(machine) => {
                self.disk(machine).fill();
                None
            }
        };
        self.pending.pop();
        self.active = Some(ActiveFault { kind, until: Instant::now() + kind.lasts(), pid });
    }

    fn has_come(&self, moment: Moment) -> bool {
        if moment == Moment::Accepted {
            return self.scene.worker.stderr().contains("accepted an offer");
        }
        let Some(job) = self.job() else { return false };
        match moment {
            Moment::Accepted => true,
            Moment::Waits => {
                let known = self.known().expect("it has a folder");
                matches!(job.state(), Some(JobState::Queued(_)))
                    && self.scene.has_submitted(&known.job)
            }
            Moment::Ended => matches!(job.state(), Some(JobState::Finished(_))),
            Moment::Event { number } => job.event_count() >= number,
            Moment::Uploaded { percent } => {
                let whole = std::fs::metadata(&self.scene.package).unwrap().len();
                bytes_below(&job.files()) * 100 >= whole * percent
            }
            Moment::Downloaded { percent } => {
                let whole = bytes_below(&job.results());
                whole > 0 && hidden_bytes(&self.client_machine.home) * 100 >= whole * percent
            }
        }
    }

    fn kill(&mut self, victim: Victim) {
        match victim {
            Victim::Worker => self.scene.restart_worker(self.plan),
            Victim::WorkersMachine => {
                self.scene.kill_workers_machine();
                self.scene.restart_worker(self.plan);
            }
            Victim::Server => self.scene.restart_server(),
            Victim::Client => {
                self.client.kill();
                self.come_back();
                self.recoveries.after_kill += 1;
            }
            Victim::Trainer | Victim::RunJob => send(self.pid(victim), Signal::KILL),
        }
        self.lifted();
    }

    fn pid(&self, victim: Victim) -> Option<i32> {
        match victim {
            Victim::Worker | Victim::WorkersMachine => Some(self.scene.worker.pid() as i32),
            Victim::Server => Some(self.scene.server.pid() as i32),
            Victim::Client => Some(self.client.pid() as i32),
            Victim::Trainer => self.job()?.trainer(),
            Victim::RunJob => self.job()?.run_job(),
        }
    }

    fn disk(&self, machine: Machine) -> &Disk {
        let disk = match machine {
            Machine::Client => &self.scene.client_disk,
            _ => &self.scene.worker_disk,
        };
        disk.as_ref().expect("the plan says so")
    }

    /// Ends the active fault when its time is over.
    fn lift(&mut self) -> Result<(), String> {
        let due = |active: &mut ActiveFault| active.until <= Instant::now();
        let Some(ActiveFault { kind, pid, .. }) = self.active.take_if(due) else { return Ok(()) };
        match kind {
            FaultKind::Kill(_) | FaultKind::Cluster(_) => {}
            FaultKind::Freeze(_) => send(pid, Signal::CONT),
            FaultKind::Cut(machine, _) => {
                let network = self.scene.network.as_ref().expect("cuts need a network");
                network.mend(machine).map_err(|error| error.to_string())?;
            }
            FaultKind::FullDisk(machine) => self.disk(machine).empty(),
        }
        self.lifted();
        Ok(())
    }

    fn wait_for_lifting(&mut self) -> Result<(), String> {
        while self.active.is_some() {
            self.lift()?;
            sleep(LOOK);
        }
        Ok(())
    }

    fn lifted(&mut self) {
        self.scene.free_cluster();
        self.recovery = None;
        self.lifted = Some((Instant::now(), self.client.stdout().len()));
    }

    /// Records the time at which the client shows something about the job again.
    fn listen(&mut self) {
        if let Some((since, before)) = self.lifted
            && self.client.stdout().len() > before
        {
            self.recovery = Some(since.elapsed());
            self.lifted = None;
        }
    }

    /// What the client's user knows about the job, once a command has reported it. After any other
    /// error the user returns.
    fn answer(&mut self) -> Result<Option<Verdict>, String> {
        if self.not_before > Instant::now() {
            return Ok(None);
        }
        let Some(code) = self.client.ended() else { return Ok(None) };
        let said = self.client.stderr();
        match code {
            DONE => return Ok(Some(Verdict::Succeeded)),
            JOB_FAILED if said.contains("interrupted") => match self.job().map(|j| j.verdict()) {
                // Its package was never complete on the worker; the user still has it.
                Some(Ok(Verdict::NotBegun)) => {
                    self.submit_again();
                    return Ok(None);
                }
                _ => return Ok(Some(Verdict::Interrupted)),
            },
            JOB_FAILED => return Ok(Some(Verdict::Failed)),
            USAGE => return Err(format!("the client's options are wrong: {said}")),
            128.. => return Err(format!("the client ended with {code} by itself: {said}")),
            _ => {}
        }
        let last = said.trim_end().lines().last().unwrap_or_default().to_owned();
        self.first_error.get_or_insert(last);
        let unknown = code == REFUSED && said.contains("no such job");
        match (self.is_submission, self.job()) {
            // The worker reports that it does not have the job; the user still has the package.
            (false, _) if unknown => self.submit_again(),
            (true, None) => self.submit_again(),
            (true, Some(_)) => {
                self.recoveries.after_error += 1;
                self.come_back();
            }
            (false, _) => {
                self.recoveries.in_vain += 1;
                self.come_back();
            }
        }
        self.not_before = Instant::now() + AGAIN;
        Ok(None)
    }

    /// Starts another command for the known job: in another folder, with the job's string.
    fn come_back(&mut self) {
        let Some(known) = self.known() else { return self.submit_again() };
        let job = JobFolder::of(&self.scene.jobs_dir(), &known.job);
        let command = if job.verdict().is_ok() { "fetch" } else { "attach" };
        let output = self.client_machine.output.to_str().expect("plain names");
        let string = known.to_string();
        let mut arguments = vec![command, string.as_str(), "--output", output];
        // The log shows each epoch once.
        arguments.extend((command == "attach").then_some("--log"));
        self.is_submission = false;
        self.commands += 1;
        let name = format!("client-{}-{command}", self.commands);
        let client = self.scene.client(&name, &self.client_machine, &arguments);
        self.replace(client);
    }

    fn submit_again(&mut self) {
        self.recoveries.resubmitted += 1;
        self.earlier = self.scene.known_jobs(&self.client_machine).pop().map(|known| known.job);
        self.is_submission = true;
        self.commands += 1;
        let name = format!("client-{}", self.commands);
        let client = self.scene.train(&name, &self.client_machine);
        self.replace(client);
    }

    /// A new command has shown nothing yet.
    fn replace(&mut self, client: Program) {
        self.client = client;
        self.lifted = self.lifted.map(|(since, _)| (since, 0));
    }
}

fn send(pid: Option<i32>, signal: Signal) {
    if let Some(pid) = pid.and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// The files that a client has downloaded but not yet moved to their place.
mod walk {
    use std::collections::HashSet;
    use std::path::{Path, PathBuf};
    use support::{bytes_below, files_below};

    pub fn hidden_bytes(home: &Path) -> u64 {
        let hidden = |file: &PathBuf| {
            let place =
                file.iter().position(|name| name.to_string_lossy().starts_with(".sleap-rtc-"))?;
            Some(home.join(file.iter().take(place + 1).collect::<PathBuf>()))
        };
        let folders: HashSet<PathBuf> = files_below(home).iter().filter_map(hidden).collect();
        folders.iter().map(|folder| bytes_below(folder)).sum()
    }
}
