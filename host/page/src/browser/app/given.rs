//! What the user gives: packages, and what predictions are made of.

use super::App;
use crate::browser::engine::{Opened, ResultFile, Session};
use crate::browser::job::{Command, Phase};
use crate::browser::message::{Msg, Screen, send};
use crate::browser::model::{Given, GivenState};
use crate::browser::parcel::{Item, Parcel};
use crate::browser::prediction::FormStep;
use sleap_rtc_protocol::ids::JobId;
use wasm_bindgen_futures::spawn_local;
use web_sys::Blob;

impl App {
    pub(super) fn given(&mut self, given: Result<Vec<Item>, String>) {
        self.model.screen = Screen::Train;
        match given {
            Ok(items) if items.is_empty() => {}
            Ok(items) => self.read(Parcel::package(items)),
            Err(why) => {
                let state = GivenState::Unusable(why);
                self.model.given = Some(Given { parcel: Parcel::package(Vec::new()), state });
            }
        }
    }

    fn read(&mut self, parcel: Parcel) {
        let session = self.engine.session();
        self.model.given = Some(Given { parcel: parcel.clone(), state: GivenState::Reading });
        spawn_local(async move { send(Msg::Opened(opened(session, parcel).await)) });
    }

    pub(super) fn form(&mut self, step: FormStep) {
        let form = &mut self.model.form;
        match step {
            FormStep::Add(given) => form.add(given),
            FormStep::Remove(place) => {
                if place < form.models.len() {
                    form.models.remove(place);
                }
            }
            FormStep::TakeFrom(job) => {
                form.awaited = Some(job.clone());
                self.wake(&job);
                self.take_models(&job);
            }
            FormStep::Link(links) => form.is_tracking = links,
            FormStep::Review => {
                if let Some(parcel) = form.parcel() {
                    self.read(parcel);
                }
            }
        }
    }

    /// Takes the models of a job for a prediction, if they are awaited and here; has them fetched else.
    pub(super) fn take_models(&mut self, id: &JobId) {
        if self.model.form.awaited.as_ref() != Some(id) {
            return;
        }
        let Some(job) = self.model.job_mut(id) else { return };
        let Some(results) = &job.results else {
            if job.phase == Phase::Over {
                job.ask(Command::Fetch);
            }
            return;
        };
        let item = |(file, content): &(ResultFile, Blob)| Item {
            path: file.path.clone(),
            content: content.clone(),
        };
        let items = results.files.iter().map(item).collect();
        self.model.form.awaited = None;
        self.model.form.add(Ok(items));
    }

    /// The models that are awaited do not come.
    pub(super) fn await_no_models(&mut self, id: &JobId, why: &str) {
        if self.model.form.awaited.as_ref() == Some(id) {
            self.model.form.awaited = None;
            self.model.form.problem = Some(why.to_owned());
        }
    }
}

async fn opened(mut session: Session, parcel: Parcel) -> Result<(Session, Box<Opened>), String> {
    let opened = session.open(&parcel).await.map_err(|error| error.to_string())?;
    Ok((session, opened))
}
