//! The fixtures are described as they are, and hostile packages as unknown.

use super::*;
use crate::tests::unpacked;
use sleap_rtc_protocol::job::ImageSize;

const IMAGE: ImageSize = ImageSize { height: 96, width: 96, channels: 1 };

#[test]
fn a_training_package() {
    let folder = unpacked("train_topdown.zip");
    let description = describe(&PackageFolder::new(folder.path()), JobType::Training);
    assert_eq!(description.model_types, ["centroid", "centered_instance"]);
    assert_eq!(description.epochs, Some(4));
    assert_eq!(description.batch_size, Some(4));
    assert_eq!(description.frame_count, Some(12));
    assert_eq!(description.image, Some(IMAGE));
    assert_eq!(description.package_bytes, Some(49_292));
}

#[test]
fn an_inference_package() {
    let folder = unpacked("track_topdown.zip");
    let description = describe(&PackageFolder::new(folder.path()), JobType::Inference);
    assert_eq!(description.model_types, ["centroid", "centered_instance"]);
    assert_eq!(description.frame_count, Some(12));
    assert_eq!(description.image, Some(IMAGE));
    assert_eq!(description.epochs, None);
}

#[test]
fn what_cannot_be_read_is_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let package = PackageFolder::new(folder.path());
    assert_eq!(describe(&package, JobType::Training).model_types, Vec::<String>::new());
    write("train-script.sh", "sleap-nn train a.yaml\n");
    write("labels.slp", "\u{89}HDF no");
    let bomb = (1..12).fold("a0: &a0 [x, x, x, x, x, x, x, x]\n".to_owned(), |text, n| {
        let last = format!("*a{}, ", n - 1).repeat(8);
        format!("{text}a{n}: &a{n} [{last}]\n")
    });
    let deep = "[".repeat(100_000);
    let nested = format!("a: {}x\n", "- ".repeat(50_000));
    let compact = format!("{}x\n", "- ".repeat(50_000));
    for hostile in [bomb, deep, nested, compact, "a: [".into(), "\0".into(), "x".repeat(300_000)] {
        write("a.yaml", &hostile);
        let description = describe(&package, JobType::Training);
        assert_eq!(description.epochs, None);
        assert_eq!(description.frame_count, None);
    }
    write("a.yaml", "data_config:\n  train_labels_path: [labels.slp, ../../x.slp]\n");
    assert_eq!(describe(&package, JobType::Training).frame_count, None);
}

#[test]
fn a_config_of_old_sleap() {
    let folder = tempfile::tempdir().unwrap();
    let facts_of = |text: &str| {
        std::fs::write(folder.path().join("a.json"), text).unwrap();
        facts(&PackageFolder::new(folder.path()), &RelPath::new("a.json").unwrap(), &[])
    };
    let text = r#"{"model": {"heads": {"centroid": null, "single_instance": {"sigma": 2.5}}},
        "optimization": {"epochs": 200, "batch_size": 4}}"#;
    let facts = facts_of(text);
    assert_eq!(facts.model_types, ["single_instance"]);
    assert_eq!((facts.epochs, facts.batch_size), (Some(200), Some(4)));
}
