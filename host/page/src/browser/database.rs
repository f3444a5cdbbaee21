//! What the browser keeps on its disk (IndexedDB): what jobs are made of until it has been sent, and the
//! verified pieces of results. A piece that is kept takes no memory.

use super::parcel::Parcel;
use js_sys::{Array, Promise, Reflect};
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_protocol::transfer::BlobHash;
use std::collections::HashMap;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    Blob, IdbDatabase, IdbFactory, IdbKeyRange, IdbObjectStore, IdbRequest, IdbTransactionMode,
};

const DATABASE: &str = "sleap-rtc";
const VERSION: u32 = 2;
/// By job.
const PACKAGES: &str = "packages";
/// By job and hash, with a slash between them.
const PIECES: &str = "pieces";

/// Keeps the package of a job.
pub async fn keep_package(job: &JobId, package: &Parcel) {
    // A browser that keeps nothing can still send it now.
    let _ =
        change(PACKAGES, |store| store.put_with_key(&package.to_js(), &job.as_str().into())).await;
}

/// Forgets the package of a job.
pub async fn forget_package(job: &JobId) {
    let _ = change(PACKAGES, |store| store.delete(&job.as_str().into())).await;
}

/// The package of a job, if it was kept.
pub async fn find_package(job: &JobId) -> Option<Parcel> {
    let found = read(PACKAGES, |store| store.get(&job.as_str().into())).await;
    Parcel::from_js(&found.ok()?)
}

/// Forgets everything about a job.
pub async fn forget(job: &JobId) {
    forget_package(job).await;
    if let Ok(range) = pieces_of(job) {
        let _ = change(PIECES, |store| store.delete(&range)).await;
    }
}

/// Forgets everything about other jobs than these.
pub async fn keep_only(jobs: &[JobId]) {
    for name in [PACKAGES, PIECES] {
        let Ok(keys) = read(name, IdbObjectStore::get_all_keys).await else { return };
        let keys = keys.dyn_into::<Array>().unwrap_or_default();
        for key in keys.iter().filter_map(|key| key.as_string()) {
            let job = key.split('/').next().unwrap_or_default();
            if !jobs.iter().any(|known| known.as_str() == job) {
                let _ = change(name, |store| store.delete(&key.as_str().into())).await;
            }
        }
    }
}

fn pieces_of(job: &JobId) -> Result<IdbKeyRange, JsValue> {
    // A zero comes after a slash.
    IdbKeyRange::bound(&format!("{job}/").into(), &format!("{job}0").into())
}

async fn change(
    store: &str,
    ask: impl FnOnce(&IdbObjectStore) -> Result<IdbRequest, JsValue>,
) -> Result<JsValue, JsValue> {
    ask_for(store, IdbTransactionMode::Readwrite, ask).await
}

async fn read(
    store: &str,
    ask: impl FnOnce(&IdbObjectStore) -> Result<IdbRequest, JsValue>,
) -> Result<JsValue, JsValue> {
    ask_for(store, IdbTransactionMode::Readonly, ask).await
}

async fn ask_for(
    store: &str,
    mode: IdbTransactionMode,
    ask: impl FnOnce(&IdbObjectStore) -> Result<IdbRequest, JsValue>,
) -> Result<JsValue, JsValue> {
    Database::open().await?.ask(store, mode, ask).await
}

/// The open database. It closes when this is dropped.
pub struct Database(IdbDatabase);

impl Database {
    /// Opens it.
    ///
    /// # Errors
    /// The browser keeps nothing.
    pub async fn open() -> Result<Self, JsValue> {
        // The page's and the engine's thread each have their own.
        let factory: IdbFactory =
            Reflect::get(&js_sys::global(), &"indexedDB".into())?.dyn_into()?;
        let request = factory.open_with_u32(DATABASE, VERSION)?;
        let opening = request.clone();
        let make = Closure::once_into_js(move || {
            if let Ok(database) = opening.result().map(JsCast::unchecked_into::<IdbDatabase>) {
                for store in [PACKAGES, PIECES] {
                    // It is there already, or the request fails.
                    let _ = database.create_object_store(store);
                }
            }
        });
        request.set_onupgradeneeded(Some(make.unchecked_ref()));
        let database: IdbDatabase = finished(&request).await?.unchecked_into();
        // A later version of the page, in another tab, must not wait for a download of this one. What cannot
        // be kept any more stays in the memory.
        let closing = database.clone();
        let close = Closure::once_into_js(move || closing.close());
        database.set_onversionchange(Some(close.unchecked_ref()));
        Ok(Self(database))
    }

    /// Keeps a piece of a job's result. Returns it as it lies on the disk.
    ///
    /// # Errors
    /// The browser keeps no more.
    pub async fn keep_piece(
        &self,
        job: &JobId,
        piece: BlobHash,
        content: &Blob,
    ) -> Result<Blob, JsValue> {
        let key: JsValue = format!("{job}/{piece}").into();
        let put = |store: &IdbObjectStore| store.put_with_key(content, &key);
        self.ask(PIECES, IdbTransactionMode::Readwrite, put).await?;
        self.ask(PIECES, IdbTransactionMode::Readonly, |store| store.get(&key)).await?.dyn_into()
    }

    /// The pieces of a job's result that were kept.
    pub async fn find_pieces(&self, job: &JobId) -> HashMap<BlobHash, Blob> {
        let found = async {
            let (range, mode) = (pieces_of(job)?, IdbTransactionMode::Readonly);
            let keys = self.ask(PIECES, mode, |store| store.get_all_keys_with_key(&range)).await?;
            let contents = self.ask(PIECES, mode, |store| store.get_all_with_key(&range)).await?;
            let (keys, contents) = (keys.dyn_into::<Array>()?, contents.dyn_into::<Array>()?);
            let piece = |(key, content): (JsValue, JsValue)| {
                let key = key.as_string()?;
                let hash = key.split_once('/')?.1.to_owned().try_into().ok()?;
                Some((hash, content.dyn_into().ok()?))
            };
            Ok::<_, JsValue>(keys.iter().zip(contents.iter()).filter_map(piece).collect())
        };
        found.await.unwrap_or_default()
    }

    async fn ask(
        &self,
        store: &str,
        mode: IdbTransactionMode,
        ask: impl FnOnce(&IdbObjectStore) -> Result<IdbRequest, JsValue>,
    ) -> Result<JsValue, JsValue> {
        let transaction = self.0.transaction_with_str_and_mode(store, mode)?;
        let request = ask(&transaction.object_store(store)?)?;
        finished(&request).await
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What a request gives.
async fn finished(request: &IdbRequest) -> Result<JsValue, JsValue> {
    let waiting = Promise::new(&mut |resolve, reject| {
        request.set_onsuccess(Some(&resolve));
        request.set_onerror(Some(&reject));
    });
    JsFuture::from(waiting).await?;
    request.result()
}
