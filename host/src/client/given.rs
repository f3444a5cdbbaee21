//! What somebody gave instead of a training package, and what to give instead of it.

use sleap_rtc_package::is_hdf5;
use sleap_rtc_transfer::Listing;
use std::fs::File;
use std::io::Read;
use std::path::Path;

const EXPORT: &str = "in SLEAP choose Predict > Run Training… > Export Training Job Package, and give \
     what that makes";

/// What the file at `path` is, if it cannot be a package.
pub(super) fn explain_file(path: &Path) -> Option<String> {
    let file = File::open(path).ok()?;
    if !file.metadata().is_ok_and(|there| there.is_file()) {
        return None;
    }
    if is_hdf5(&file) {
        return Some(format!(
            "it is a SLEAP labels file (HDF5), not a training job package: {EXPORT}"
        ));
    }
    let mut start = Vec::new();
    File::open(path).ok()?.take(4096).read_to_end(&mut start).ok()?;
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    match (start.as_slice(), ending.as_deref()) {
        ([], _) => Some(format!("it is empty (0 bytes): {EXPORT}")),
        ([b'P', b'K', ..], _) => None,
        (_, Some("yaml" | "yml" | "json")) => Some(format!(
            "it is one config (YAML or JSON), and a package has labels and a script too: {EXPORT}"
        )),
        ([b'7', b'z', 0xBC, 0xAF, ..], _) => {
            Some("it is a 7-Zip archive: give the unpacked folder, or a zip".to_owned())
        }
        ([b'R', b'a', b'r', b'!', ..], _) => {
            Some("it is a RAR archive: give the unpacked folder, or a zip".to_owned())
        }
        ([0xFD, b'7', b'z', b'X', b'Z', ..], _) => {
            Some("it is packed with XZ: give the unpacked folder, or a zip or .tar.gz".to_owned())
        }
        (text, _) if is_text(text) => Some(format!("it is a text file, not a package: {EXPORT}")),
        _ => None,
    }
}

fn is_text(start: &[u8]) -> bool {
    start.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..))
}

/// What a list of files without a script is.
pub(super) fn explain_files(listing: &Listing) -> String {
    let names: Vec<&str> = listing.paths().map(|path| path.as_str()).collect();
    let ending = |ending: &str| names.iter().find(|name| name.to_lowercase().ends_with(ending));
    let is_model = |name: &&&str| name.rsplit('/').next() == Some("training_config.yaml");
    let what = if let Some(inner) = ending(".zip") {
        format!("it holds another zip, {inner}: give that one")
    } else if names.iter().any(|name| is_model(&name)) && ending(".ckpt").is_some() {
        "it is the folder of a trained model: `sleap-rtc client-track --model-paths` takes it, and \
         training takes a package"
            .to_owned()
    } else if ending(".yaml").or_else(|| ending(".json")).is_some() {
        format!("it holds configs, but nothing that says how to train them: {EXPORT}")
    } else {
        format!("it is no training job package: {EXPORT}")
    };
    format!("there is no train-script.sh in it; {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_called_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("given.bin");
        for (bytes, expected) in [
            (&b""[..], Some("0 bytes")),
            (b"\x89HDF\r\n\x1a\n...", Some("labels file")),
            (b"hello\n", Some("text file")),
            (b"7z\xBC\xAF\x27\x1C", Some("7-Zip")),
            (b"PK\x03\x04", None),
            (b"\x1F\x8B\x08\x00", None),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let said = explain_file(&path);
            assert_eq!(said.is_some(), expected.is_some(), "{said:?}");
            assert!(said.unwrap_or_default().contains(expected.unwrap_or_default()));
        }
        let yaml = folder.path().join("a.yaml");
        std::fs::write(&yaml, "a: 1\n").unwrap();
        assert!(explain_file(&yaml).unwrap().contains("one config"));
        std::fs::write(folder.path().join("job.zip"), "PK").unwrap();
        let said = explain_files(&Listing::package(folder.path()).unwrap());
        assert!(said.contains("another zip, job.zip"), "{said}");
    }
}
