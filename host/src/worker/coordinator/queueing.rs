//! The jobs that wait for a slot: takes them in, starts them in their turn, and says where they stand.

use super::Coordinator;
use super::handle::{Launch, LaunchReply, Request};
use super::jobs::{LaunchedFor, record_end};
use crate::blocking::blocking;
use crate::worker::ordering;
use crate::worker::queue_report::{QueueReport, Waiting, user_of};
use sleap_rtc_base::clock::now_ms;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_job::{JobError, JobFolder, bytes_on_disk};
use sleap_rtc_protocol::ids::{JobId, PeerId};
use sleap_rtc_protocol::job::{JobOutcome, QueueEntry, Refusal, RefusalCode};
use sleap_rtc_protocol::queue::{Order, WaitingJob};
use sleap_rtc_protocol::queue_report::{Decided, Decision};
use sleap_rtc_protocol::worker::QueueEvent;
use std::fmt;
use std::time::Instant;
use tokio::sync::oneshot;
use tracing::{info, warn};

/// Who withdraws a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WithdrawnBy {
    /// Its client, over a connection for the job.
    Client,
    /// The peer that submitted it, through the signaling server.
    Owner,
    Operator,
}

impl fmt::Display for WithdrawnBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "its client",
            Self::Owner => "its owner",
            Self::Operator => "the operator",
        })
    }
}

impl Coordinator {
    /// Lets the job of `peer`, which holds a place in the queue, wait there. Its folder says so first: it
    /// waits even if this worker ends now.
    pub(crate) fn let_wait(&self, peer: PeerId, folder: JobFolder, reply: LaunchReply) {
        let coordinator = self.handle.clone();
        self.tasks.spawn(async move {
            let waiting = folder.clone();
            let written = blocking(move || {
                let package_bytes = bytes_on_disk(&waiting.files_dir());
                let entry =
                    QueueEntry { since_ms: now_ms(), package_bytes, ..QueueEntry::default() };
                waiting.queue(entry.clone()).map(|()| entry)
            });
            let why = match written.await {
                Ok(Ok(entry)) => {
                    let request = Request::Queued { peer, folder, entry, reply };
                    return coordinator.tell(request).await;
                }
                Ok(Err(error)) => WithCauses(&error).to_string(),
                Err(error) => error.to_string(),
            };
            let text = format!("the worker could not let the job wait: {why}");
            let _ = reply.send(Err(Refusal::new(RefusalCode::Invalid, text)));
        });
    }

    /// The job of `peer` waits, as its folder says.
    pub(crate) fn enter_queue(
        &mut self,
        peer: PeerId,
        folder: JobFolder,
        entry: QueueEntry,
        reply: LaunchReply,
    ) {
        let since_ms = entry.since_ms;
        let waiting = self.waiting_job(&folder, entry);
        let job = waiting.job.clone();
        let entered = self.apply(QueueEvent::JobQueued { peer: peer.clone(), waiting });
        if let Err(refused) = entered {
            let _ = reply.send(Err(self.no_slot(refused)));
            return;
        }
        info!(%job, "the job waits for a slot");
        self.reservations.started(&peer);
        if let Some(connection) = self.new_jobs.get_mut(&peer) {
            connection.job = Some(job.clone());
        }
        self.waiting.insert(job, Waiting::new(&folder, since_ms));
        self.start_and_report_waiting();
        let _ = reply.send(Ok(Launch::Waits));
    }

    /// Takes in a job that waited when an earlier run of this worker ended.
    pub(crate) fn found_queued(&mut self, folder: &JobFolder, entry: QueueEntry) {
        let since_ms = entry.since_ms;
        let waiting = self.waiting_job(folder, entry);
        let job = waiting.job.clone();
        if self.apply(QueueEvent::JobFound { waiting }).is_ok() {
            info!(%job, "found a job that waits for a slot");
            self.waiting.insert(job, Waiting::new(folder, since_ms));
        }
    }

    /// Starts what may start, has the others ordered, and says where they stand.
    pub(crate) fn start_and_report_waiting(&mut self) {
        for (job, slot) in self.state.start_waiting() {
            if let Some(waiting) = self.waiting.remove(&job) {
                self.note_overtaken(waiting.since_ms);
                self.launch(waiting.folder, slot, LaunchedFor::Queue);
            }
        }
        self.order_queue();
        let queue_report = QueueReport::of(&self.state, &self.waiting, &self.running);
        let queue_report = queue_report.in_cluster(self.cluster_starts_ms);
        self.context.queue_report.send_if_modified(|before| {
            let has_changed = **before != queue_report;
            if has_changed {
                *before = queue_report.into();
            }
            has_changed
        });
    }

    /// A job that came at `since_ms` starts before those that came earlier and still wait.
    fn note_overtaken(&mut self, since_ms: u64) {
        let now = Instant::now();
        for waiting in self.waiting.values_mut().filter(|waiting| waiting.since_ms < since_ms) {
            waiting.overtaken_at.get_or_insert(now);
        }
    }

    /// When the log has to warn next that others overtake a job.
    pub(crate) fn next_overtaken_warning(&self) -> Option<Instant> {
        let patience = self.context.queue_patience;
        let overtaken = self.waiting.values().filter_map(|waiting| waiting.overtaken_at);
        overtaken.filter_map(|at| at.checked_add(patience)).min()
    }

    /// Logs jobs that others have overtaken for too long, and repeats this after the same time.
    pub(crate) fn warn_of_overtaken(&mut self) {
        let (now, patience) = (Instant::now(), self.context.queue_patience);
        let line = self.state.start_order();
        for (job, waiting) in &mut self.waiting {
            if waiting.overtaken_at.is_some_and(|at| now.duration_since(at) >= patience) {
                waiting.overtaken_at = Some(now);
                let rule = line.iter().find(|(other, _)| other.job == *job);
                let rule = rule.map(|(_, rule)| rule.to_string()).unwrap_or_default();
                let waited_s = now_ms().saturating_sub(waiting.since_ms) / 1000;
                warn!(%job, waited_s, rule, "other jobs keep starting before this one");
            }
        }
    }

    /// Asks the policy for the order of the queue, if it is out of date and not being asked for. Until the
    /// answer arrives, nothing starts.
    fn order_queue(&mut self) {
        if self.is_ordering || !self.state.queue().wants_order() {
            return;
        }
        self.is_ordering = true;
        let revision = self.state.queue().revision();
        let line = ordering::question(&self.state, &self.waiting, &self.running);
        let (context, coordinator) = (self.context.clone(), self.handle.clone());
        self.tasks.spawn(async move {
            let order = ordering::ask(&context, revision, line).await;
            coordinator.tell(Request::Ordered { order }).await;
        });
    }

    /// Applies the policy's order of the queue.
    pub(crate) fn apply_order(&mut self, order: Order) {
        self.is_ordering = false;
        let _ = self.apply(QueueEvent::Ordered(order));
    }

    fn waiting_job(&self, folder: &JobFolder, entry: QueueEntry) -> WaitingJob {
        let description = &folder.spec().description;
        let wanted_mib = description.requirements.min_gpu_memory_mib.unwrap_or(0);
        // Where the worker's policy admits a job that wants more than any slot has, the largest will do.
        let largest_mib = self.machine.slots.memory_mib(&self.machine.pool).into_iter().max();
        WaitingJob {
            job: folder.id().clone(),
            user: user_of(folder),
            needs_mib: wanted_mib.min(largest_mib.unwrap_or(0)),
            entry,
        }
    }

    /// Applies a decision of the operator. The job's folder says so first.
    pub(crate) fn decide(
        &mut self,
        job: &JobId,
        decision: Decision,
        reply: oneshot::Sender<Decided>,
    ) {
        let waiting = self.waiting.get(job).map(|waiting| waiting.folder.clone());
        let entry = self.state.queue().get(job).map(|waiting| waiting.entry.clone());
        let Some((folder, entry)) = waiting.zip(entry) else {
            // A job whose package is arriving can only be removed.
            let is_removed = decision == Decision::Remove && self.context.arriving.end(job);
            let _ = reply.send(if is_removed { Decided::Done } else { Decided::NotWaiting });
            return;
        };
        info!(%job, ?decision, "the operator decides about a waiting job");
        let entry = match decision {
            Decision::Hold => QueueEntry { is_held: true, ..entry },
            Decision::Release => QueueEntry { is_held: false, ..entry },
            Decision::Front => QueueEntry { is_held: false, front_ms: Some(now_ms()), ..entry },
            Decision::Remove => {
                self.withdraw(job, WithdrawnBy::Operator);
                let _ = reply.send(Decided::Done);
                return;
            }
        };
        let (job, coordinator) = (job.clone(), self.handle.clone());
        self.tasks.spawn(async move {
            let kept = entry.clone();
            let why = match blocking(move || folder.queue(kept)).await {
                Ok(Ok(())) => {
                    return coordinator.tell(Request::Changed { job, entry, reply }).await;
                }
                // It has begun meanwhile.
                Ok(Err(JobError::Locked(_) | JobError::State(_))) => {
                    let _ = reply.send(Decided::NotWaiting);
                    return;
                }
                Ok(Err(error)) => WithCauses(&error).to_string(),
                Err(error) => error.to_string(),
            };
            let _ = reply.send(Decided::Failed(why));
        });
    }

    /// Applies a decision of the operator that is in the job's folder.
    pub(crate) fn apply_written_decision(
        &mut self,
        job: JobId,
        entry: QueueEntry,
        reply: oneshot::Sender<Decided>,
    ) {
        let changed = self.apply(QueueEvent::Changed { job, entry });
        self.start_and_report_waiting();
        let _ = reply.send(match changed {
            Ok(_) => Decided::Done,
            Err(_) => Decided::NotWaiting,
        });
    }

    /// Withdraws a job that waits. Returns whether it did.
    pub(crate) fn withdraw(&mut self, job: &JobId, by: WithdrawnBy) -> bool {
        let Some(waiting) = self.waiting.remove(job) else {
            return self.withdraw_submitted(job, by);
        };
        let _ = self.apply(QueueEvent::Withdrawn { job: job.clone() });
        info!(%job, %by, "withdrew a job that waited for a slot");
        self.record_end_in_background(waiting.folder, JobOutcome::Cancelled);
        true
    }

    /// Writes down that a job is over that has no process. Its clients hear of it then.
    fn record_end_in_background(&self, folder: JobFolder, outcome: JobOutcome) {
        let context = self.context.clone();
        self.tasks.spawn(async move {
            record_end(&context, folder, outcome).await;
            context.queue_report.send_modify(|_| {});
            context.job_over.send_replace(());
        });
    }
}
