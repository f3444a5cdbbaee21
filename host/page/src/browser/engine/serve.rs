//! The engine's side: answers one request after another.

use super::messages::{Reply, Request};
use super::packages::GivenPackage;
use super::results::ArrivingResult;
use js_sys::{Array, ArrayBuffer, Uint8Array};
use std::cell::RefCell;
use std::collections::HashMap;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{DedicatedWorkerGlobalScope, File, MessageEvent};

/// What a session is about.
enum Subject {
    Package(Box<GivenPackage>),
    Result(Box<ArrivingResult>),
}

struct Server {
    scope: DedicatedWorkerGlobalScope,
    subjects: RefCell<HashMap<u32, Subject>>,
}

/// What goes wrong is told to the page as a text.
type Done = Result<(), String>;

/// Serves until the page ends this thread.
pub fn serve() -> Result<(), JsValue> {
    let scope: DedicatedWorkerGlobalScope = js_sys::global().dyn_into()?;
    let server = Server { scope: scope.clone(), subjects: RefCell::default() };
    let answering = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
        server.answer(&event.data());
    });
    scope.set_onmessage(Some(answering.as_ref().unchecked_ref()));
    // It lives as long as the thread does.
    answering.forget();
    scope.post_message(&"ready".into())
}

impl Server {
    fn answer(&self, message: &JsValue) {
        let Some(parts) = message.dyn_ref::<Array>() else { return };
        let (id, text) = (parts.get(0).as_f64(), parts.get(1).as_string());
        let request = text.and_then(|text| serde_json::from_str(&text).ok());
        let (Some(id), Some(request)) = (id, request) else { return };
        let id = id as u32;
        if let Err(text) = self.handle(id, request, parts.get(2)) {
            self.reply(id, &Reply::Failed(text), &JsValue::NULL, &Array::new());
        }
    }

    fn reply(&self, id: u32, reply: &Reply, with: &JsValue, moved: &Array) {
        let text = serde_json::to_string(reply).unwrap_or_default();
        let message = Array::of3(&id.into(), &text.into(), with);
        // The page is gone if this does not work.
        let _ = self.scope.post_message_with_transfer(&message, moved);
    }

    fn say(&self, id: u32, reply: &Reply) {
        self.reply(id, reply, &JsValue::NULL, &Array::new());
    }

    fn handle(&self, id: u32, request: Request, with: JsValue) -> Done {
        match request {
            Request::Open => self.open(id, with),
            Request::Hash => self.with_package(id, |package| {
                let read = |bytes| self.say(id, &Reply::HashedBytes(bytes));
                let lists = package.hash(read).map_err(|error| error.to_string())?;
                self.say(id, &Reply::Lists(lists));
                Ok(())
            }),
            Request::Read(piece) => self.with_package(id, |package| {
                let bytes = package.read(piece).map_err(|error| error.to_string())?;
                let buffer = Uint8Array::from(&bytes[..]).buffer();
                self.reply(id, &Reply::Piece(piece), &buffer, &Array::of1(&buffer));
                Ok(())
            }),
            Request::List(frame) => self.with_result(id, |result| {
                let listed = result.list(frame).map_err(|fault| fault.to_string())?;
                if let Some((frames, total_bytes)) = listed {
                    self.say(id, &Reply::Wanted { frames, total_bytes });
                    self.tell_if_complete(id, result)?;
                }
                Ok(())
            }),
            Request::Chunk => self.with_result(id, |result| {
                let bytes = Uint8Array::new(with.unchecked_ref::<ArrayBuffer>()).to_vec();
                if result.chunk(&bytes).map_err(|fault| fault.to_string())? {
                    self.say(id, &Reply::Verified(result.verified_bytes()));
                    self.tell_if_complete(id, result)?;
                }
                Ok(())
            }),
            Request::Zip => self.with_result(id, |result| {
                let zip = result.zip().map_err(|fault| fault.to_string())?;
                self.reply(id, &Reply::Zipped, &zip, &Array::new());
                Ok(())
            }),
            Request::Close => {
                self.subjects.borrow_mut().remove(&id);
                Ok(())
            }
        }
    }

    fn open(&self, id: u32, file: JsValue) -> Done {
        let file: File = file.dyn_into().map_err(|_| "no file was given")?;
        let (package, opened) = GivenPackage::open(file).map_err(|fault| fault.to_string())?;
        self.subjects.borrow_mut().insert(id, Subject::Package(Box::new(package)));
        self.say(id, &Reply::Opened(Box::new(opened)));
        Ok(())
    }

    fn tell_if_complete(&self, id: u32, result: &ArrivingResult) -> Done {
        if !result.is_complete() {
            return Ok(());
        }
        let contents = Array::new();
        let mut files = Vec::new();
        for (file, blob) in result.files().map_err(|fault| fault.to_string())? {
            files.push(file);
            contents.push(&blob);
        }
        self.reply(id, &Reply::Complete(files), &contents, &Array::new());
        Ok(())
    }

    fn with_package(&self, id: u32, work: impl FnOnce(&mut GivenPackage) -> Done) -> Done {
        match self.subjects.borrow_mut().get_mut(&id) {
            Some(Subject::Package(package)) => work(package),
            _ => Err("the package is not open any more; choose it again".into()),
        }
    }

    fn with_result(&self, id: u32, work: impl FnOnce(&mut ArrivingResult) -> Done) -> Done {
        let mut subjects = self.subjects.borrow_mut();
        let new = || Subject::Result(Box::default());
        match subjects.entry(id).or_insert_with(new) {
            Subject::Result(result) => work(result),
            Subject::Package(_) => Err("this is no result".into()),
        }
    }
}
