//! Packages on their way, kept by the browser (IndexedDB), so that an upload goes on after a reload.

use js_sys::Promise;
use sleap_rtc_protocol::ids::JobId;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{File, IdbDatabase, IdbObjectStore, IdbRequest, IdbTransactionMode};

const DATABASE: &str = "sleap-rtc";
const STORE: &str = "packages";

/// Keeps the package of a job.
pub async fn keep(job: &JobId, file: &File) {
    // A browser that keeps nothing can still send it now.
    let _ = try_to(IdbTransactionMode::Readwrite, |store| {
        store.put_with_key(file, &job.as_str().into())
    })
    .await;
}

/// Forgets the package of a job.
pub async fn forget(job: &JobId) {
    let _ = try_to(IdbTransactionMode::Readwrite, |store| store.delete(&job.as_str().into())).await;
}

/// The package of a job, if it was kept.
pub async fn find(job: &JobId) -> Option<File> {
    let found = try_to(IdbTransactionMode::Readonly, |store| store.get(&job.as_str().into()));
    found.await.ok()?.dyn_into().ok()
}

async fn try_to(
    mode: IdbTransactionMode,
    ask: impl FnOnce(&IdbObjectStore) -> Result<IdbRequest, JsValue>,
) -> Result<JsValue, JsValue> {
    let database = open().await?;
    let transaction = database.transaction_with_str_and_mode(STORE, mode)?;
    let request = ask(&transaction.object_store(STORE)?)?;
    let done = finished(&request).await;
    database.close();
    done
}

async fn open() -> Result<IdbDatabase, JsValue> {
    let window = web_sys::window().ok_or(JsValue::NULL)?;
    let factory = window.indexed_db()?.ok_or("this browser keeps nothing")?;
    let request = factory.open_with_u32(DATABASE, 1)?;
    let opening = request.clone();
    let make = Closure::once_into_js(move || {
        if let Ok(database) = opening.result().map(JsCast::unchecked_into::<IdbDatabase>) {
            // It is there already, or the request fails.
            let _ = database.create_object_store(STORE);
        }
    });
    request.set_onupgradeneeded(Some(make.unchecked_ref()));
    Ok(finished(&request).await?.unchecked_into())
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
