//! The page: takes messages, changes what it knows, and shows it.

use super::clock::now_ms;
use super::dom::Mounted;
use super::engine::{Engine, Opened, Session};
use super::job::{Choice, Command, Draft, JobNews, JobTask, Phase, Surroundings};
use super::key::Key;
use super::message::{Msg, Screen, Wish, receive, send};
use super::model::{Given, GivenState, Here, JobState, Link, Model};
use super::pairing::{self, Paired};
use super::room::{Room, RoomNews};
use super::save::save;
use super::store::{self, KnownJob, KnownRoom};
use super::{files, random, view};
use crate::words;
use futures_channel::mpsc::unbounded;
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_trust::device::DeviceKey;
use sleap_rtc_trust::pairing::Code;
use std::cell::RefCell;
use std::rc::Rc;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::spawn_local;
use web_sys::{Document, File, Window};

/// The most jobs that are followed at once after a reload.
const MAX_FOLLOWED: usize = 8;

struct App {
    window: Window,
    document: Document,
    engine: Engine,
    device: DeviceKey,
    model: Model,
    shown: Option<Mounted>,
    is_due: bool,
}

/// Starts the page in the document's body.
pub fn start(engine: &str) -> Result<(), JsValue> {
    let window = web_sys::window().ok_or("there is no window")?;
    let document = window.document().ok_or("there is no document")?;
    let device = store::device_key(random::bytes()?);
    let model = Model { rooms: store::rooms(), ..Model::default() };
    let engine = Engine::new(engine);
    let (shown, is_due) = (None, false);
    let app = App { window, document, engine, device, model, shown, is_due };
    let app = Rc::new(RefCell::new(app));
    let page = app.clone();
    receive(move |message| {
        // A message may cause others: each has its turn.
        let page = page.clone();
        spawn_local(async move {
            page.borrow_mut().update(message);
            App::draw_soon(&page);
        });
    });
    app.borrow_mut().open();
    App::draw_soon(&app);
    Ok(())
}

impl App {
    /// Draws with the browser's next picture.
    fn draw_soon(app: &Rc<RefCell<Self>>) {
        if std::mem::replace(&mut app.borrow_mut().is_due, true) {
            return;
        }
        let drawn = app.clone();
        let draw = Closure::once_into_js(move || drawn.borrow_mut().draw());
        // A page that is not seen is drawn when it is seen again.
        let _ = app.borrow().window.request_animation_frame(draw.unchecked_ref());
    }

    fn draw(&mut self) {
        self.is_due = false;
        let view = view::page(&self.model);
        let drawn = match (&mut self.shown, self.document.body()) {
            (Some(shown), _) => shown.show(&self.document, view.into()),
            (None, Some(body)) => Mounted::new(&self.document, view.into()).and_then(|shown| {
                body.set_text_content(None);
                body.append_child(shown.node())?;
                self.shown = Some(shown);
                Ok(())
            }),
            (None, None) => Ok(()),
        };
        if drawn.is_err() {
            // The document is not as it was left: an extension may have changed it. Begin anew.
            self.shown = None;
        }
    }

    /// Opens what the link is for, or the last room.
    fn open(&mut self) {
        let location = self.window.location();
        let fragment = location.hash().unwrap_or_default();
        if let Some(text) = fragment.strip_prefix('#').filter(|text| !text.is_empty()) {
            // The secret does not stay in the address, from where it would be copied.
            if let (Ok(history), Ok(path)) = (self.window.history(), location.pathname()) {
                let _ = history.replace_state_with_url(&JsValue::NULL, "", Some(&path));
            }
            self.use_key(text);
        } else if let Some(room) = self.model.rooms.first().cloned() {
            self.enter(room);
        }
    }

    fn use_key(&mut self, text: &str) {
        match Key::read(text) {
            Ok(Key::Code(code)) => self.pair(code),
            Ok(Key::Room(room)) => self.enter(store::add_room(room)),
            Ok(Key::Job(job)) => {
                let worker = job.worker.to_string();
                let (id, room) = (job.job.clone(), job.room.clone());
                store::put_job(&KnownJob {
                    job: job.to_string(),
                    name: id.to_string(),
                    worker,
                    since_ms: now_ms(),
                    is_sent: true,
                    ended: None,
                });
                self.enter(store::add_room(room));
                self.model.screen = Screen::Job(id);
            }
            Err(why) => self.model.refusal = Some(why),
        }
    }

    fn pair(&mut self, code: Code) {
        (self.model.is_pairing, self.model.refusal) = (true, None);
        let device = self.device.id();
        spawn_local(async move {
            send(Msg::Paired(Box::new(pairing::join(code, device).await)));
        });
    }

    fn paired(&mut self, paired: Result<Paired, String>) {
        self.model.is_pairing = false;
        match paired {
            Ok(Paired { grant, words }) => {
                let worker = grant.worker_name.clone();
                let room = store::add_grant(grant);
                let name = room.label().to_owned();
                self.enter(room);
                self.model.paired = Some(format!(
                    "Paired with room \"{name}\" (worker {worker}). Verify if you like: {words}"
                ));
            }
            Err(why) => self.model.refusal = Some(words::message(&why)),
        }
    }

    fn enter(&mut self, known: KnownRoom) {
        self.leave();
        let room = Room::new(known);
        spawn_local(room.clone().run(|news| send(Msg::Room(news))));
        let (link, workers) = (Link::Connecting, Vec::new());
        self.model = Model {
            rooms: store::rooms(),
            here: Some(Here { room, link, workers }),
            ..Model::default()
        };
    }

    fn leave(&mut self) {
        if let Some(here) = self.model.here.take() {
            here.room.leave();
        }
        // Their tasks end when nobody asks them any more.
        self.model.jobs.clear();
    }

    fn around(&self) -> Option<Surroundings> {
        let room = self.model.here.as_ref()?.room.clone();
        Some(Surroundings { room, device: self.device.clone(), engine: self.engine.clone() })
    }

    fn update(&mut self, message: Msg) {
        match message {
            Msg::Pasted(text) => self.use_key(&text),
            Msg::Paired(paired) => self.paired(*paired),
            Msg::Verified => self.model.paired = None,
            Msg::Enter(room) => self.enter(store::add_room(room.credential)),
            Msg::Forget(room) => {
                store::forget_room(&room);
                self.model.rooms = store::rooms();
            }
            Msg::Leave => {
                self.leave();
                self.model = Model { rooms: store::rooms(), ..Model::default() };
            }
            Msg::Room(news) => self.room_news(news),
            Msg::Show(screen) => {
                if let Screen::Job(id) = &screen {
                    self.wake(&id.clone());
                }
                self.model.screen = screen;
            }
            Msg::Given(file) => self.read(file),
            Msg::Opened(opened) => {
                if let Some(given) = &mut self.model.given {
                    given.state = match opened {
                        Ok((session, opened)) => GivenState::Ready(session, opened),
                        Err(why) => GivenState::Unusable(why),
                    };
                }
            }
            Msg::Choose(choice) => self.model.choice = choice,
            Msg::Submit => self.submit(),
            Msg::PutAway => self.model.given = None,
            Msg::Job(id, news) => self.job_news(&id, news),
            Msg::Ask(id, wish) => self.grant(&id, wish),
            Msg::Scale(scale) => self.model.scale = scale,
            Msg::Point(pointed) => self.model.pointed = pointed,
            Msg::Search(search) => self.model.search = search,
        }
    }

    fn room_news(&mut self, news: RoomNews) {
        let Some(here) = &mut self.model.here else { return };
        match news {
            RoomNews::Workers(workers) => {
                let is_first = here.link == Link::Connecting;
                (here.workers, here.link) = (workers, Link::Up);
                if is_first {
                    self.come_back();
                }
            }
            RoomNews::Lost => here.link = Link::Down,
            RoomNews::Refused(why) => {
                let room = here.room.known().id().clone();
                self.leave();
                store::forget_room(&room);
                let refusal = Some(format!("The server does not open this room: {why}"));
                self.model = Model { rooms: store::rooms(), refusal, ..Model::default() };
            }
        }
    }

    /// Goes on with the jobs that this browser knows of in this room.
    fn come_back(&mut self) {
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
    fn wake(&mut self, id: &JobId) {
        let Some(around) = self.around() else { return };
        let Some(state) = self.model.job_mut(id) else { return };
        let (Some(job), Some(asked)) = (state.known.job_ref(), state.asleep.take()) else { return };
        let (id, is_sent) = (id.clone(), state.known.is_sent);
        let of = id.clone();
        let tell = move |news| send(Msg::Job(of.clone(), news));
        let task = JobTask::known(around, job, asked, tell);
        spawn_local(async move {
            let package = if is_sent { None } else { files::find(&id).await };
            task.attach(package).await;
        });
    }

    fn read(&mut self, file: File) {
        let session = self.engine.session();
        self.model.given = Some(Given { file: file.clone(), state: GivenState::Reading });
        self.model.screen = Screen::Train;
        spawn_local(async move { send(Msg::Opened(opened(session, file).await)) });
    }

    fn submit(&mut self) {
        let Some(around) = self.around() else { return };
        let Some(Given { file, state: GivenState::Ready(package, opened) }) =
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
            is_sent: false,
            ended: None,
        };
        let id = task.id().clone();
        let state = JobState::new(id.clone(), known, commands);
        let state = JobState { package: Some(file), phase: Phase::Reading, ..state };
        self.model.jobs.insert(0, state);
        self.model.screen = Screen::Job(id);
        let choice = std::mem::replace(&mut self.model.choice, Choice::Automatic);
        spawn_local(task.submit(Draft { package, opened: *opened, choice }));
    }

    fn job_news(&mut self, id: &JobId, news: JobNews) {
        let Some(job) = self.model.job_mut(id) else { return };
        if let JobNews::Zip(zip) = &news {
            save(&self.document, zip.unchecked_ref(), &format!("{}-results.zip", job.known.name));
        }
        if job.take(news, now_ms()) {
            store::put_job(&job.known);
            let id = id.clone();
            match job.package.take() {
                Some(package) if !job.known.is_sent => {
                    job.package = Some(package.clone());
                    spawn_local(async move { files::keep(&id, &package).await });
                }
                _ => spawn_local(async move { files::forget(&id).await }),
            }
        }
    }

    fn grant(&mut self, id: &JobId, wish: Wish) {
        let document = self.document.clone();
        let Some(job) = self.model.job_mut(id) else { return };
        let command = match wish {
            Wish::Retry => Command::Retry,
            Wish::Wait => Command::Wait,
            Wish::Stop => Command::Stop,
            Wish::Cancel => Command::Cancel,
            Wish::Fetch => Command::Fetch,
            Wish::SaveZip => Command::Zip,
            Wish::ConfirmCancel(asks) => {
                job.asks_cancel = asks;
                return;
            }
            Wish::SaveFile(place) => {
                if let Some((file, blob)) =
                    job.results.iter().flat_map(|r| r.files.get(place)).next()
                {
                    save(&document, blob, file.path.rsplit('/').next().unwrap_or_default());
                }
                return;
            }
            Wish::Forget => {
                store::forget_job(id);
                let forgotten = id.clone();
                spawn_local(async move { files::forget(&forgotten).await });
                self.model.jobs.retain(|job| job.id != *id);
                self.model.screen = Screen::Workers;
                return;
            }
        };
        job.asks_cancel = false;
        // Its task lives as long as it is in the list.
        let _ = job.commands.unbounded_send(command);
    }
}

async fn opened(mut session: Session, file: File) -> Result<(Session, Box<Opened>), String> {
    let opened = session.open(&file).await.map_err(|error| error.to_string())?;
    Ok((session, opened))
}
