//! Predictions and the models that they use.

use super::*;

#[test]
fn impossible_predictions_are_refused() {
    for (arguments, expected) in [
        ("--video_index 7", "two.pkg.slp has no video 7: it has 1"),
        ("--only_labeled_frames --only_suggested_frames", "exclude each other"),
        ("--only_labeled_frames --frames 2", "--frames and --only_labeled_frames exclude each"),
        ("-i a.mp4 --exclude_user_labeled", "chooses among the frames of labels, and a.mp4 has"),
        ("-m models/gone", "lacks models/gone, which track-script.sh names"),
        ("--backbone_ckpt_path /etc/passwd", "lacks /etc/passwd"),
        ("-o two.pkg.slp", "would replace two.pkg.slp"),
        ("-o predictions", "not predictions: name it predictions.slp"),
        ("-o x.v2", "can write .slp, .h5, .geojson, .csv, not x.v2: name it x.v2.slp"),
        ("-o x.nwb", "not x.nwb"),
        ("-i a.webm", "a.webm is not a video that sleap-nn reads, by its name (mp4, avi"),
        ("-m models/centroid/last.ckpt", "reads best.ckpt in a model's folder, not models/cen"),
    ] {
        let package = Package::tracking().write("models/centroid/last.ckpt", "x");
        let package = package.write("a.mp4", "x").write("a.webm", "x");
        let message = package.track(arguments).refusal();
        assert!(message.contains(expected), "{arguments}: {message}");
    }
    let mut package = Package::tracking().track("");
    package.0.0.remove("models/centroid/best.ckpt").unwrap();
    assert!(package.refusal().contains("no checkpoint (best.ckpt)"));
    for content in ["", "version https://git-lfs.github.com/spec/v1\n"] {
        let package = Package::tracking().track("").write("models/centroid/best.ckpt", content);
        let message = package.refusal();
        assert!(message.contains("no weights: its best.ckpt is empty"), "{message}");
    }
    let package = Package::tracking().track("-m models/centered_instance/best.ckpt");
    let Run::Track(track) = package.checked().runs.remove(0) else { panic!() };
    let Model::Named(place) = &track.models[1] else { panic!() };
    assert_eq!(place.path.as_str(), "models/centered_instance");
}

#[test]
fn models_of_which_a_tracker_would_use_only_one_are_refused() {
    let head = |kind: &str| {
        format!("model_config:\n  head_configs:\n    other: null\n    {kind}:\n      a: 1\n")
    };
    let with = |folder: &str, kind: &str| {
        let package = Package::tracking().track(&format!("-m models/{folder}"));
        let package = package.write(&format!("models/{folder}/best.ckpt"), "x");
        package.write(&format!("models/{folder}/training_config.yaml"), head(kind))
    };
    with("second", "centered_instance").checked();
    for kind in ["centroid", "bottomup", "single_instance"] {
        let message = with("second", kind).refusal();
        assert!(message.contains("models/centroid (centroid) and models/second"), "{message}");
        assert!(message.contains(&format!("second ({kind})")), "{message}");
    }
    let train = format!("sleap-nn train {CONFIG} trainer_config.run_name=");
    let package = Package::single().write("train-script.sh", format!("{train}a\n{train}b\n"));
    let script = "sleap-nn track -i one.pkg.slp -m models/a -m models/b -o p.slp\n";
    let message = package.write("inference-script.sh", script).refusal();
    assert!(message.contains("a (single_instance) and b (single_instance)"), "{message}");
}

#[test]
fn a_prediction_after_the_training_uses_its_models() {
    let script = "sleap-nn track -i one.pkg.slp -m models/single_instance -o p.slp\n\
        sleap-nn track -i one.pkg.slp -m /x/models/single_instance/best.ckpt -o p.slp\n";
    let package = Package::single().train("").write("inference-script.sh", script);
    let runs = package.checked().runs;
    for (run, output) in runs[1..].iter().zip(["p.slp", "p-2.slp"]) {
        let Run::Track(track) = run else { panic!() };
        assert_eq!(
            (track.models.as_slice(), track.output.as_str()),
            ([Model::Made(0)].as_slice(), output)
        );
    }
    let nothing = Package::single().write("inference-script.sh", "#!/bin/bash\n");
    assert_eq!(nothing.checked().runs.len(), 1);
    let elsewhere = "sleap-nn track -i /home/x/mice.mp4 -m models/single_instance -o p.slp\n";
    let message = Package::single().train("").write("inference-script.sh", elsewhere).refusal();
    assert!(
        message.contains("lacks /home/x/mice.mp4, which inference-script.sh names"),
        "{message}"
    );
}
