//! Models of earlier trainings in a package's folder, which need not be sent.

use super::check::Checked;
use super::listing::Listing;
use super::script::{Model, Run};
use sleap_rtc_protocol::path::RelPath;
use std::collections::HashSet;

/// Leaves out results of earlier trainings in the package's folder, unless the package refers to
/// them. Returns their folders.
pub fn leave_out_results(listing: &mut Listing, checked: &Checked) -> Vec<String> {
    let named: Vec<String> = checked.runs.iter().flat_map(named_by).collect();
    let folder =
        |path: &RelPath| path.as_str().rsplit_once('/').map(|(folder, _)| folder.to_owned());
    let has = |folder: &str, ending: &str| {
        listing.paths().any(|path| {
            let name = path.as_str().strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
            name.is_some_and(|name| !name.contains('/') && name.ends_with(ending))
        })
    };
    let configs = listing.paths().filter(|path| path.file_name().starts_with("training_config."));
    let folders: HashSet<String> = configs.filter_map(folder).collect();
    let results: Vec<String> = folders
        .into_iter()
        .filter(|folder| has(folder, ".ckpt") || has(folder, ".h5"))
        .filter(|folder| !named.iter().any(|path| is_in(path, folder) || is_in(folder, path)))
        .collect();
    listing.keep(|path| !results.iter().any(|folder| is_in(path.as_str(), folder)));
    results
}

fn is_in(path: &str, folder: &str) -> bool {
    path == folder || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// The files in the package that a run refers to.
fn named_by(run: &Run) -> Vec<String> {
    match run {
        Run::Train(train) => {
            let values = train.settings.iter().flat_map(|setting| setting.value.texts());
            values.chain(train.files.iter().map(ToString::to_string)).collect()
        }
        Run::TrainLegacy(train) => {
            let files = train.files.iter().map(|(_, path)| path);
            files.chain([&train.labels.path]).map(ToString::to_string).collect()
        }
        Run::Track(track) => {
            let models = track.models.iter().filter_map(|model| match model {
                Model::Named(place) => Some(place.path.to_string()),
                Model::Made(_) => None,
            });
            let values = track.options.iter().filter_map(|option| option.value.clone());
            models.chain(values).chain([track.data.path.to_string()]).collect()
        }
    }
}
