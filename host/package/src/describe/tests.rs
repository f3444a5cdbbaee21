//! The fixtures are described as they are, and hostile packages as unknown.

use super::*;
use crate::tests::{MemoryFiles, fixture, view};
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
    let mut files = MemoryFiles::default();
    let described = |files: &MemoryFiles| describe(&view(&files.listing()), JobType::Training);
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
    let config = r#"{"model": {"heads": {"centroid": null, "single_instance": {"sigma": 2.5}}},
        "optimization": {"epochs": 200, "batch_size": 4}}"#;
    let mut files = MemoryFiles::default();
    files.0.insert("a.json".into(), config.into());
    files.0.insert("train-script.sh".into(), b"sleap-train a.json labels.slp\n".into());
    let description = describe(&view(&files.listing()), JobType::Training);
    assert_eq!(description.model_types, ["single_instance"]);
    assert_eq!((description.epochs, description.batch_size), (Some(200), Some(4)));
}

#[test]
fn the_runs_of_a_training() {
    let runs = describe(&view(&fixture("train_topdown.zip")), JobType::Training).runs;
    let [centroid, centered] = &runs[..] else { panic!("{runs:?}") };
    assert_eq!(centroid.model_types, ["centroid"]);
    assert_eq!(
        (centroid.epochs, centroid.batch_size, centroid.frames),
        (Some(2), Some(4), Some(12))
    );
    assert!(centroid.stops_early);
    // 12 frames without a fifth for validation, in batches of 4.
    assert_eq!(centroid.batches_per_epoch, Some(3));
    assert_eq!(centered.input, Some(ImageSize { height: 48, width: 48, channels: 1 }));
    assert_eq!(centered.filters, Some(8));
    // They train on the CPU.
    assert_eq!((centroid.memory, centered.memory), (None, None));
}

const UNET: &str = "
data_config:
  train_labels_path: [two.pkg.slp]
  preprocessing: {scale: 0.5, ensure_rgb: false, ensure_grayscale: true, max_height: 1030, max_width: 2048}
model_config:
  backbone_config: {unet: {filters: 32, filters_rate: 2.0, max_stride: 32}}
  head_configs: {bottomup: {confmaps: null}}
trainer_config: {train_data_loader: {batch_size: 8}, max_epochs: 50}
";

#[test]
fn the_memory_of_a_training_by_its_formula() {
    let described = |script: &str| {
        let mut files = MemoryFiles::default();
        files.0.insert("a.yaml".into(), UNET.into());
        files.0.insert("train-script.sh".into(), script.into());
        describe(&view(&files.listing()), JobType::Training).runs.remove(0)
    };
    let run = described("sleap-nn train a.yaml\n");
    // Half of 1030 rows, filled up to a multiple of the stride.
    assert_eq!(run.input, Some(ImageSize { height: 544, width: 1024, channels: 1 }));
    let pixels = 544 * 1024;
    // Twice two layers on six levels, of which each has half of the values of the one above.
    let kept = 2 * 2 * (0..6).map(|level| 32 * pixels / 2u64.pow(level)).sum::<u64>();
    let memory = run.memory.unwrap();
    assert_eq!(memory.bytes_per_sample, 4 * (pixels + kept));
    assert!(memory.fixed_bytes > 100 << 20 && memory.fixed_bytes < 1 << 30, "{memory:?}");
    assert!(run.memory_mib().unwrap() > 4_000);
    let smaller =
        described("sleap-nn train a.yaml trainer_config.train_data_loader.batch_size=2\n");
    assert!(smaller.memory_mib() < run.memory_mib().map(|mib| mib / 2));
    let on_cpu = described("sleap-nn train a.yaml ++trainer_config.trainer_accelerator=cpu\n");
    assert_eq!(on_cpu.memory, None);
}
