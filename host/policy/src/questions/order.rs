//! In which order do the jobs start that wait?

use super::{Question, REASON_CHARS, place_of};
use crate::ExtensionPoint;
use crate::answers::Placed;
use crate::bindings::queueing::{self, RunningJob, WaitingJob};
use crate::bindings::types::{Context, Worker};
use crate::block::{Lists, Records};
use crate::facts;
use serde::{Deserialize, Serialize};
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::job::{JobDescription, JobType};
use sleap_rtc_protocol::text::Printable;

/// A job that runs or waits at a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct JobHere {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub user: String,
    /// The job.
    pub description: JobDescription,
    /// For how many seconds it has run, or waited.
    pub since_s: u64,
    /// How many seconds it probably still runs, or will run.
    pub takes_s: Option<u64>,
    /// The slot in which it runs, or the slots that fit it.
    pub slots: Vec<usize>,
}

/// The jobs of a worker.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Line {
    /// Those that run.
    pub running: Vec<JobHere>,
    /// Those that wait, in the order in which they came.
    pub waiting: Vec<JobHere>,
}

impl Line {
    /// The jobs of a worker in a recorded room, and `job`, which came last.
    pub fn recorded(worker: &WorkerFacts, job: &JobDescription) -> Self {
        let all: Vec<usize> = (0..usize::try_from(worker.slots).unwrap_or(0)).collect();
        let here = |number: usize, user: &str, description, takes_s, slots: &[usize]| JobHere {
            id: format!("{number}"),
            user: user.to_owned(),
            description,
            since_s: 0,
            takes_s,
            slots: slots.to_vec(),
        };
        let running = worker.jobs.iter().enumerate().map(|(number, running)| {
            let user = running.user.clone().unwrap_or_else(|| running.owner.to_string());
            let job_type = running.job_type.unwrap_or(JobType::Training);
            let job =
                JobDescription { user: running.user.clone(), ..JobDescription::unknown(job_type) };
            here(number, &user, job, running.left_s, &[number])
        });
        let running: Vec<JobHere> = running.collect();
        let mut waiting = worker.queue().unwrap_or_default();
        waiting.sort_by_key(|entry| entry.since_ms);
        let newest_ms = waiting.last().map_or(0, |entry| entry.since_ms);
        let waiting = waiting.iter().enumerate().map(|(number, entry)| JobHere {
            since_s: (newest_ms - entry.since_ms) / 1000,
            ..here(
                running.len() + number,
                &entry.user,
                JobDescription {
                    user: Some(entry.user.clone()),
                    ..JobDescription::unknown(entry.job_type)
                },
                entry.left_s,
                &all,
            )
        });
        let last = here(
            running.len() + waiting.len(),
            job.user.as_deref().unwrap_or("you"),
            job.clone(),
            None,
            &all,
        );
        let waiting = waiting.chain([last]).collect();
        Self { running, waiting }
    }
}

/// The question.
#[derive(Serialize, Deserialize)]
pub(crate) struct OrderLine {
    pub context: Context,
    pub worker: Worker,
    pub running: Vec<RunningJob>,
    pub waiting: Vec<WaitingJob>,
}

impl OrderLine {
    pub(crate) fn new(context: Context, worker: Worker, line: &Line) -> Self {
        Self {
            context,
            worker,
            running: line.running.iter().map(JobHere::running).collect(),
            waiting: line.waiting.iter().map(JobHere::waiting).collect(),
        }
    }
}

impl JobHere {
    /// The record of a job that runs.
    fn running(&self) -> RunningJob {
        RunningJob {
            id: facts::text(&self.id),
            user: facts::text(&self.user),
            job: facts::job_alone(&self.description),
            ran_s: self.since_s,
            left_s: self.takes_s,
            slot: self.slot_numbers().first().copied(),
            properties: Vec::new(),
        }
    }

    /// The record of a job that waits.
    fn waiting(&self) -> WaitingJob {
        WaitingJob {
            id: facts::text(&self.id),
            user: facts::text(&self.user),
            job: facts::job_alone(&self.description),
            waited_s: self.since_s,
            takes_s: self.takes_s,
            fitting_slots: self.slot_numbers(),
            properties: Vec::new(),
        }
    }

    fn slot_numbers(&self) -> Vec<u32> {
        self.slots.iter().filter_map(|slot| u32::try_from(*slot).ok()).collect()
    }
}

impl Question for OrderLine {
    const POINT: ExtensionPoint = ExtensionPoint::Queueing;
    type Arguments<'q> =
        (&'q Context, &'q Worker, Records<'q, RunningJob>, Records<'q, WaitingJob>);
    type Raw = Option<Vec<queueing::Place>>;
    type Answer = Option<Vec<Placed>>;

    fn context(&mut self) -> &mut Context {
        &mut self.context
    }

    fn arguments(&self, lists: Lists) -> Self::Arguments<'_> {
        let running = Records::new(&self.running, lists);
        (&self.context, &self.worker, running, Records::new(&self.waiting, lists))
    }

    fn check(&self, answer: Self::Raw) -> Result<Self::Answer, String> {
        let Some(places) = answer else { return Ok(None) };
        let mut seen = vec![false; self.waiting.len()];
        let placed = places.into_iter().map(|queueing::Place { index, reason }| {
            let index = place_of("job", index, &mut seen)?;
            Ok(Placed { index, reason: Printable::line(&reason, REASON_CHARS).into() })
        });
        placed.collect::<Result<Vec<_>, String>>().map(Some)
    }
}
