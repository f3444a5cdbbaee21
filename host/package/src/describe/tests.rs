//! The fixtures are described as they are, and hostile packages as unknown.

use super::*;
use crate::tests::{Files, fixture, view};
use sleap_rtc_protocol::job::ImageSize;

const IMAGE: ImageSize = ImageSize { height: 96, width: 96, channels: 1 };

#[test]
fn a_training_package() {
    let description = describe(&view(&fixture("train_topdown.zip")), JobType::Training);
    assert_eq!(description.model_types, ["centroid", "centered_instance"]);
    assert_eq!(description.epochs, Some(4));
    assert_eq!(description.batch_size, Some(4));
    assert_eq!(description.frame_count, Some(12));
    assert_eq!(description.image, Some(IMAGE));
    assert_eq!(description.package_bytes, Some(49_292));
}

#[test]
fn an_inference_package() {
    let description = describe(&view(&fixture("track_topdown.zip")), JobType::Inference);
    assert_eq!(description.model_types, ["centroid", "centered_instance"]);
    assert_eq!(description.frame_count, Some(12));
    assert_eq!(description.image, Some(IMAGE));
    assert_eq!(description.epochs, None);
}

#[test]
fn what_cannot_be_read_is_unknown() {
    let mut files = Files::default();
    let described = |files: &Files| describe(&view(&files.listing()), JobType::Training);
    assert_eq!(described(&files).model_types, Vec::<String>::new());
    files.0.insert("train-script.sh".into(), b"sleap-nn train a.yaml\n".into());
    files.0.insert("labels.slp".into(), "\u{89}HDF no".into());
    let bomb = (1..12).fold("a0: &a0 [x, x, x, x, x, x, x, x]\n".to_owned(), |text, n| {
        let last = format!("*a{}, ", n - 1).repeat(8);
        format!("{text}a{n}: &a{n} [{last}]\n")
    });
    let deep = "[".repeat(100_000);
    let nested = format!("a: {}x\n", "- ".repeat(50_000));
    let compact = format!("{}x\n", "- ".repeat(50_000));
    for hostile in [bomb, deep, nested, compact, "a: [".into(), "\0".into(), "x".repeat(300_000)] {
        files.0.insert("a.yaml".into(), hostile.into());
        let description = described(&files);
        assert_eq!(description.epochs, None);
        assert_eq!(description.frame_count, None);
    }
    let config = "data_config:\n  train_labels_path: [labels.slp, ../../x.slp]\n";
    files.0.insert("a.yaml".into(), config.into());
    assert_eq!(described(&files).frame_count, None);
}

#[test]
fn a_config_of_old_sleap() {
    let facts_of = |text: &str| {
        let files = Files([("a.json".to_owned(), text.into())].into());
        facts(&view(&files.listing()), &RelPath::new("a.json").unwrap(), &[])
    };
    let text = r#"{"model": {"heads": {"centroid": null, "single_instance": {"sigma": 2.5}}},
        "optimization": {"epochs": 200, "batch_size": 4}}"#;
    let facts = facts_of(text);
    assert_eq!(facts.model_types, ["single_instance"]);
    assert_eq!((facts.epochs, facts.batch_size), (Some(200), Some(4)));
}
