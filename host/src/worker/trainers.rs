//! The trainers of this machine. The worker searches for them at the start, and again while one is
//! missing or broken.

use super::WorkerContext;
use super::coordinator::CoordinatorHandle;
use super::gpus::report_changes;
use sleap_rtc_base::bounded_wait::BoundedWait;
use sleap_rtc_job::trainers::{Trainer, TrainerVersion, Trainers};
use sleap_rtc_job::{Confinement, ReadScope};
use sleap_rtc_protocol::capabilities::SANDBOX;
use sleap_rtc_protocol::job::{JobDescription, JobType, Refusal, RefusalCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The time between two searches while a trainer is missing or broken.
const INTERVAL: Duration = Duration::from_secs(60);
/// How long a decision about a job waits for the first search. A client gives its job to another worker
/// after two seconds without an answer. Until the search is done, a request is accepted, and the job waits
/// before its upload.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a trainer may take to answer. Imports take many seconds on a cold disk.
const SEARCH: BoundedWait =
    BoundedWait { limit: Duration::from_secs(90), announce: |words| info!("{words}") };
/// How long a job waits for the first search, which finds out whether its trainer works and what it may
/// read. Its client waits two minutes.
const START_PATIENCE: Duration = Duration::from_secs(100);

/// The trainers; `None` until the first search is done.
pub(crate) struct KnownTrainers(watch::Sender<Option<Trainers>>);

impl KnownTrainers {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Refuses a job whose trainer is missing or broken.
    pub(crate) async fn check(&self, job: &JobDescription) -> Result<(), Refusal> {
        self.check_within(job, PATIENCE).await
    }

    /// Waits for the end of the first search, or for as long as a job may wait for it.
    pub(crate) async fn searched(&self) -> Result<(), Refusal> {
        let mut known = self.0.subscribe();
        let first = tokio::time::timeout(START_PATIENCE, known.wait_for(Option::is_some)).await;
        first.map(drop).map_err(|_| {
            let text = "this worker is still checking its trainer; try again in a minute";
            Refusal::new(RefusalCode::Other, text)
        })
    }

    async fn check_within(&self, job: &JobDescription, patience: Duration) -> Result<(), Refusal> {
        let mut known = self.0.subscribe();
        let first = tokio::time::timeout(patience, known.wait_for(Option::is_some)).await;
        let Ok(Ok(trainers)) = first else { return Ok(()) };
        let trainer = trainers.as_ref().map(|trainers| trainers.of(job.job_type));
        let problem = match (trainer, &job.sleap_nn_version) {
            (Some(Trainer::Legacy(program)), Some(version)) => Some(format!(
                "the worker has no sleap-nn, only {} of SLEAP 1.4.1, which cannot read the package's \
                 configs of sleap-nn {version}",
                program.display()
            )),
            (trainer, _) => trainer.and_then(Trainer::problem),
        };
        match problem {
            None => Ok(()),
            Some(problem) => Err(Refusal::new(RefusalCode::Incompatible, problem)),
        }
    }

    /// What jobs must be able to read, once the first search is done.
    pub(crate) async fn scope(&self) -> ReadScope {
        let mut known = self.0.subscribe();
        let first = tokio::time::timeout(START_PATIENCE, known.wait_for(Option::is_some)).await;
        let Ok(Ok(trainers)) = first else { return ReadScope::default() };
        trainers.as_ref().map(|trainers| trainers.scope).unwrap_or_default()
    }

    /// Why jobs of this kind have no trainer that works, as far as that is known.
    pub(crate) fn problem(&self, job_type: JobType) -> Option<String> {
        self.0.borrow().as_ref()?.of(job_type).problem()
    }

    /// The problems of the trainers, one sentence each.
    fn problems(&self) -> Vec<String> {
        self.0.borrow().as_ref().map(Trainers::problems).unwrap_or_default()
    }
}

/// Searches for trainers until all work, or until `shutdown`. Registration does not wait for it.
pub(crate) async fn watch(
    context: Arc<WorkerContext>,
    coordinator: CoordinatorHandle,
    shutdown: CancellationToken,
) {
    let searching = async {
        loop {
            let trainers = Trainers::find(&context.runner.settings, SEARCH).await;
            report(&context, &trainers);
            let all_work = trainers.problems().is_empty();
            let settings = context.runner.settings.clone().reading(trainers.scope);
            let sandbox = settings.confinement.as_ref().map_or("off", Confinement::word);
            context.update_facts(|facts| {
                facts.worker.sleap_version = trainers.version.known().map(str::to_owned);
                facts.worker.properties.insert(SANDBOX.to_owned(), sandbox.into());
            });
            context.trainers.0.send_replace(Some(trainers));
            coordinator.facts_changed().await;
            if all_work {
                return;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    };
    shutdown.run_until_cancelled(searching).await;
}

fn report(context: &WorkerContext, trainers: &Trainers) {
    report_changes(&context.trainers.problems(), &trainers.problems());
    let before = context.trainers.0.borrow();
    let scope = before.as_ref().map(|before| before.scope).unwrap_or_default();
    if let Some(more) = trainers.scope.explain().filter(|_| trainers.scope != scope) {
        warn!("{more}; `[worker] sandbox_read` can name the files instead");
    }
    if before.as_ref().is_some_and(|before| before.training == trainers.training) {
        return;
    }
    if let TrainerVersion::Silent(silence) = &trainers.version {
        warn!("{silence}, so its version is not known");
    }
    if let Trainer::Works(program) = &trainers.training {
        let version = trainers.version.known().unwrap_or("unknown");
        info!(version, program = %program.display(), "sleap-nn found");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sleap_rtc_job::trainers::{Complaint, Trouble};

    fn broken() -> Trainers {
        let works = Trainer::Works("/bin/sleap-nn".into());
        let words = "No module named 'torch'".into();
        let complaint = Complaint { words, trouble: Trouble::Fails };
        let training = Trainer::Broken("/bin/sleap".into(), complaint);
        Trainers {
            version: TrainerVersion::Unknown,
            training,
            inference: works,
            scope: ReadScope::Listed,
        }
    }

    #[tokio::test]
    async fn a_broken_trainer_is_refused_and_an_unknown_one_is_not() {
        let known = KnownTrainers::new();
        let soon = Duration::from_millis(1);
        let mut training = JobDescription::unknown(JobType::Training);
        assert_eq!(known.check_within(&training, soon).await, Ok(()));
        known.0.send_replace(Some(broken()));
        let refusal = known.check(&training).await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Incompatible);
        assert!(refusal.message.contains("'torch'"), "{}", refusal.message);
        let inference = JobDescription::unknown(JobType::Inference);
        assert_eq!(known.check(&inference).await, Ok(()));
        let legacy = Trainer::Legacy("/bin/sleap-train".into());
        known.0.send_replace(Some(Trainers { training: legacy, ..broken() }));
        assert_eq!(known.check(&training).await, Ok(()));
        training.sleap_nn_version = Some("0.3.5".into());
        let refusal = known.check(&training).await.unwrap_err();
        assert!(refusal.message.contains("1.4.1"), "{}", refusal.message);
    }
}
