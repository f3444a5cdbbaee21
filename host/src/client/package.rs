//! The user's package as the client sees it before anything is sent: what is in it, whether it can
//! be run at all, and what policies are told of it.

use super::ClientError;
use crate::config::ClientConfig;
use sleap_rtc_package::{CheckError, Checked, Found, PackageFiles, Site, check, describe};
use sleap_rtc_protocol::job::{JobDescription, JobType, Requirements};
use sleap_rtc_protocol::path::RelPath;
use sleap_rtc_protocol::transfer::FileEntry;
use sleap_rtc_transfer::{Hashes, Package, Part, PartSource};
use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Labels inside a zip are unpacked to be read if they are not larger than this; the frame count
/// of larger ones stays unknown.
const MAX_UNPACKED_BYTES: u64 = 512 << 20;
/// Where a tracking package's models are.
const MODELS: &str = "models";

/// A file that was written so short a time before it was hashed may have been written again since
/// without a sign of it: some file systems count in steps of two seconds.
const SETTLED: Duration = Duration::from_secs(2);

/// What this user's packages were hashed to before.
pub fn hashes(config: &ClientConfig) -> Hashes {
    config.hashes.as_deref().map_or_else(Hashes::none, |path| Hashes::open(path, SETTLED))
}

/// Opens the package of a training. Blocks: reads and hashes everything that `hashes` does not know.
pub fn open_training(path: &Path, hashes: &Hashes) -> Result<Package, ClientError> {
    let open = || {
        let package = Package::open(path, hashes).map_err(bad)?;
        checked(&package, JobType::Training)?;
        Ok(package)
    };
    open().map_err(|error: ClientError| match error {
        ClientError::Package(why) if !why.contains(&*path.to_string_lossy()) => {
            ClientError::Package(format!("{}: {why}", path.display()))
        }
        other => other,
    })
}

/// Puts the package of a tracking together: labels, models, and the script that says what to do.
/// `options` are further options of the tracker. Blocks.
pub fn build_tracking(
    data: &Path,
    models: &[PathBuf],
    output: &Path,
    options: &[String],
    hashes: &Hashes,
) -> Result<Package, ClientError> {
    let data_place = place(data, "labels.slp")?;
    let mut parts = vec![file(&data_place, data)];
    let mut words = vec!["sleap-nn".to_owned(), "track".into(), "--data_path".into()];
    words.push(data_place.to_string());
    let mut taken = HashMap::new();
    for model in models {
        let folder = model_folder(model)?;
        let below = model_place(folder, &mut taken)?;
        parts.extend(Part::folder(&below, folder).map_err(bad)?);
        words.extend(["--model_paths".to_owned(), below.to_string()]);
    }
    let result = place(output, "predictions.slp")?;
    if result == data_place {
        // The result must not be written over the labels it is made from.
        words.extend(["-o".to_owned(), format!("predictions/{result}")]);
    } else {
        words.extend(["-o".to_owned(), result.to_string()]);
    }
    words.extend(options.iter().cloned());
    let script = format!("#!/bin/bash\n{}\n", shell_words::join(words));
    let path = RelPath::new(JobType::Inference.script_name()).map_err(bad)?;
    parts.push(Part { path, source: PartSource::Bytes(script.into_bytes()) });
    let package = Package::from_parts(parts, hashes).map_err(bad)?;
    checked(&package, JobType::Inference)?;
    Ok(package)
}

fn bad(error: impl std::fmt::Display) -> ClientError {
    ClientError::Package(error.to_string())
}

/// What a file is called in the package: its own name, or `otherwise` where that would be refused,
/// since the user may call files as they like.
fn place(path: &Path, otherwise: &str) -> Result<RelPath, ClientError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.filter(|name| !name.starts_with('-') && !name.contains('$'));
    let own = name.and_then(|name| RelPath::new(name).ok());
    own.map_or_else(|| RelPath::new(otherwise).map_err(bad), Ok)
}

/// The folder of a trained model, which people also name by the checkpoint in it.
fn model_folder(model: &Path) -> Result<&Path, ClientError> {
    let parent = || model.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = if model.is_dir() { model } else { parent().unwrap_or(Path::new(".")) };
    let configs = ["training_config.yaml", "training_config.yml", "training_config.json"];
    if configs.iter().any(|config| folder.join(config).is_file()) {
        return Ok(folder);
    }
    let folder = folder.display();
    Err(ClientError::Package(format!(
        "{folder} is no trained model: there is no training_config.yaml in it"
    )))
}

fn file(place: &RelPath, path: &Path) -> Part {
    Part { path: place.clone(), source: PartSource::File(path.to_owned()) }
}

/// `models/NAME`; a second model of the same name gets a number.
fn model_place(model: &Path, taken: &mut HashMap<String, usize>) -> Result<RelPath, ClientError> {
    let whole = std::path::absolute(model).map_err(bad)?;
    let name = place(&whole, "model")?.to_string();
    let count = taken.entry(name.clone()).or_insert(0);
    *count += 1;
    let unique = if *count == 1 { name } else { format!("{name}-{count}") };
    RelPath::new(format!("{MODELS}/{unique}")).map_err(bad)
}

/// Finds out on the laptop what would otherwise fail on the worker, after the upload.
fn checked(package: &Package, job_type: JobType) -> Result<Checked, ClientError> {
    let view = View { package, scratch: tempfile::tempdir().ok() };
    check(&view, job_type, Site::default()).map_err(|error| match error {
        CheckError::NoScript(name) => ClientError::Package(format!(
            "there is no {name} in it; export it from SLEAP as a training job package"
        )),
        error => bad(error),
    })
}

/// What policies are told of `package`. Blocks.
pub fn described(
    package: &Package,
    job_type: JobType,
    requirements: Requirements,
    user: Option<String>,
) -> JobDescription {
    let view = View { package, scratch: tempfile::tempdir().ok() };
    JobDescription { requirements, user, ..describe(&view, job_type) }
}

/// A package as the description reads it.
struct View<'a> {
    package: &'a Package,
    scratch: Option<tempfile::TempDir>,
}

impl PackageFiles for View<'_> {
    fn look(&self, path: &RelPath) -> Found {
        let below = format!("{path}/");
        let is_below = |file: &FileEntry| file.path.as_str().starts_with(&below);
        match self.package.contains(path) {
            true => Found::File,
            false if self.package.manifest().files().iter().any(is_below) => Found::Folder,
            false => Found::Nothing,
        }
    }

    fn open(&self, path: &RelPath) -> Option<Box<dyn Read + Send>> {
        self.package.read(path).ok()
    }

    fn names_in(&self, path: &RelPath) -> Vec<String> {
        let below = format!("{path}/");
        let files = self.package.manifest().files().iter();
        let names = files.filter_map(|file| file.path.as_str().strip_prefix(&below));
        names.filter(|name| !name.contains('/')).map(str::to_owned).collect()
    }

    fn on_disk(&self, path: &RelPath) -> Option<PathBuf> {
        if let Some(file) = self.package.file_path(path) {
            return Some(file.to_owned());
        }
        let files = self.package.manifest().files();
        let size = files.iter().find(|file| file.path == *path)?.size;
        if size > MAX_UNPACKED_BYTES {
            return None;
        }
        let to = self.scratch.as_ref()?.path().join(path.file_name());
        let mut from = self.package.read(path).ok()?;
        std::io::copy(&mut from, &mut std::fs::File::create(&to).ok()?).ok()?;
        Some(to)
    }

    fn total_bytes(&self) -> Option<u64> {
        Some(self.package.manifest().total_bytes())
    }

    fn sees(&self, _: &str) -> bool {
        false
    }
}
