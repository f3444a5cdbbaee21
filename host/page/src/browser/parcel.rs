//! What a job is made of, as the user has given it: files of this browser, and what to make of them.

use js_sys::{Array, Reflect};
use serde::{Deserialize, Serialize};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Blob, File, FileList};

/// What to make of files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recipe {
    /// A job from the only one, a zipped package.
    Zip,
    /// A job from the folder of a package.
    Folder,
    /// A prediction. The first file is labels or a video, and those in folders are models.
    Prediction {
        /// Options of the tracker.
        options: Vec<String>,
    },
}

/// A file at its place among the others.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its path: its name alone, if it was given by itself.
    pub path: String,
    /// What is in it.
    pub content: Blob,
}

/// Files, and what to make of them.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// What to make of them.
    pub recipe: Recipe,
    /// The files.
    pub items: Vec<Item>,
}

impl Item {
    /// A file that was chosen: at its place in the folder, if that was.
    pub fn chosen(file: File) -> Self {
        let below = Reflect::get(&file, &"webkitRelativePath".into());
        let below = below.ok().and_then(|path| path.as_string()).filter(|path| !path.is_empty());
        Self { path: below.unwrap_or_else(|| file.name()), content: file.into() }
    }

    /// All that were chosen.
    pub fn all(files: &FileList) -> Vec<Self> {
        (0..files.length()).filter_map(|place| files.get(place)).map(Self::chosen).collect()
    }

    /// Its name, without the folders.
    pub fn name(&self) -> &str {
        last_part(&self.path)
    }

    /// The folder that it is in, if any.
    fn folder(&self) -> Option<&str> {
        self.path.rsplit_once('/').map(|(folder, _)| folder)
    }

    /// Those outside of folders, and each folder with its own, in the order in which they are given.
    pub fn by_folder(items: Vec<Self>) -> (Vec<Self>, Vec<(String, Vec<Self>)>) {
        let (mut alone, mut folders) = (Vec::new(), Vec::<(String, Vec<Self>)>::new());
        for item in items {
            let Some(folder) = item.folder() else {
                alone.push(item);
                continue;
            };
            match folders.iter_mut().find(|(known, _)| known == folder) {
                Some((_, files)) => files.push(item),
                None => folders.push((folder.to_owned(), vec![item])),
            }
        }
        (alone, folders)
    }
}

/// The name at the end of a path.
pub fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

impl Parcel {
    /// A package: a zip, or all files of a folder.
    pub fn package(items: Vec<Item>) -> Self {
        let recipe = match &items[..] {
            [only] if only.folder().is_none() => Recipe::Zip,
            _ => Recipe::Folder,
        };
        Self { recipe, items }
    }

    /// What the user calls it: the zip, the folder, or the data.
    pub fn name(&self) -> &str {
        let path = self.items.first().map_or("", |item| &item.path);
        match self.recipe {
            Recipe::Folder => path.split('/').next().unwrap_or_default(),
            Recipe::Zip | Recipe::Prediction { .. } => path,
        }
    }

    /// As the browser keeps it, or passes it to another thread.
    pub fn to_js(&self) -> JsValue {
        let recipe = serde_json::to_string(&self.recipe).unwrap_or_default();
        let item = |item: &Item| Array::of2(&item.path.as_str().into(), &item.content);
        let items: Array = self.items.iter().map(item).collect();
        Array::of2(&recipe.into(), &items).into()
    }

    /// What the browser has kept. `None` if it is something else.
    pub fn from_js(kept: &JsValue) -> Option<Self> {
        let kept: &Array = kept.dyn_ref()?;
        let recipe = serde_json::from_str(&kept.get(0).as_string()?).ok()?;
        let item = |item: JsValue| {
            let item: &Array = item.dyn_ref()?;
            let (path, content) = (item.get(0).as_string()?, item.get(1).dyn_into().ok()?);
            Some(Item { path, content })
        };
        let items: Array = kept.get(1).dyn_into().ok()?;
        Some(Self { recipe, items: items.iter().map(item).collect::<Option<_>>()? })
    }
}
