//! Saves what the page has as a file.

use js_sys::{Function, Object, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    Blob, Document, FileSystemDirectoryHandle, FileSystemFileHandle, FileSystemGetDirectoryOptions,
    FileSystemGetFileOptions, FileSystemWritableFileStream, HtmlAnchorElement, Url,
};

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

/// What lets the user choose a folder, in browsers that have it.
fn folder_picker() -> Option<Function> {
    Reflect::get(&web_sys::window()?.into(), &"showDirectoryPicker".into()).ok()?.dyn_into().ok()
}

/// Whether this browser saves into folders.
pub fn can_save_into_folders() -> bool {
    folder_picker().is_some()
}

/// Saves `files` by their paths into a new folder `name`, in one that the user chooses. Returns the name
/// of that one, or nothing if the user chooses none.
///
/// # Errors
/// The browser cannot write there.
pub async fn save_into_folder(
    name: &str,
    files: Vec<(String, Blob)>,
) -> Result<Option<String>, JsValue> {
    let Some(pick) = folder_picker() else { return Ok(None) };
    let wanted = Object::new();
    Reflect::set(&wanted, &"mode".into(), &"readwrite".into())?;
    let picking: Promise = pick.call1(&JsValue::UNDEFINED, &wanted)?.dyn_into()?;
    let Ok(picked) = JsFuture::from(picking).await else { return Ok(None) };
    let picked: FileSystemDirectoryHandle = picked.dyn_into()?;
    let top = folder_in(&picked, name).await?;
    for (path, content) in files {
        let (mut folder, mut rest) = (top.clone(), path.as_str());
        while let Some((name, below)) = rest.split_once('/') {
            folder = folder_in(&folder, name).await?;
            rest = below;
        }
        write(&folder, rest, &content).await?;
    }
    Ok(Some(picked.name()))
}

async fn folder_in(
    folder: &FileSystemDirectoryHandle,
    name: &str,
) -> Result<FileSystemDirectoryHandle, JsValue> {
    let options = FileSystemGetDirectoryOptions::new();
    options.set_create(true);
    JsFuture::from(folder.get_directory_handle_with_options(name, &options)).await?.dyn_into()
}

async fn write(
    folder: &FileSystemDirectoryHandle,
    name: &str,
    content: &Blob,
) -> Result<(), JsValue> {
    let options = FileSystemGetFileOptions::new();
    options.set_create(true);
    let file = JsFuture::from(folder.get_file_handle_with_options(name, &options)).await?;
    let file: FileSystemFileHandle = file.dyn_into()?;
    let stream: FileSystemWritableFileStream =
        JsFuture::from(file.create_writable()).await?.dyn_into()?;
    JsFuture::from(stream.write_with_blob(content)?).await?;
    JsFuture::from(stream.close()).await?;
    Ok(())
}
