//! The page: takes messages, changes what it knows, and shows it.
//!
//! | module | contents |
//! |---|---|
//! | `given` | what the user gives |
//! | `jobs` | the jobs of the room |

mod given;
mod jobs;

use super::clock::now_ms;
use super::dom::Mounted;
use super::engine::Engine;
use super::job::Surroundings;
use super::key::Key;
use super::message::{Msg, Screen, receive, send};
use super::model::{GivenState, Here, Link, Model};
use super::pairing::{self, Paired};
use super::room::{Room, RoomNews};
use super::store::{self, KnownJob, KnownRoom};
use super::{database, random, view};
use crate::words;
use sleap_rtc_protocol::ids::RoomId;
use sleap_rtc_trust::device::DeviceKey;
use sleap_rtc_trust::pairing::Code;
use std::cell::RefCell;
use std::rc::Rc;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::spawn_local;
use web_sys::{Document, HtmlElement, Window};

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
    watch_address(&app.borrow().window)?;
    let known: Vec<_> = store::jobs().iter().filter_map(KnownJob::job_ref).collect();
    spawn_local(async move {
        let known: Vec<_> = known.into_iter().map(|job| job.job).collect();
        database::keep_only(&known).await;
    });
    Ok(())
}

/// A link that is opened in a page that is open already changes only its address.
fn watch_address(window: &Window) -> Result<(), JsValue> {
    let changed = Closure::<dyn FnMut()>::new(|| send(Msg::Linked));
    let function = changed.as_ref().unchecked_ref();
    window.add_event_listener_with_callback("hashchange", function)?;
    // It lives as long as the page does.
    changed.forget();
    Ok(())
}

/// Forgets the jobs of a room: their strings open it.
fn forget_jobs(room: &RoomId) {
    let jobs: Vec<_> = store::jobs().iter().filter_map(KnownJob::job_ref).collect();
    let jobs: Vec<_> = jobs.into_iter().filter(|job| job.room.room_id == *room).collect();
    jobs.iter().for_each(|job| store::forget_job(&job.job));
    spawn_local(async move {
        for job in jobs {
            database::forget(&job.job).await;
        }
    });
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
        let had_focus = self.has_focus();
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
        if drawn.is_err() && self.shown.take().is_some() {
            // The document is not as it was left: an extension may have changed it. Begin anew.
            return self.draw();
        }
        if had_focus && !self.has_focus() {
            self.focus_main();
        }
    }

    /// Whether something has the focus: then the user is at the keyboard, or types.
    fn has_focus(&self) -> bool {
        let active = self.document.active_element();
        active.is_some_and(|active| Some(&active) != self.document.body().as_deref())
    }

    /// What had the focus is gone, with the button that was pressed. The keyboard goes on at what has come.
    fn focus_main(&self) {
        let main = self.document.get_element_by_id(view::MAIN);
        if let Some(main) = main.and_then(|main| main.dyn_into::<HtmlElement>().ok()) {
            // It may not be shown any more.
            let _ = main.focus();
        }
    }

    /// Opens what the link is for, or the last room.
    fn open(&mut self) {
        if !self.open_link()
            && let Some(room) = self.model.rooms.first().cloned()
        {
            self.enter(room);
        }
    }

    /// Opens what the address is for. Returns whether it was for something.
    fn open_link(&mut self) -> bool {
        let location = self.window.location();
        let fragment = location.hash().unwrap_or_default();
        let Some(text) = fragment.strip_prefix('#').filter(|text| !text.is_empty()) else {
            return false;
        };
        // The secret does not stay in the address, from where it would be copied.
        if let (Ok(history), Ok(path)) = (self.window.history(), location.pathname()) {
            let _ = history.replace_state_with_url(&JsValue::NULL, "", Some(&path));
        }
        self.use_key(text);
        true
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
                    is_prediction: false,
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
            Msg::Linked => {
                self.open_link();
            }
            Msg::Paired(paired) => self.paired(*paired),
            Msg::Verified => self.model.paired = None,
            Msg::Enter(room) => self.enter(store::add_room(room.credential)),
            Msg::Forget(room) => {
                store::forget_room(&room);
                self.model.rooms = store::rooms();
                forget_jobs(&room);
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
            Msg::Given(given) => self.given(given),
            Msg::Form(step) => self.form(step),
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
            Msg::Ask(id, action) => self.grant(&id, action),
            Msg::Scale(scale) => self.model.scale = scale,
            Msg::Point(pointed) => self.model.pointed = pointed,
            Msg::Search(search) => self.model.search = search,
            Msg::ShowAllLines(all) => self.model.shows_all_lines = all,
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
}
