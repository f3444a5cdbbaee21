//! The names of files in a package.

use sleap_rtc_protocol::path::{PathError, RelPath};
use unicode_normalization::UnicodeNormalization;

/// `name` as a path with composed letters, as scripts and configurations write them. Parts that mean the
/// same folder (`.`) are left out.
///
/// # Errors
///
/// Fails for names that leave the package, or that some system does not accept.
pub fn composed(name: &str) -> Result<RelPath, PathError> {
    let parts: Vec<&str> = name.split('/').filter(|part| *part != ".").collect();
    RelPath::new(parts.join("/").nfc().collect::<String>())
}

/// Whether a file is metadata that an operating system adds to archives and folders.
pub fn is_os_junk(name: &str) -> bool {
    name.split('/').any(|part| part == "__MACOSX" || part == ".DS_Store")
}
