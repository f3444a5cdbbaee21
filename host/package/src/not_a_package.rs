//! Recognizes other files that users give instead of a training package.

use super::labels::is_hdf5;
use super::listing::Listing;
use std::io::Read;
use std::path::Path;

/// The offset of the magic number of a tar.
const TAR_MAGIC_AT: usize = 257;
/// What a trainer leaves in the folder of each model.
const MODEL_CONFIG: &str = "training_config.yaml";
/// How many folders an error lists.
const LISTED_FOLDERS: usize = 3;
/// How much of a file's start shows what it is, in bytes.
pub const START_BYTES: u64 = 8 * 1024;

/// The kind of file or folder that was given, and what to give instead.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAPackage {
    /// A labels file.
    #[error("it is a SLEAP labels file (HDF5), not a training job package: {EXPORT}")]
    Labels,
    /// A file without content.
    #[error("it is empty (0 bytes): {EXPORT}")]
    EmptyFile,
    /// The configuration of a training.
    #[error(
        "it is a config file (YAML or JSON), and a package also has labels and a script: {EXPORT}"
    )]
    Config,
    /// A text file.
    #[error("it is a text file, not a package: {EXPORT}")]
    Text,
    /// An archive of another format.
    #[error("it is {format}: give {instead}")]
    OtherArchive {
        /// The format.
        format: &'static str,
        /// What to give instead.
        instead: &'static str,
    },
    /// An archive that contains another one.
    #[error("there is no train-script.sh in it; it holds another zip, {0}: give that one")]
    NestedZip(String),
    /// Packages in folders of it.
    #[error(
        "there is no train-script.sh at its top, but in {}: give that folder alone",
        listed(.0)
    )]
    Below(Vec<String>),
    /// The folder of a model.
    #[error(
        "there is no train-script.sh in it; it is the folder of a trained model: `sleap-rtc \
         client-track --model-paths` takes it, and training takes a package"
    )]
    TrainedModel,
    /// A folder of models.
    #[error(
        "there is no train-script.sh in it; it holds trained models: `sleap-rtc client-track \
         --model-paths` takes each of them, and training takes a package"
    )]
    TrainedModels,
    /// Configurations alone.
    #[error(
        "there is no train-script.sh in it; it contains config files, but nothing that says how to \
         train them: {EXPORT}"
    )]
    ConfigsOnly,
    /// Other files.
    #[error("there is no train-script.sh in it; it is not a training job package: {EXPORT}")]
    NoScript,
}

const EXPORT: &str = "in SLEAP choose Predict > Run Training… > Export Training Job Package, and give \
     the file that it writes";
const FOLDER_OR_ZIP: &str = "the unpacked folder, or a zip";

/// The kind of the file called `path`, which begins with `start`, if it cannot be a package.
pub fn recognize_start(start: &[u8], path: &Path) -> Option<NotAPackage> {
    let is_archive = start.starts_with(b"PK") || is_tar(start);
    // Where an archive holds labels, they may be where a labels file begins, too.
    if !is_archive && is_hdf5(start) {
        return Some(NotAPackage::Labels);
    }
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    let archive = |format, instead| Some(NotAPackage::OtherArchive { format, instead });
    match (start, extension.as_deref()) {
        ([], _) => Some(NotAPackage::EmptyFile),
        _ if is_archive => None,
        (_, Some("yaml" | "yml" | "json")) => Some(NotAPackage::Config),
        ([b'7', b'z', 0xBC, 0xAF, ..], _) => archive("a 7-Zip archive", FOLDER_OR_ZIP),
        ([b'R', b'a', b'r', b'!', ..], _) => archive("a RAR archive", FOLDER_OR_ZIP),
        ([0xFD, b'7', b'z', b'X', b'Z', ..], _) => {
            archive("packed with XZ", "the unpacked folder, or a zip or .tar.gz")
        }
        (text, _) if is_text(text) => Some(NotAPackage::Text),
        _ => None,
    }
}

/// Whether a file that begins like this is a tar without compression.
pub fn is_tar(start: &[u8]) -> bool {
    start.get(TAR_MAGIC_AT..).is_some_and(|rest| rest.starts_with(b"ustar"))
}

fn is_text(start: &[u8]) -> bool {
    start.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..))
}

/// The kind of a list of files without a script.
pub fn recognize_files(listing: &Listing) -> NotAPackage {
    let names: Vec<&str> = listing.paths().map(|path| path.as_str()).collect();
    let ending = |ending: &str| names.iter().find(|name| name.to_lowercase().ends_with(ending));
    let is_model = |name: &&&str| name.rsplit('/').next() == Some(MODEL_CONFIG);
    let script = "/train-script.sh";
    let below: Vec<String> =
        names.iter().filter_map(|name| name.strip_suffix(script)).map(str::to_owned).collect();
    if !below.is_empty() {
        NotAPackage::Below(below)
    } else if let Some(inner) = ending(".zip") {
        NotAPackage::NestedZip((*inner).to_owned())
    } else if names.iter().any(|name| is_model(&name)) && ending(".ckpt").is_some() {
        match names.contains(&MODEL_CONFIG) {
            true => NotAPackage::TrainedModel,
            false => NotAPackage::TrainedModels,
        }
    } else if ending(".yaml").or_else(|| ending(".json")).is_some() {
        NotAPackage::ConfigsOnly
    } else {
        NotAPackage::NoScript
    }
}

fn listed(folders: &[String]) -> String {
    let first = folders.iter().take(LISTED_FOLDERS).map(String::as_str).collect::<Vec<_>>();
    match folders.len().saturating_sub(LISTED_FOLDERS) {
        0 => first.join(" and "),
        more => format!("{} and {more} more folders", first.join(", ")),
    }
}

/// How a file begins with which Git LFS stands for one elsewhere.
const PLACEHOLDER: &[u8] = b"version https://git-lfs";

/// What a file with this content is if it holds nothing, as a full disk, a cloud folder and Git LFS leave it.
pub fn hollow(file: impl Read) -> Option<&'static str> {
    let mut start = Vec::new();
    file.take(PLACEHOLDER.len() as u64).read_to_end(&mut start).ok()?;
    match start.as_slice() {
        [] => Some("empty (0 bytes)"),
        PLACEHOLDER => Some("what Git LFS leaves in the place of a file"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::Member;
    use sleap_rtc_protocol::path::RelPath;

    #[test]
    fn common_mistakes_are_recognized() {
        for (bytes, expected) in [
            (&b""[..], Some("0 bytes")),
            (b"\x89HDF\r\n\x1a\n...", Some("labels file")),
            (b"hello\n", Some("text file")),
            (b"7z\xBC\xAF\x27\x1C", Some("7-Zip")),
            (b"PK\x03\x04", None),
            (b"\x1F\x8B\x08\x00", None),
        ] {
            let text = recognize_start(bytes, Path::new("given.bin")).map(|what| what.to_string());
            assert_eq!(text.is_some(), expected.is_some(), "{text:?}");
            assert!(text.unwrap_or_default().contains(expected.unwrap_or_default()));
        }
        assert_eq!(recognize_start(b"a: 1\n", Path::new("a.yaml")), Some(NotAPackage::Config));
        let inner = Member::bytes(RelPath::new("job.zip").unwrap(), b"PK".to_vec());
        let listing = Listing::new(vec![inner], Vec::new()).unwrap();
        assert_eq!(recognize_files(&listing), NotAPackage::NestedZip("job.zip".into()));
        let script = |path| Member::bytes(RelPath::new(path).unwrap(), b"x".to_vec());
        let two = vec![script("a/train-script.sh"), script("b/train-script.sh")];
        let message = recognize_files(&Listing::new(two, Vec::new()).unwrap()).to_string();
        assert!(message.ends_with("but in a and b: give that folder alone"), "{message}");
    }

    #[test]
    fn one_model_is_told_from_a_folder_of_models() {
        let recognized = |folder: &str| {
            let files = ["training_config.yaml", "best.ckpt"];
            let path = |name| RelPath::new(format!("{folder}{name}")).unwrap();
            let members = files.map(|name| Member::bytes(path(name), b"x".to_vec()));
            recognize_files(&Listing::new(members.to_vec(), Vec::new()).unwrap())
        };
        assert_eq!(recognized(""), NotAPackage::TrainedModel);
        assert_eq!(recognized("centroid/"), NotAPackage::TrainedModels);
    }

    #[test]
    fn archives_are_not_taken_for_the_labels_in_them() {
        let mut tar = vec![0; 600];
        tar[257..262].copy_from_slice(b"ustar");
        tar[512..520].copy_from_slice(b"\x89HDF\r\n\x1a\n");
        assert!(is_hdf5(&*tar));
        assert_eq!(recognize_start(&tar, Path::new("job.tar")), None);
    }
}
