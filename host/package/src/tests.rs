//! What the tests of several modules need.

use std::path::Path;

/// A fixture, unpacked.
pub(crate) fn unpacked(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    let file = std::fs::File::open(fixtures.join(name)).unwrap();
    zip::ZipArchive::new(file).unwrap().extract(folder.path()).unwrap();
    folder
}
