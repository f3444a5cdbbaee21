//! Follows the user's jobs in a room, and ends them if the user wants that.

use super::model::{JobEnding, OwnJob};
use crate::client::action::Action;
use crate::client::display::{Detail, Display, say};
use crate::client::existing_job;
use crate::client::interrupt::Interrupts;
use crate::client::record::Record;
use crate::config::Config;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_trust::credential::Credential;
use sleap_rtc_trust::session::JobString;
use tokio::task::JoinSet;

/// The most jobs that are followed at once, each over a connection of its own.
const MAX_JOBS: usize = 8;

/// The jobs of this machine's user that are not over, as far as this room has them.
pub(super) struct Watching {
    config: Config,
    room: Credential,
    jobs: Vec<(JobString, OwnJob)>,
    /// One for each job, and one for each that is being ended.
    tasks: JoinSet<()>,
}

impl Watching {
    /// Follows nothing yet.
    pub(super) fn new(config: &Config, room: Credential) -> Self {
        let mut this =
            Self { config: config.clone(), room, jobs: Vec::new(), tasks: JoinSet::new() };
        this.look();
        this
    }

    /// Follows what was submitted in the meantime.
    pub(super) fn look(&mut self) {
        let records = Record::all(&self.config.client.jobs_dir).into_iter();
        for record in records.filter(|record| !record.last_seen.state.is_end()) {
            let Ok(job_ref) = record.job_string() else { continue };
            let is_known = self.jobs.iter().any(|(known, _)| known.job == job_ref.job);
            if !is_known && job_ref.room == self.room && self.followed() < MAX_JOBS {
                self.follow(job_ref, &record.name);
            }
        }
    }

    /// How many of the jobs have not ended.
    fn followed(&self) -> usize {
        self.jobs.iter().filter(|(_, job)| job.view.lock().outcome().is_none()).count()
    }

    fn follow(&mut self, job_ref: JobString, name: &str) {
        let mut display = Display::new(&job_ref.worker, Detail::Silent);
        display.introduce(name, None);
        let job = OwnJob { id: job_ref.job.clone(), view: display.view() };
        let (config, watched) = (self.config.clone(), job_ref.clone());
        self.tasks.spawn(async move {
            if let Err(error) = existing_job::watch(&config, &watched, &mut display).await {
                say(&format!("{}: {}", watched.job, WithCauses(&error)));
            }
        });
        self.jobs.push((job_ref, job));
    }

    /// What is followed.
    pub(super) fn jobs(&self) -> Vec<OwnJob> {
        self.jobs.iter().map(|(_, job)| job.clone()).collect()
    }

    /// Ends a job, and says how that went.
    pub(super) fn start(&mut self, job: &JobId, ending: JobEnding) {
        let Some((job_ref, _)) = self.jobs.iter().find(|(known, _)| known.job == *job) else {
            return;
        };
        let (config, job_ref) = (self.config.clone(), job_ref.clone());
        let (action, done) = match ending {
            JobEnding::Stop => (Action::Stop { all: false }, "stops early; its model is kept"),
            JobEnding::Cancel => (Action::Cancel, "is cancelled"),
        };
        self.tasks.spawn(async move {
            let ended = existing_job::run(&config, &job_ref, action, Interrupts::never()).await;
            match ended {
                Ok(_) => say(&format!("{} {done}", job_ref.job)),
                Err(error) => say(&format!("{}: {}", job_ref.job, WithCauses(&error))),
            }
        });
    }

    /// Resolves when one of the tasks has ended. Never without a task.
    pub(super) async fn changed(&mut self) {
        if self.tasks.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Follows nothing any more.
    pub(super) async fn end(&mut self) {
        self.tasks.shutdown().await;
    }
}
