//! One running trainer: reads its output and its messages, and ends it when necessary.

use super::control::JobCommand;
use super::limit_guard::LimitGuard;
use super::output::Output;
use super::processes;
use super::progress::ProgressListener;
use super::recorder::Recorder;
use super::settings::RunnerSettings;
use super::trainer::{Piece, RunningTrainer};
use rustix::process::Signal;
use serde_json::Value;
use sleap_rtc_base::deadline;
use sleap_rtc_package::script::Run;
use std::io;
use std::process::ExitStatus;
use std::time::{Duration, Instant};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How long the pipes of a trainer that has ended may stay open in processes outside its group.
const PIPE_GRACE: Duration = Duration::from_secs(2);
/// How long the last messages of a trainer may take to arrive.
const MESSAGE_GRACE: Duration = Duration::from_millis(200);
/// How often the command to stop is repeated, because a training receives it only between batches.
const STOP_INTERVAL: Duration = Duration::from_secs(1);
/// A trainer that uses less processor time than this in the grace period is idle. In clock ticks, usually of
/// 10 ms.
const IDLE_TICKS: u64 = 20;

/// A trainer that is asked to end because the machine shuts down gets this many times the usual grace
/// period, in which it saves its model.
const INTERRUPTION_GRACES: u32 = 4;

/// Why a job ends before its trainer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlyEnd {
    /// The user cancelled the job, and wants nothing that it has saved.
    Cancelled,
    /// The process was asked to end, as all processes are when the machine shuts down.
    Interrupted,
}

/// What the system asks of a job's process.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    /// End now, as all processes do when the machine shuts down.
    pub interruption: CancellationToken,
    /// The cluster's time limit is near: end early, and keep the model.
    pub time_limit: CancellationToken,
}

/// The commands that the job has received, over all its runs.
pub struct JobRequests {
    commands: mpsc::Receiver<JobCommand>,
    signals: Signals,
    end: Option<EarlyEnd>,
    /// Whether the trainer has been asked to end before the time limit.
    limit_seen: bool,
    stop_all: bool,
}

impl JobRequests {
    pub fn new(commands: mpsc::Receiver<JobCommand>, signals: Signals) -> Self {
        Self { commands, signals, end: None, limit_seen: false, stop_all: false }
    }

    /// Whether no further run may start.
    pub fn stops_all(&self) -> bool {
        self.stop_all || self.signals.time_limit.is_cancelled()
    }

    /// Why the job is to end now, if it is.
    pub fn end(&self) -> Option<EarlyEnd> {
        let interrupted =
            || self.signals.interruption.is_cancelled().then_some(EarlyEnd::Interrupted);
        self.end.or_else(interrupted)
    }

    /// Waits until the job is to end now. Keeps what else is asked meanwhile.
    pub async fn ended(&mut self) {
        while self.end().is_none() {
            tokio::select! {
                () = self.signals.interruption.cancelled() => {}
                Some(command) = self.commands.recv() => match command {
                    JobCommand::Cancel => self.end = Some(EarlyEnd::Cancelled),
                    // No trainer runs that could be asked.
                    JobCommand::Stop { .. } => self.stop_all = true,
                },
                else => std::future::pending().await,
            }
        }
    }
}

/// A trainer that runs or has ended.
pub struct ActiveRun {
    trainer: RunningTrainer,
    progress: Option<ProgressListener>,
    output: Output,
    stoppable: bool,
    status: Option<ExitStatus>,
    /// Whether its end cannot be waited for.
    lost: bool,
    reading: bool,
    trained: bool,
    end: Option<EarlyEnd>,
    guard: Option<LimitGuard>,
    /// The limit that the trainer exceeded, in words. It was killed for that.
    excess: Option<String>,
    stopped: Option<StopRequest>,
    position: EpochPosition,
    hanging: bool,
    stop_again: Option<Instant>,
    kill_at: Option<Instant>,
    give_up_reading_at: Option<Instant>,
    idle: Option<Idle>,
}

/// A training that was asked to end early.
#[derive(Default)]
struct StopRequest {
    /// How long it has worked on batches since then. It receives commands between batches.
    batching: Duration,
    last_batch: Option<Instant>,
    /// Whether it continued with its batches and was sent SIGTERM.
    terminated: bool,
}

impl StopRequest {
    /// Takes note of a message of the training at `now`. The time between epochs, when it validates and
    /// saves, does not count.
    fn see(&mut self, message: &Value, now: Instant) {
        let event = message.get("event").and_then(Value::as_str);
        let is_batch = matches!(event, Some("batch_start" | "batch_end"));
        if let Some(last) = self.last_batch.filter(|_| is_batch) {
            self.batching += now.duration_since(last);
        }
        self.last_batch = is_batch.then_some(now);
    }
}

/// The position of a training in its epoch, by its own messages.
#[derive(Default)]
struct EpochPosition {
    /// The highest number of a batch so far.
    last: u64,
    epochs: u64,
}

impl EpochPosition {
    fn see(&mut self, message: &Value) {
        let number = message.get("batch").and_then(Value::as_u64).unwrap_or(0);
        self.last = self.last.max(number);
        self.epochs += u64::from(message.get("event").and_then(Value::as_str) == Some("epoch_end"));
    }

    /// Whether `message` reports the start of a batch that is not the last one of its epoch. The training
    /// then neither validates nor saves, and will not do so before a signal arrives. An epoch of one batch
    /// offers no better moment.
    fn is_amid(&self, message: &Value) -> bool {
        message.get("event").and_then(Value::as_str) == Some("batch_start")
            && self.epochs > 0
            && message.get("batch").and_then(Value::as_u64).is_some_and(|n| n < self.last.max(1))
    }
}

/// A training that has finished and should end by itself.
struct Idle {
    until: Instant,
    ticks: Option<u64>,
}

impl ActiveRun {
    /// Starts `command` as the trainer of `run`.
    pub fn start(
        run: &Run,
        command: Command,
        guard: Option<LimitGuard>,
        progress: Option<ProgressListener>,
    ) -> io::Result<Self> {
        Ok(Self {
            trainer: RunningTrainer::start(command)?,
            progress,
            output: Output::new(matches!(run, Run::Track(_))),
            stoppable: matches!(run, Run::Train(_)),
            status: None,
            lost: false,
            reading: true,
            trained: false,
            end: None,
            guard,
            excess: None,
            stopped: None,
            position: EpochPosition::default(),
            hanging: false,
            stop_again: None,
            kill_at: None,
            give_up_reading_at: None,
            idle: None,
        })
    }

    /// Follows the trainer to its end. Afterwards, no process of its group is left, and no other process
    /// that it started if the job has a process of its own.
    pub async fn follow(
        &mut self,
        settings: &RunnerSettings,
        requests: &mut JobRequests,
        recorder: &mut Recorder,
    ) {
        while (self.status.is_none() && !self.lost) || self.reading {
            let deadline = self.next_deadline();
            tokio::select! {
                piece = self.trainer.output.recv(), if self.reading => {
                    self.on_output(piece, settings, recorder);
                }
                message = next_message(&mut self.progress) => {
                    self.on_message(message, settings, recorder);
                }
                status = self.trainer.child.wait(), if self.status.is_none() && !self.lost => {
                    self.on_exit(status);
                    processes::end_descendants().await;
                }
                Some(command) = requests.commands.recv() => {
                    self.on_command(command, requests, settings, recorder);
                }
                () = requests.signals.interruption.cancelled(), if self.end.is_none() => {
                    self.end_early(EarlyEnd::Interrupted, settings);
                }
                () = requests.signals.time_limit.cancelled(), if !requests.limit_seen => {
                    requests.limit_seen = true;
                    recorder.remark("the cluster's time limit ends this job: it stops early");
                    self.stop_early(recorder);
                }
                () = deadline::reached(deadline) => self.on_deadline(settings, recorder),
            }
            self.write_text(recorder, false);
        }
        while let Ok(message) =
            tokio::time::timeout(MESSAGE_GRACE, next_message(&mut self.progress)).await
        {
            self.on_message(message, settings, recorder);
        }
        self.output.finish();
        self.write_text(recorder, true);
        self.progress = None;
    }

    fn on_output(&mut self, piece: Option<Piece>, settings: &RunnerSettings, log: &mut Recorder) {
        let Some((stream, bytes)) = piece else {
            self.reading = false;
            return;
        };
        log.raw(&bytes);
        self.output.push(stream, &bytes, Instant::now());
        while let Some(message) = self.output.next_progress() {
            log.progress(message, Instant::now());
        }
        self.watch_for_hang(settings);
    }

    fn on_message(&mut self, message: Value, settings: &RunnerSettings, recorder: &mut Recorder) {
        self.trained |= message.get("event").and_then(Value::as_str) == Some("train_end");
        self.position.see(&message);
        self.end_unresponsive_training(&message, settings, recorder);
        recorder.progress(message, Instant::now());
        self.watch_for_hang(settings);
    }

    fn on_exit(&mut self, status: io::Result<ExitStatus>) {
        match status {
            Ok(status) => self.status = Some(status),
            Err(error) => {
                tracing::error!(%error, "cannot wait for the trainer");
                (self.lost, self.reading) = (true, false);
            }
        }
        self.trainer.clear_group();
        (self.kill_at, self.idle, self.stop_again) = (None, None, None);
        self.give_up_reading_at = Some(Instant::now() + PIPE_GRACE);
    }

    fn on_command(
        &mut self,
        command: JobCommand,
        requests: &mut JobRequests,
        settings: &RunnerSettings,
        log: &mut Recorder,
    ) {
        match command {
            JobCommand::Cancel => {
                requests.end = Some(EarlyEnd::Cancelled);
                self.end_early(EarlyEnd::Cancelled, settings);
            }
            JobCommand::Stop { all } => {
                requests.stop_all |= all;
                self.stop_early(log);
            }
        }
    }

    fn stop_early(&mut self, log: &mut Recorder) {
        match self.stoppable {
            true => self.ask_to_stop(),
            false => log.remark("this run cannot be stopped early; it can be cancelled"),
        }
    }

    /// Asks the training to stop. If it does not react, [`Self::end_unresponsive_training`] ends it.
    fn ask_to_stop(&mut self) {
        if self.status.is_none()
            && let Some(progress) = &self.progress
        {
            progress.stop_training();
            self.stopped.get_or_insert_default();
            self.stop_again = Some(Instant::now() + STOP_INTERVAL);
        }
    }

    /// Sends SIGTERM to a training that continues with its batches long after it was asked to stop. Chooses
    /// a moment at which the training is not saving anything.
    fn end_unresponsive_training(
        &mut self,
        message: &Value,
        settings: &RunnerSettings,
        recorder: &mut Recorder,
    ) {
        let amid = self.position.is_amid(message) && self.status.is_none();
        let Some(stop) = &mut self.stopped else { return };
        stop.see(message, Instant::now());
        if amid && !stop.terminated && stop.batching >= settings.stop_grace() {
            stop.terminated = true;
            recorder.remark("the trainer does not react to the command to stop; sending SIGTERM");
            self.trainer.signal(Signal::TERM);
        }
    }

    fn end_early(&mut self, end: EarlyEnd, settings: &RunnerSettings) {
        self.end = Some(end);
        if self.status.is_none() {
            self.trainer.signal(Signal::TERM);
            let grace = match end {
                EarlyEnd::Cancelled => settings.kill_grace(),
                EarlyEnd::Interrupted => settings.kill_grace() * INTERRUPTION_GRACES,
            };
            let kill_at = Instant::now() + grace;
            // Asking again does not postpone it.
            self.kill_at = Some(self.kill_at.map_or(kill_at, |earlier| earlier.min(kill_at)));
        }
    }

    /// Watches a training that has finished. It may still make predictions, which takes long and prints
    /// nothing. If it prints nothing and uses no processor time, it hangs, as sleap-nn did up to 0.3.3.
    fn watch_for_hang(&mut self, settings: &RunnerSettings) {
        if self.stoppable && self.has_trained() && self.status.is_none() {
            let until = Instant::now() + settings.exit_grace();
            self.idle = Some(Idle { until, ticks: self.trainer.processor_ticks() });
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let idle = self.idle.as_ref().map(|idle| idle.until);
        let guard = self.guard.as_ref().filter(|_| self.status.is_none()).map(LimitGuard::due);
        [self.output.due(), self.kill_at, self.give_up_reading_at, self.stop_again, idle, guard]
            .into_iter()
            .flatten()
            .min()
    }

    fn on_deadline(&mut self, settings: &RunnerSettings, recorder: &mut Recorder) {
        let now = Instant::now();
        let passed = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if passed(self.kill_at) {
            self.trainer.signal(Signal::KILL);
            self.kill_at = None;
        }
        if passed(self.give_up_reading_at) {
            self.trainer.stop_reading();
            self.give_up_reading_at = None;
        }
        if passed(self.stop_again) {
            self.ask_to_stop();
        }
        self.look_for_excess(now, recorder);
        if let Some(idle) = self.idle.take_if(|idle| idle.until <= now) {
            let ticks = self.trainer.processor_ticks();
            let used = ticks.zip(idle.ticks).map_or(0, |(now, then)| now.saturating_sub(then));
            if used > IDLE_TICKS {
                return self.watch_for_hang(settings);
            }
            recorder.remark("the trainer has finished but does not end; killing it");
            self.hanging = true;
            self.trainer.signal(Signal::KILL);
        }
    }

    /// Kills a job that exceeds its limits at once, because other jobs wait for the machine.
    fn look_for_excess(&mut self, now: Instant, recorder: &mut Recorder) {
        let Some(guard) = self.guard.as_mut().filter(|_| self.status.is_none()) else { return };
        if let Some(excess) = guard.look(self.trainer.child.id(), now) {
            recorder.remark(&excess);
            self.excess = Some(excess);
            self.guard = None;
            self.trainer.signal(Signal::KILL);
        }
    }

    fn write_text(&mut self, recorder: &mut Recorder, everything: bool) {
        while let Some(text) = self.output.next_chunk(Instant::now(), everything) {
            recorder.log(text);
        }
        while let Some(message) = self.output.next_progress() {
            recorder.progress(message, Instant::now());
        }
    }

    /// The trainer's process id, while it runs.
    pub fn trainer_id(&self) -> Option<u32> {
        self.trainer.child.id()
    }

    /// What the trainer printed.
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// How the trainer's process ended.
    pub fn status(&self) -> Option<ExitStatus> {
        self.status
    }

    /// The trainer's exit code, unless a signal ended it.
    pub fn exit_code(&self) -> Option<i32> {
        self.status.and_then(|status| status.code())
    }

    /// Why the trainer had to end early, if it had to.
    pub fn early_end(&self) -> Option<EarlyEnd> {
        self.end
    }

    /// The limit that the trainer exceeded, in words, if it was killed for that.
    pub fn excess(&self) -> Option<&str> {
        self.excess.as_deref()
    }

    /// Whether the trainer was asked to end early.
    pub fn was_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// Whether the trainer was sent SIGTERM because it ignored the command to stop.
    pub fn was_terminated(&self) -> bool {
        self.stopped.as_ref().is_some_and(|stop| stop.terminated)
    }

    /// Whether the trainer was killed because it did not end after its work.
    pub fn was_hanging(&self) -> bool {
        self.hanging
    }

    /// Whether a training reported its end.
    pub fn has_trained(&self) -> bool {
        self.trained || self.output.findings().finished
    }
}

async fn next_message(progress: &mut Option<ProgressListener>) -> Value {
    if let Some(progress) = progress
        && let Some(message) = progress.next().await
    {
        return message;
    }
    std::future::pending().await
}
