//! Lets checks and descriptions read the files of a listing.

use super::files::{Found, PackageFiles};
use super::listing::Listing;
use super::source::ReadSeek;
use sleap_rtc_protocol::path::RelPath;
use std::io::{self, Cursor, Read};

/// The longest labels in an archive that are unpacked to be read, in bytes. The content of longer
/// ones stays unknown.
const MAX_UNPACKED_BYTES: u64 = 512 << 20;

/// Unpacks a stream, so that it can be read at any position.
pub type Unpack = fn(Box<dyn Read + Send>) -> io::Result<Box<dyn ReadSeek>>;

/// The files of a listing.
pub struct PackageView<'a> {
    listing: &'a Listing,
    unpack: Unpack,
    sees: Box<dyn Fn(&str) -> bool + 'a>,
}

impl<'a> PackageView<'a> {
    /// A view of `listing`. `unpack` decides where compressed labels are unpacked.
    pub fn new(listing: &'a Listing, unpack: Unpack) -> Self {
        Self { listing, unpack, sees: Box::new(|_| false) }
    }

    /// The same view, where `sees` knows which files outside of the package the trainer can read.
    #[must_use]
    pub fn seeing(self, sees: impl Fn(&str) -> bool + 'a) -> Self {
        Self { sees: Box::new(sees), ..self }
    }
}

impl PackageFiles for PackageView<'_> {
    fn look(&self, path: &RelPath) -> Found {
        let below = format!("{path}/");
        match self.listing.find(path) {
            Some(_) => Found::File,
            None if self.listing.paths().any(|file| file.as_str().starts_with(&below)) => {
                Found::Folder
            }
            None => Found::Nothing,
        }
    }

    fn open(&self, path: &RelPath) -> Option<Box<dyn Read + Send>> {
        self.listing.read(path).ok()
    }

    fn names_in(&self, path: &RelPath) -> Vec<String> {
        let below = format!("{path}/");
        let names = self.listing.paths().filter_map(|file| file.as_str().strip_prefix(&below));
        names.filter(|name| !name.contains('/')).map(str::to_owned).collect()
    }

    fn open_at_random(&self, path: &RelPath) -> Option<Box<dyn ReadSeek>> {
        let member = self.listing.find(path)?;
        let unpacked = || {
            let reader = member.open().ok().filter(|_| member.size <= MAX_UNPACKED_BYTES)?;
            (self.unpack)(reader).ok()
        };
        member.open_in_place().or_else(unpacked)
    }

    fn total_bytes(&self) -> Option<u64> {
        Some(self.listing.announced_bytes())
    }

    fn sees(&self, file: &str) -> bool {
        (self.sees)(file)
    }
}

/// Unpacks into memory.
///
/// # Errors
///
/// Fails if `reader` fails.
pub fn unpack_in_memory(mut reader: Box<dyn Read + Send>) -> io::Result<Box<dyn ReadSeek>> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes)?;
    Ok(Box::new(Cursor::new(bytes)))
}
