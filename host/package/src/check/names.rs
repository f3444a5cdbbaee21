//! Gives the result of each run a name of its own.

use crate::script::{Run, stem};
use sleap_rtc_protocol::path::RelPath;
use std::collections::HashSet;

/// Makes the names of results unique: a later run with the same name also gets its config's name, or a
/// number.
pub(crate) fn separate(runs: &mut [Run]) {
    // Some file systems ignore case.
    let mut taken = HashSet::new();
    let mut free = |name: &str| taken.insert(name.to_lowercase());
    for run in runs {
        match run {
            Run::Train(train) => {
                let stem = stem(&train.config.path);
                let wanted = train.run_name.clone().unwrap_or_else(|| stem.to_owned());
                let with_stem = (wanted != stem).then(|| format!("{wanted}.{stem}"));
                let numbered = (2..).map(|number| format!("{wanted}-{number}"));
                let mut names = [wanted.clone()].into_iter().chain(with_stem).chain(numbered);
                train.run_name = names.find(|name| free(name));
            }
            Run::TrainLegacy(train) => {
                let wanted =
                    train.run_name.clone().unwrap_or_else(|| stem(&train.config.path).into());
                let numbered = (2..).map(|number| format!("{wanted}-{number}"));
                train.run_name = [wanted.clone()].into_iter().chain(numbered).find(|n| free(n));
            }
            Run::Track(track) => {
                let (path, name) = (track.output.as_str(), track.output.file_name());
                let folder = &path[..path.len() - name.len()];
                let (start, end) =
                    name.split_at(name.find('.').filter(|at| *at > 0).unwrap_or(name.len()));
                let numbered = (2..).map(|number| format!("{start}-{number}{end}"));
                let mut names = [name.to_owned()].into_iter().chain(numbered);
                let name = names.find(|name| free(name));
                if let Some(Ok(output)) = name.map(|name| RelPath::new(format!("{folder}{name}"))) {
                    track.output = output;
                }
            }
        }
    }
}
