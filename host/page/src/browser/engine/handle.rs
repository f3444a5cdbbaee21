//! The page's side of the engine.

use super::messages::{Opened, Reply, Request};
use crate::browser::parcel::Parcel;
use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures_util::StreamExt;
use js_sys::Array;
use sleap_rtc_protocol::ids::JobId;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Event, MessageEvent, Worker, WorkerOptions, WorkerType};

/// The engine cannot do it. The text is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EngineError(pub String);

type Answer = (Reply, JsValue);

/// The engine. Clones are the same.
#[derive(Clone)]
pub struct Engine(Rc<EngineInner>);

struct EngineInner {
    script: String,
    running: RefCell<Option<EngineThread>>,
    sessions: RefCell<HashMap<u32, UnboundedSender<Answer>>>,
    last: Cell<u32>,
}

struct EngineThread {
    worker: Worker,
    is_ready: bool,
    waiting: Vec<(Array, Array)>,
    _message: Closure<dyn FnMut(MessageEvent)>,
    _error: Closure<dyn FnMut(Event)>,
}

/// A package or a result, at the engine.
pub struct Session {
    engine: Engine,
    id: u32,
    answers: UnboundedReceiver<Answer>,
}

impl Engine {
    /// The engine of this script, which starts when it is needed.
    pub fn new(script: &str) -> Self {
        Self(Rc::new(EngineInner {
            script: script.to_owned(),
            running: RefCell::default(),
            sessions: RefCell::default(),
            last: Cell::new(0),
        }))
    }

    /// Begins something.
    pub fn session(&self) -> Session {
        let id = self.0.last.get() + 1;
        self.0.last.set(id);
        let (sender, answers) = unbounded();
        self.0.sessions.borrow_mut().insert(id, sender);
        Session { engine: self.clone(), id, answers }
    }

    fn send(&self, id: u32, request: &Request, with: &JsValue, moved: bool) -> Result<(), JsValue> {
        let text = serde_json::to_string(request).map_err(|error| error.to_string())?;
        let message = Array::of3(&id.into(), &text.into(), with);
        let transfer = if moved { Array::of1(with) } else { Array::new() };
        if self.0.running.borrow().is_none() {
            let started = self.start()?;
            self.0.running.replace(Some(started));
        }
        match &mut *self.0.running.borrow_mut() {
            Some(running) if running.is_ready => {
                running.worker.post_message_with_transfer(&message, &transfer)
            }
            Some(running) => {
                running.waiting.push((message, transfer));
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn start(&self) -> Result<EngineThread, JsValue> {
        let options = WorkerOptions::new();
        options.set_type(WorkerType::Module);
        let worker = Worker::new_with_options(&self.0.script, &options)?;
        let engine = self.clone();
        let message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            engine.take(&event.data());
        });
        let engine = self.clone();
        let error = Closure::<dyn FnMut(Event)>::new(move |_| engine.fail());
        worker.set_onmessage(Some(message.as_ref().unchecked_ref()));
        worker.set_onerror(Some(error.as_ref().unchecked_ref()));
        let (is_ready, waiting) = (false, Vec::new());
        Ok(EngineThread { worker, is_ready, waiting, _message: message, _error: error })
    }

    /// Takes a message of the engine. The first one says that it is ready.
    fn take(&self, message: &JsValue) {
        let Some(parts) = message.dyn_ref::<Array>() else { return self.begin() };
        let (id, text) = (parts.get(0).as_f64(), parts.get(1).as_string());
        let reply = text.and_then(|text| serde_json::from_str(&text).ok());
        if let (Some(id), Some(reply)) = (id, reply)
            && let Some(session) = self.0.sessions.borrow().get(&(id as u32))
        {
            // A session that is gone needs no answer.
            let _ = session.unbounded_send((reply, parts.get(2)));
        }
    }

    fn begin(&self) {
        if let Some(running) = &mut *self.0.running.borrow_mut() {
            running.is_ready = true;
            for (message, transfer) in running.waiting.drain(..) {
                let _ = running.worker.post_message_with_transfer(&message, &transfer);
            }
        }
    }

    /// The engine has stopped, which only a file that makes no sense can cause. The next session starts
    /// another one.
    fn fail(&self) {
        if let Some(running) = self.0.running.borrow().as_ref() {
            running.worker.terminate();
        }
        let text = "this file cannot be read: it is damaged, or no package of SLEAP";
        for session in self.0.sessions.borrow().values() {
            let _ = session.unbounded_send((Reply::Failed(text.into()), JsValue::NULL));
        }
        // The closure that runs at the moment belongs to it.
        let engine = self.clone();
        wasm_bindgen_futures::spawn_local(async move {
            engine.0.running.replace(None);
        });
    }
}

impl Session {
    /// Asks for something, with `with` along. An array buffer is `moved`, and cannot be used any more.
    ///
    /// # Errors
    /// The engine cannot be started.
    pub fn ask(&self, request: &Request, with: &JsValue, moved: bool) -> Result<(), EngineError> {
        let sent = self.engine.send(self.id, request, with, moved);
        sent.map_err(|error| EngineError(format!("the browser cannot start the engine: {error:?}")))
    }

    /// Opens what was given.
    ///
    /// # Errors
    /// It is no package, or no worker could run it.
    pub async fn open(&mut self, parcel: &Parcel) -> Result<Box<Opened>, EngineError> {
        self.ask(&Request::Open, &parcel.to_js(), false)?;
        match self.answer().await? {
            (Reply::Opened(opened), _) => Ok(opened),
            _ => Err(EngineError("the engine says something else".into())),
        }
    }

    /// Begins with the result of `job`, or goes on with what the browser has of it.
    ///
    /// # Errors
    /// The engine cannot be started.
    pub async fn receive(&mut self, job: &JobId) -> Result<(), EngineError> {
        self.ask(&Request::Receive(job.clone()), &JsValue::NULL, false)?;
        self.answer().await.map(drop)
    }

    /// The next answer. Cancel safe.
    ///
    /// # Errors
    /// The engine says why it cannot do it.
    pub async fn answer(&mut self) -> Result<(Reply, JsValue), EngineError> {
        match self.answers.next().await {
            Some((Reply::Failed(text), _)) => Err(EngineError(text)),
            Some(answer) => Ok(answer),
            None => Err(EngineError("the engine has stopped".into())),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.engine.0.sessions.borrow_mut().remove(&self.id);
        let _ = self.ask(&Request::Close, &JsValue::NULL, false);
    }
}
