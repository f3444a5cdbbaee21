//! Files and folders that are dropped on the page.

use super::parcel::Item;
use js_sys::{Array, Promise};
use sleap_rtc_package::names::is_os_junk;
use sleap_rtc_protocol::transfer::MAX_FILES;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    DataTransfer, DragEvent, Event, File, FileSystemDirectoryEntry, FileSystemEntry,
    FileSystemFileEntry,
};

/// What an event has dropped. The browser shows it only while the event is handled.
pub fn entries(event: &Event) -> Vec<FileSystemEntry> {
    let Some(dropped) = event.dyn_ref::<DragEvent>().and_then(DragEvent::data_transfer) else {
        return Vec::new();
    };
    listed(&dropped)
}

fn listed(dropped: &DataTransfer) -> Vec<FileSystemEntry> {
    let list = dropped.items();
    let items = (0..list.length()).filter_map(|place| list.get(place));
    items.filter_map(|item| item.webkit_get_as_entry().ok().flatten()).collect()
}

/// All files of `entries`, and of the folders among them.
///
/// # Errors
/// The browser cannot read a folder, or there are too many files.
pub async fn files(entries: Vec<FileSystemEntry>) -> Result<Vec<Item>, String> {
    let unreadable = |error: JsValue| format!("the browser cannot read the folder: {error:?}");
    let (mut waiting, mut items) = (entries, Vec::new());
    while let Some(entry) = waiting.pop() {
        let path = entry.full_path().trim_start_matches('/').to_owned();
        if is_os_junk(&path) {
            continue;
        }
        // Browsers do not agree on the classes of entries.
        if entry.is_directory() {
            waiting.extend(in_folder(entry.unchecked_ref()).await.map_err(unreadable)?);
        } else {
            let content = file_of(entry.unchecked_ref()).await.map_err(unreadable)?;
            items.push(Item { path, content: content.into() });
        }
        if items.len() + waiting.len() > MAX_FILES {
            return Err(format!("the folder has more than {MAX_FILES} files"));
        }
    }
    items.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(items)
}

async fn in_folder(folder: &FileSystemDirectoryEntry) -> Result<Vec<FileSystemEntry>, JsValue> {
    let reader = folder.create_reader();
    let mut found = Vec::new();
    // A browser gives some at a time, and none at the end.
    loop {
        let reading = Promise::new(&mut |resolve, reject| {
            if let Err(error) = reader.read_entries_with_callback_and_callback(&resolve, &reject) {
                let _ = reject.call1(&JsValue::NULL, &error);
            }
        });
        let some: Array = JsFuture::from(reading).await?.dyn_into()?;
        if some.length() == 0 || found.len() > MAX_FILES {
            return Ok(found);
        }
        found.extend(some.iter().map(JsCast::unchecked_into::<FileSystemEntry>));
    }
}

async fn file_of(entry: &FileSystemFileEntry) -> Result<File, JsValue> {
    let reading = Promise::new(&mut |resolve, reject| {
        entry.file_with_callback_and_callback(&resolve, &reject);
    });
    JsFuture::from(reading).await?.dyn_into()
}
