//! The engine's side: answers one request after another.

use super::messages::{Reply, Request};
use super::packages::GivenPackage;
use super::results::ArrivingResult;
use crate::browser::database::Database;
use crate::browser::parcel::Parcel;
use js_sys::{Array, ArrayBuffer, Uint8Array};
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_protocol::transfer::BlobHash;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::spawn_local;
use web_sys::{Blob, DedicatedWorkerGlobalScope, MessageEvent};

/// What a session is about.
enum Subject {
    Package(Box<GivenPackage>),
    Result(Box<Download>),
}

/// A result, and where its pieces are kept.
struct Download {
    job: JobId,
    result: ArrivingResult,
    /// Open as long as the download. `None` where the browser keeps nothing.
    database: Option<Rc<Database>>,
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
    let server = Rc::new(Server { scope: scope.clone(), subjects: RefCell::default() });
    let answering = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
        server.answer(&event.data());
    });
    scope.set_onmessage(Some(answering.as_ref().unchecked_ref()));
    // It lives as long as the thread does.
    answering.forget();
    scope.post_message(&"ready".into())
}

impl Server {
    fn answer(self: &Rc<Self>, message: &JsValue) {
        let Some(parts) = message.dyn_ref::<Array>() else { return };
        let (id, text) = (parts.get(0).as_f64(), parts.get(1).as_string());
        let request = text.and_then(|text| serde_json::from_str(&text).ok());
        let (Some(id), Some(request)) = (id, request) else { return };
        let id = id as u32;
        if let Err(text) = self.handle(id, request, parts.get(2)) {
            self.say(id, &Reply::Failed(text));
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

    fn handle(self: &Rc<Self>, id: u32, request: Request, with: JsValue) -> Done {
        match request {
            Request::Open => self.open(id, &with),
            Request::Hash => self.with_package(id, |package| {
                let read = |bytes| self.say(id, &Reply::HashedBytes(bytes));
                let lists = package.hash(read).map_err(|error| error.to_string())?;
                self.say(id, &Reply::Lists(lists));
                Ok(())
            }),
            Request::Read(piece) => self.with_package(id, |package| {
                let messages = package.messages(piece).map_err(|error| error.to_string())?;
                let buffer = Uint8Array::from(&messages[..]).buffer();
                self.reply(id, &Reply::Piece, &buffer, &Array::of1(&buffer));
                Ok(())
            }),
            Request::Receive(job) => {
                self.receive(id, job);
                Ok(())
            }
            Request::List(frame) => self.with_result(id, |download| {
                let listed = download.result.list(frame).map_err(|fault| fault.to_string())?;
                let Some(total_bytes) = listed else { return Ok(()) };
                self.say(id, &Reply::Listed { total_bytes });
                self.go_on(id, &mut download.result)
            }),
            Request::Chunk => self.with_result(id, |download| {
                let bytes = Uint8Array::new(with.unchecked_ref::<ArrayBuffer>()).to_vec();
                let arrived = download.result.chunk(&bytes).map_err(|fault| fault.to_string())?;
                if let Some(piece) = arrived {
                    self.say(id, &Reply::Verified(download.result.verified_bytes()));
                    self.keep(id, download, piece);
                }
                Ok(())
            }),
            Request::Zip => self.with_result(id, |download| {
                let zip = download.result.zip().map_err(|fault| fault.to_string())?;
                self.reply(id, &Reply::Zipped, &zip, &Array::new());
                Ok(())
            }),
            Request::Close => {
                self.subjects.borrow_mut().remove(&id);
                Ok(())
            }
        }
    }

    fn open(&self, id: u32, parcel: &JsValue) -> Done {
        let parcel = Parcel::from_js(parcel).ok_or("no file was given")?;
        let (package, opened) = GivenPackage::open(parcel).map_err(|fault| fault.to_string())?;
        self.subjects.borrow_mut().insert(id, Subject::Package(Box::new(package)));
        self.say(id, &Reply::Opened(Box::new(opened)));
        Ok(())
    }

    /// Begins with a result, once it is known what the browser has of it.
    fn receive(self: &Rc<Self>, id: u32, job: JobId) {
        let server = self.clone();
        spawn_local(async move {
            let database = Database::open().await.ok().map(Rc::new);
            let kept = match &database {
                Some(database) => database.find_pieces(&job).await,
                None => HashMap::new(),
            };
            let download = Download { job, result: ArrivingResult::new(kept), database };
            server.subjects.borrow_mut().insert(id, Subject::Result(Box::new(download)));
            server.say(id, &Reply::Receiving);
        });
    }

    /// Moves a piece from the memory to the disk.
    fn keep(self: &Rc<Self>, id: u32, download: &Download, (piece, content): (BlobHash, Blob)) {
        let (server, job) = (self.clone(), download.job.clone());
        let database = download.database.clone();
        spawn_local(async move {
            // Where the browser keeps nothing, it stays in the memory.
            let on_disk = match database {
                Some(database) => database.keep_piece(&job, piece, &content).await.ok(),
                None => None,
            };
            drop(content);
            let done = server.with_result(id, |download| {
                download.result.has_left(piece, on_disk);
                server.go_on(id, &mut download.result)
            });
            if let Err(text) = done {
                server.say(id, &Reply::Failed(text));
            }
        });
    }

    /// Requests what may come next, or says that all is there.
    fn go_on(&self, id: u32, result: &mut ArrivingResult) -> Done {
        if !result.is_complete() {
            let wants = result.next_wants();
            if !wants.is_empty() {
                self.say(id, &Reply::Want(wants));
            }
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

    fn with_result(&self, id: u32, work: impl FnOnce(&mut Download) -> Done) -> Done {
        match self.subjects.borrow_mut().get_mut(&id) {
            Some(Subject::Result(download)) => work(download),
            Some(Subject::Package(_)) => Err("these files are a package, not a result".into()),
            // Nobody waits for it any more.
            None => Ok(()),
        }
    }
}
