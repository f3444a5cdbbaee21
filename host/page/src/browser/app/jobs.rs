//! The jobs of the room: those that the browser knows, new ones, and what the user asks of them.

use super::App;
use crate::browser::clock::now_ms;
use crate::browser::database;
use crate::browser::job::{Choice, Command, Draft, JobNews, JobTask, Phase};
use crate::browser::message::{JobAction, Msg, Screen, send};
use crate::browser::model::{Given, GivenState, JobState};
use crate::browser::parcel::last_part;
use crate::browser::save::{save, save_into_folder};
use crate::browser::store::{self, KnownJob};
use futures_channel::mpsc::unbounded;
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_protocol::job::JobType;
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::spawn_local;
use web_sys::Blob;

/// The most jobs that are followed at once after a reload.
const MAX_FOLLOWED: usize = 8;

impl App {
    /// Goes on with the jobs that this browser knows of in this room.
    pub(super) fn come_back(&mut self) {
        let Some(around) = self.around() else { return };
        for known in store::jobs() {
            let Some(job) = known.job_ref() else { continue };
            if job.room.room_id != around.room.credential().room_id {
                continue;
            }
            let (commands, asked) = unbounded();
            let is_over = known.ended.is_some();
            let state = JobState::new(job.job.clone(), known, commands);
            self.model.jobs.push(JobState { asleep: Some(asked), ..state });
            let is_shown = self.model.screen == Screen::Job(job.job.clone());
            // Those that are over are looked at when the user does.
            if is_shown || (!is_over && self.model.jobs.len() <= MAX_FOLLOWED) {
                self.wake(&job.job);
            }
        }
    }

    /// Follows a job that nobody follows yet.
    pub(super) fn wake(&mut self, id: &JobId) {
        let Some(around) = self.around() else { return };
        let Some(state) = self.model.job_mut(id) else { return };
        let (Some(job), Some(asked)) = (state.known.job_ref(), state.asleep.take()) else { return };
        let (id, is_sent) = (id.clone(), state.known.is_sent);
        let of = id.clone();
        let tell = move |news| send(Msg::Job(of.clone(), news));
        let task = JobTask::known(around, job, asked, tell);
        spawn_local(async move {
            let package = if is_sent { None } else { database::find_package(&id).await };
            task.attach(package).await;
        });
    }

    pub(super) fn submit(&mut self) {
        let Some(around) = self.around() else { return };
        let Some(Given { parcel, state: GivenState::Ready(package, opened) }) =
            self.model.given.take()
        else {
            return;
        };
        let (commands, asked) = unbounded();
        let task = JobTask::new(around, asked, |id| {
            let id = id.clone();
            move |news| send(Msg::Job(id.clone(), news))
        });
        let Ok(task) = task else { return };
        let known = KnownJob {
            job: String::new(),
            name: opened.name.clone(),
            worker: String::new(),
            since_ms: now_ms(),
            is_prediction: opened.description.job_type == JobType::Inference,
            is_sent: false,
            ended: None,
        };
        let id = task.id().clone();
        let state = JobState::new(id.clone(), known, commands);
        let state = JobState { package: Some(parcel), phase: Phase::Reading, ..state };
        self.model.jobs.insert(0, state);
        self.model.screen = Screen::Job(id);
        let choice = std::mem::replace(&mut self.model.choice, Choice::Automatic);
        spawn_local(task.submit(Draft { package, opened: *opened, choice }));
    }

    pub(super) fn job_news(&mut self, id: &JobId, news: JobNews) {
        let brings_models = matches!(news, JobNews::Phase(Phase::Over) | JobNews::Fetched(_));
        if let JobNews::Trouble(why) = &news {
            self.await_no_models(id, why);
        }
        let Some(job) = self.model.job_mut(id) else { return };
        if let JobNews::Zip(zip) = &news {
            save(&self.document, zip.unchecked_ref(), &format!("{}-results.zip", job.known.name));
        }
        if job.take(news, now_ms()) {
            store::put_job(&job.known);
            let id = id.clone();
            match &job.package {
                Some(package) if !job.known.is_sent => {
                    let package = package.clone();
                    spawn_local(async move { database::keep_package(&id, &package).await });
                }
                _ => {
                    job.package = None;
                    spawn_local(async move { database::forget_package(&id).await });
                }
            }
        }
        if brings_models {
            self.take_models(id);
        }
    }

    pub(super) fn grant(&mut self, id: &JobId, action: JobAction) {
        let document = self.document.clone();
        let Some(job) = self.model.job_mut(id) else { return };
        let command = match action {
            JobAction::Retry => Command::Retry,
            JobAction::Wait => Command::Wait,
            JobAction::Stop => Command::Stop,
            JobAction::Cancel => Command::Cancel,
            JobAction::Fetch => Command::Fetch,
            JobAction::SaveZip => Command::Zip,
            JobAction::ConfirmCancel(asks) => {
                job.asks_cancel = asks;
                return;
            }
            JobAction::SaveFolder => {
                let files = job.results.iter().flat_map(|results| &results.files);
                let files = files.map(|(file, blob)| (file.path.clone(), blob.clone())).collect();
                save_all(id.clone(), format!("{}-results", job.known.name), files);
                return;
            }
            JobAction::SaveFile(place) => {
                if let Some((file, blob)) =
                    job.results.iter().flat_map(|r| r.files.get(place)).next()
                {
                    save(&document, blob, last_part(&file.path));
                }
                return;
            }
            JobAction::Forget => {
                store::forget_job(id);
                let forgotten = id.clone();
                spawn_local(async move { database::forget(&forgotten).await });
                self.model.jobs.retain(|job| job.id != *id);
                self.model.screen = Screen::Workers;
                return;
            }
        };
        job.asks_cancel = false;
        job.ask(command);
    }
}

/// Saves files into a folder that the user chooses.
fn save_all(id: JobId, name: String, files: Vec<(String, Blob)>) {
    spawn_local(async move {
        match save_into_folder(&name, files).await {
            Ok(None) => {}
            Ok(Some(folder)) => send(Msg::Job(id, JobNews::Saved(format!("{folder}/{name}")))),
            Err(error) => {
                let text = format!("the browser cannot save into this folder: {error:?}");
                send(Msg::Job(id, JobNews::Trouble(text)));
            }
        }
    });
}
