//! A prediction that the user puts together: labels or a video, and models.

use super::parcel::{Item, Parcel, Recipe, last_part};
use sleap_rtc_package::prediction::{is_labels, model_files};
use sleap_rtc_protocol::ids::JobId;
use std::path::Path;

/// A prediction, as far as it is put together.
#[derive(Debug, Default)]
pub struct PredictionForm {
    /// Labels or a video, and the files beside them.
    pub data: Vec<Item>,
    /// The models.
    pub models: Vec<GivenModel>,
    /// Whether instances are linked from frame to frame.
    pub is_tracking: bool,
    /// The job whose models are on their way here.
    pub awaited: Option<JobId>,
    /// Why the last files cannot be used.
    pub problem: Option<String>,
}

/// A model.
#[derive(Debug)]
pub struct GivenModel {
    /// The name of its folder.
    pub name: String,
    /// The files in that folder.
    pub files: Vec<Item>,
}

/// A change of the form.
pub enum FormStep {
    /// Files, and what is in folders, were given. The text says why they were not.
    Add(Result<Vec<Item>, String>),
    /// Without this model.
    Remove(usize),
    /// With the models that this job has made.
    TakeFrom(JobId),
    /// Whether to link instances.
    Link(bool),
    /// Show what is in it.
    Review,
}

impl PredictionForm {
    /// Adds models from folders, and replaces the data by other files.
    pub fn add(&mut self, given: Result<Vec<Item>, String>) {
        self.problem = None;
        let items = match given {
            Ok(items) => items,
            Err(why) => {
                self.problem = Some(why);
                return;
            }
        };
        let (mut data, folders) = Item::by_folder(items);
        if !data.is_empty() {
            // Videos may lie beside their labels.
            data.sort_by_key(|item| !is_labels(Path::new(&item.path)));
            self.data = data;
        }
        self.add_models(folders);
    }

    fn add_models(&mut self, folders: Vec<(String, Vec<Item>)>) {
        let mut problem = None;
        let known = self.models.len();
        for (folder, files) in folders {
            let names = files.iter().map(|item| item.name().to_owned()).collect();
            match model_files(&folder, names) {
                Ok(_) => {
                    let name = last_part(&folder).to_owned();
                    self.models.push(GivenModel { name, files });
                }
                Err(why) => problem = problem.or(Some(why.to_string())),
            }
        }
        if self.models.len() == known {
            self.problem = problem;
        }
    }

    /// What it is made of, once nothing is missing.
    pub fn parcel(&self) -> Option<Parcel> {
        if self.data.is_empty() || self.models.is_empty() {
            return None;
        }
        let mut items = self.data.clone();
        for (place, model) in self.models.iter().enumerate() {
            let moved = |item: &Item| {
                // Two models may have the same name.
                let path = format!("{place}/{}/{}", model.name, item.name());
                Item { path, content: item.content.clone() }
            };
            items.extend(model.files.iter().map(moved));
        }
        let options = self.is_tracking.then(|| "--tracking".to_owned()).into_iter().collect();
        Some(Parcel { recipe: Recipe::Prediction { options }, items })
    }
}
