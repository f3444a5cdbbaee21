//! Which files and folders are packages.

use super::super::testing::{fixture, listing, package, pair, rel, write};
use super::super::{
    Hashes, Limits, Package, Part, PartSource, add_tree, copy_tree, pack, pack_package, receive,
    send, unpack,
};
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_package::ArchiveError;
use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::Path;

const FIXTURES: [&str; 3] = ["train_single.zip", "train_topdown.zip", "track_topdown.zip"];

fn contents(package: &Package) -> BTreeMap<String, Vec<u8>> {
    let files = package.manifest().files().iter();
    files
        .map(|file| (file.path.to_string(), package.read_small(&file.path, 1 << 20).unwrap()))
        .collect()
}

#[tokio::test]
async fn sleaps_own_packages_arrive_flat_whichever_way_they_are_laid_out() {
    let limits = Limits::default();
    for name in FIXTURES {
        let work = tempfile::tempdir().unwrap();
        let (flat, top) = (work.path().join("flat"), work.path().join("top"));
        unpack(&fixture(name), &flat, &Limits::default()).unwrap();
        unpack(&fixture(name), &top.join("labels.pkg"), &Limits::default()).unwrap();
        write(&top.join("__MACOSX/labels.pkg/._x"), b"litter", false);
        write(&top.join("labels.pkg/.DS_Store"), b"litter", false);
        write(&top.join("notes.txt"), b"beside the job's folder", false);
        pack(&top, &work.path().join("top.zip")).unwrap();
        let from_zip = contents(&Package::open(&fixture(name), &Hashes::none()).unwrap());
        assert!(from_zip.len() >= 5);
        for layout in [&flat, &top, &work.path().join("top.zip")] {
            let package = Package::open(layout, &Hashes::none()).unwrap();
            assert_eq!(contents(&package), from_zip, "{name} as {}", layout.display());
            let to = work.path().join("arrived");
            let (mut here, mut there) = pair();
            let (sent, received) = tokio::join!(
                send(&mut here, &package, &limits, |_| {}),
                receive(&mut there, &to, &limits, |_| {}),
            );
            sent.unwrap();
            received.unwrap();
            let arrived = listing(&to);
            assert!(arrived.iter().all(|(name, (bytes, _))| from_zip[name] == *bytes));
            assert_eq!(arrived.len(), from_zip.len());
            std::fs::remove_dir_all(&to).unwrap();
        }
    }
}

#[test]
fn results_keep_their_only_folder() {
    let work = tempfile::tempdir().unwrap();
    let results = work.path().join("results");
    write(&results.join("run.n=1/best.ckpt"), b"weights", false);
    write(&results.join("run.n=1/training_log.csv"), b"a,b\n", false);
    let zip = work.path().join("result.zip");
    pack(&results, &zip).unwrap();
    let first = std::fs::read(&zip).unwrap();
    pack(&results, &zip).unwrap();
    assert_eq!(std::fs::read(&zip).unwrap(), first, "the same files give the same zip");
    unpack(&zip, &work.path().join("back"), &Limits::results()).unwrap();
    assert_eq!(listing(&work.path().join("back")), listing(&results));
    copy_tree(&results, &work.path().join("copy")).unwrap();
    copy_tree(&results, &work.path().join("copy")).unwrap();
    assert_eq!(listing(&work.path().join("copy")), listing(&results));
}

#[test]
fn results_are_added_and_replace_nothing() {
    let work = tempfile::tempdir().unwrap();
    let [results, other, shared] =
        ["results", "other", "shared"].map(|name| work.path().join(name));
    write(&results.join("run/best.ckpt"), b"weights", false);
    write(&results.join("run/log.csv"), b"a,b\n", true);
    add_tree(&results, &shared).unwrap();
    // Repeated, as after an interruption.
    std::fs::remove_file(shared.join("run/log.csv")).unwrap();
    add_tree(&results, &shared).unwrap();
    assert_eq!(listing(&shared), listing(&results));
    write(&other.join("run/best.ckpt"), b"WEIGHTS", false);
    let error = add_tree(&other, &shared).unwrap_err().to_string();
    assert!(error.contains("best.ckpt") && error.contains("another file"), "{error}");
    assert_eq!(listing(&shared), listing(&results));
    // A link is not followed either.
    std::fs::remove_file(shared.join("run/best.ckpt")).unwrap();
    symlink(results.join("run/best.ckpt"), shared.join("run/best.ckpt")).unwrap();
    assert!(add_tree(&results, &shared).is_err());
}

#[test]
fn parts_of_different_origin_make_a_package() {
    let work = tempfile::tempdir().unwrap();
    write(&work.path().join("data/labels.slp"), b"labels", false);
    symlink("data/labels.slp", work.path().join("link.slp")).unwrap();
    write(&work.path().join("m/centroid/best.ckpt"), b"weights", false);
    write(&work.path().join("m/centroid/sub/config.yaml"), b"yaml", false);
    let file = |path: &str, source| Part { path: rel(path), source };
    let mut parts = Part::folder(&rel("models/centroid"), &work.path().join("m/centroid")).unwrap();
    parts.push(file("labels.slp", PartSource::File(work.path().join("link.slp"))));
    parts.push(file("track-script.sh", PartSource::Bytes(b"sleap-nn track".to_vec())));
    let package = Package::from_parts(parts.clone(), &Hashes::none()).unwrap();
    let names: Vec<_> = contents(&package).into_keys().collect();
    let expected = [
        "labels.slp",
        "models/centroid/best.ckpt",
        "models/centroid/sub/config.yaml",
        "track-script.sh",
    ];
    assert_eq!(names, expected);
    let zip = work.path().join("p.zip");
    let instead = (rel("track-script.sh"), b"another".to_vec());
    pack_package(&package, "p", &instead, &zip).unwrap();
    let archive = zip::ZipArchive::new(std::fs::File::open(&zip).unwrap()).unwrap();
    assert!(archive.file_names().all(|name| name.unwrap().starts_with("p/")));
    let zipped = Package::open(&zip, &Hashes::none()).unwrap();
    let mut wanted = contents(&package);
    wanted.insert("track-script.sh".into(), b"another".to_vec());
    assert_eq!(contents(&zipped), wanted);

    parts.push(file("LABELS.slp", PartSource::Bytes(Vec::new())));
    assert!(matches!(Package::from_parts(parts, &Hashes::none()), Err(ArchiveError::Manifest(_))));
    let folder = file("x", PartSource::File(work.path().to_owned()));
    assert!(matches!(
        Package::from_parts(vec![folder], &Hashes::none()),
        Err(ArchiveError::Entry { .. })
    ));
}

#[test]
fn only_small_files_are_read_at_once() {
    let package = package(&[("script.sh", b"12345")]);
    assert_eq!(package.read_small(&rel("script.sh"), 5).unwrap(), b"12345");
    let error = package.read_small(&rel("script.sh"), 4).unwrap_err();
    assert!(matches!(error, ArchiveError::TooLong { size: 5, .. }));
    assert!(package.contains(&rel("script.sh")) && !package.contains(&rel("script")));
    assert!(matches!(package.read(&rel("script")), Err(ArchiveError::Missing { .. })));
}

#[test]
fn a_folder_with_more_than_files_in_it() {
    let work = tempfile::tempdir().unwrap();
    let folder = work.path().join("run");
    write(&folder.join("best.ckpt"), b"weights", false);
    write(&work.path().join("secret"), b"secret", false);
    symlink("best.ckpt", folder.join("last.ckpt")).unwrap();
    let package = Package::open(&folder, &Hashes::none()).unwrap();
    assert_eq!(contents(&package)["last.ckpt"], b"weights", "links within the folder are files");

    type Spoil = fn(&Path);
    let spoilers: [(&str, Spoil); 5] = [
        ("not \u{fffd} text", |path| {
            use std::os::unix::ffi::OsStrExt;
            let name = std::ffi::OsStr::from_bytes(b"not \xff text");
            write(&path.with_file_name(name), b"", false);
        }),
        ("out", |path| symlink("../secret", path).unwrap()),
        ("absolute", |path| symlink("/etc/passwd", path).unwrap()),
        ("dangling", |path| symlink("nowhere", path).unwrap()),
        ("socket", |path| drop(std::os::unix::net::UnixListener::bind(path).unwrap())),
    ];
    for (name, spoil) in spoilers {
        spoil(&folder.join(name));
        let package = Package::open(&folder, &Hashes::none()).unwrap();
        let error = package.left_out()[0].to_string();
        assert!(error.contains(&format!("{name:?}")), "{error}");
        assert_eq!(package.manifest().files().len(), 2);
        let tree = Package::open_tree(&folder, &Hashes::none()).unwrap();
        assert_eq!(tree.manifest().files().len(), 2);
        assert!(tree.left_out()[0].to_string().contains(name));
        std::fs::remove_dir_all(&folder).unwrap();
        write(&folder.join("best.ckpt"), b"weights", false);
        symlink("best.ckpt", folder.join("last.ckpt")).unwrap();
    }
    std::fs::remove_dir_all(&folder).unwrap();
    let error = Package::open(&folder, &Hashes::none()).unwrap_err();
    let error = WithCauses(&error).to_string();
    assert!(error.contains("run\": No such file"), "{error}");
    std::fs::create_dir(&folder).unwrap();
    assert!(matches!(Package::open(&folder, &Hashes::none()), Err(ArchiveError::Empty { .. })));
}
