//! Saves what the page has as a file.

use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Blob, Document, HtmlAnchorElement, Url};

/// Has the browser save `content` under this name, wherever it saves downloads.
pub fn save(document: &Document, content: &Blob, name: &str) {
    // A browser that does not let this page save anything says so itself.
    let _ = try_to_save(document, content, name);
}

fn try_to_save(document: &Document, content: &Blob, name: &str) -> Result<(), JsValue> {
    let url = Url::create_object_url_with_blob(content)?;
    let link: HtmlAnchorElement = document.create_element("a")?.unchecked_into();
    link.set_href(&url);
    link.set_download(name);
    link.click();
    // The browser has taken the content by then.
    Url::revoke_object_url(&url)
}
