//! Packages in memory, for the tests of several modules.

mod decoders;

use crate::{InMemory, Listing, Member, PackageView, Source, unpack_in_memory};
use sleap_rtc_protocol::path::RelPath;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// The files of a package.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryFiles(pub(crate) BTreeMap<String, Vec<u8>>);

/// A zip among the fixtures.
pub(crate) fn fixture(name: &str) -> Listing {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    let zip: Arc<dyn Source> = Arc::new(InMemory::new(std::fs::read(fixtures.join(name)).unwrap()));
    Listing::zip(&zip, Path::new(name)).unwrap()
}

impl MemoryFiles {
    pub(crate) fn of(listing: &Listing) -> Self {
        let read = |member: &Member| {
            let mut bytes = Vec::new();
            member.open().unwrap().read_to_end(&mut bytes).unwrap();
            (member.path.to_string(), bytes)
        };
        Self(listing.members().iter().map(read).collect())
    }

    pub(crate) fn text(&self, name: &str) -> String {
        String::from_utf8(self.0[name].clone()).unwrap()
    }

    pub(crate) fn listing(&self) -> Listing {
        let member = |(name, bytes): (&String, &Vec<u8>)| {
            Member::bytes(RelPath::new(name.as_str()).unwrap(), bytes.clone())
        };
        Listing::new(self.0.iter().map(member).collect(), Vec::new()).unwrap()
    }
}

pub(crate) fn view(listing: &Listing) -> PackageView<'_> {
    PackageView::new(listing, unpack_in_memory)
}

/// Reads each member of a zip piece by piece, from its end to its start.
#[test]
fn pieces_of_a_zip_can_be_read_in_any_order() {
    use crate::{PieceLocation, PieceReader, pieces};
    use std::sync::atomic::AtomicU64;

    let listing = fixture("train_topdown.zip");
    let read = AtomicU64::new(0);
    let manifest = listing.manifest(|member| member.cut(&read)).unwrap();
    assert_eq!(read.into_inner(), listing.announced_bytes());
    let files = MemoryFiles::of(&listing);
    let mut reader = PieceReader::new(&listing);
    for (member, file) in manifest.files().iter().enumerate().rev() {
        let content = &files.0[file.path.as_str()];
        let (mut offset, mut located) = (0, Vec::new());
        for piece in manifest.pieces(file) {
            located.push(PieceLocation { member, offset, piece });
            offset += u64::from(piece.bytes);
        }
        for location in located.iter().rev() {
            let bytes = reader.read(location, true).unwrap();
            assert_eq!(pieces::hash(&bytes), location.piece.blake3);
            assert!(content[location.offset as usize..].starts_with(&bytes));
        }
    }
}

/// Labels in a zip are read in place when they are stored, and unpacked when they are compressed.
#[test]
fn labels_in_a_zip_are_read_either_way() {
    use crate::{Labels, PackageFiles};
    use std::io::{Cursor, Write};
    use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

    let labels = &MemoryFiles::of(&fixture("train_single.zip")).0["one.pkg.slp"];
    let expected = Labels::read(Box::new(Cursor::new(labels.clone()))).unwrap();
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(method);
        writer.start_file("notes.txt", options).unwrap();
        writer.write_all(b"before the labels").unwrap();
        writer.start_file("one.pkg.slp", options).unwrap();
        writer.write_all(labels).unwrap();
        let bytes = writer.finish().unwrap().into_inner();
        let zip: Arc<dyn Source> = Arc::new(InMemory::new(bytes));
        let listing = Listing::zip(&zip, Path::new("p.zip")).unwrap();
        let path = RelPath::new("one.pkg.slp").unwrap();
        let in_place = listing.find(&path).unwrap().open_in_place();
        assert_eq!(in_place.is_some(), method == CompressionMethod::Stored);
        let read = view(&listing).open_at_random(&path).and_then(Labels::read);
        assert_eq!(read, Some(expected.clone()), "{method}");
    }
}
