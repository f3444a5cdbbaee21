//! Every dialect, and every text at all.

use super::*;
use proptest::prelude::*;

fn path(text: &str) -> RelPath {
    RelPath::new(text).unwrap()
}

fn train(config: &str, run_name: Option<&str>) -> Run {
    Run::Train(Train {
        config: path(config),
        run_name: run_name.map(str::to_owned),
        overrides: Vec::new(),
    })
}

fn runs(job_type: JobType, text: &str) -> Vec<Run> {
    parse(job_type, text).unwrap().runs
}

#[test]
fn every_dialect_of_training() {
    macro_rules! script {
        ($name:literal) => {
            include_str!(concat!("../../../../tests/fixtures/scripts/train-script.", $name, ".sh"))
        };
    }
    let cases = [
        (script!("1.5.0"), ["240101_000000", "240101_000000.centered_instance"]),
        (script!("1.5.2"), ["centroid_240101_000000", "centered_instance_240101_000000"]),
        (script!("1.6.0"), ["240101_000000.centroid.n=12", "240101_000000.centered_instance.n=12"]),
        (script!("1.6.6"), ["240101_000000.centroid.n=12", "240101_000000.centered_instance.n=12"]),
        (script!("sleap-rtc"), ["centroid", "centered_instance"]),
    ];
    for (text, [first, second]) in cases {
        let expected =
            [train("centroid.yaml", Some(first)), train("centered_instance.yaml", Some(second))];
        let script = parse(JobType::Training, text).unwrap();
        assert_eq!(script.runs, expected);
        assert_eq!(script.warnings, Vec::<String>::new());
    }
    let legacy = |config| {
        Run::TrainLegacy(TrainLegacy { config: path(config), labels: path("two.pkg.slp") })
    };
    assert_eq!(
        runs(JobType::Training, script!("1.4.1")),
        [legacy("centroid.json"), legacy("centered_instance.json")]
    );
}

#[test]
fn other_ways_to_write_a_training() {
    let cases = [
        ("sleap-nn train a.yaml", train("a.yaml", None)),
        ("sleap-nn train --config a.yaml", train("a.yaml", None)),
        ("sleap-nn train --config-name=a --config-dir=./conf/", train("conf/a.yaml", None)),
        ("/opt/bin/sleap-nn train -c a.yml -d .", train("a.yml", None)),
        ("sleap-train --config-name a.yaml --config-dir .", train("a.yaml", None)),
        ("sleap-nn train \\\n  --config-name a.yaml \\\n  --config-dir .\n", train("a.yaml", None)),
        ("cd /tmp\nsleap-nn train a.yaml 'trainer_config.run_name=null'", train("a.yaml", None)),
        ("it's\nsleap-nn train 'my config.yaml'", train("my config.yaml", None)),
    ];
    for (text, expected) in cases {
        assert_eq!(runs(JobType::Training, text), [expected], "{text}");
    }
}

#[test]
fn only_listed_settings_are_kept() {
    let text = "sleap-nn train a.yaml trainer_config.max_epochs=3 \
        'data_config.train_labels_path=[\"x y.slp\",z.slp]' trainer_config.use_wandb=true \
        trainer_config.max_epochs=5 trainer_config.seed='${oc.env:HOME}' --multirun";
    let script = parse(JobType::Training, text).unwrap();
    let Run::Train(run) = &script.runs[0] else { panic!() };
    let kept = |key, value| Override { key, value };
    assert_eq!(
        run.overrides,
        [
            kept(
                "data_config.train_labels_path",
                OverrideValue::Paths(vec![path("x y.slp"), path("z.slp")])
            ),
            kept("trainer_config.max_epochs", OverrideValue::Scalar("5".into())),
        ]
    );
    assert_eq!(script.warnings.len(), 3, "{:?}", script.warnings);
}

#[test]
fn the_script_that_our_client_writes() {
    let text = "#!/bin/bash\n# Auto-generated\n\nsleap-nn track \\\n  --data_path two.pkg.slp \\\n  \
        --model_paths models/centroid \\\n  --model_paths models/centered_instance \\\n  \
        -o predictions.slp\n";
    let expected = Track {
        data: path("two.pkg.slp"),
        models: vec![path("models/centroid"), path("models/centered_instance")],
        output: path("predictions.slp"),
        options: Vec::new(),
    };
    assert_eq!(runs(JobType::Inference, text), [Run::Track(expected)]);
}

#[test]
fn other_ways_to_write_an_inference() {
    let plain = Track {
        data: path("a.slp"),
        models: vec![path("m")],
        output: path("o.slp"),
        options: vec![
            TrackOption { name: "--tracking", value: None },
            TrackOption { name: "--peak_threshold", value: Some("0.3".into()) },
        ],
    };
    for text in [
        "sleap-nn predict --gui -i a.slp -m m/ -o o.slp -t --peak_threshold=0.3",
        "sleap track --data-path a.slp --model-paths ./m --output_path o.slp --tracking \
         --peak-threshold 0.3",
        "sleap-track a.slp -m m -o o.slp --tracking --peak_threshold 0.3",
        "sleap-nn-track a.slp --model_paths=m --output=o.slp --tracking --peak_threshold 0.3 \
         --backbone_ckpt_path /etc/passwd",
    ] {
        assert_eq!(runs(JobType::Inference, text), [Run::Track(plain.clone())], "{text}");
    }
    let script = parse(JobType::Inference, "sleap-nn track -i a.slp -m m").unwrap();
    let Run::Track(track) = &script.runs[0] else { panic!() };
    assert_eq!(track.output.as_str(), "a.slp.predictions.slp");
}

#[test]
fn what_is_refused_and_why() {
    use JobType::{Inference, Training};
    let cases = [
        (Training, "#!/bin/bash\necho hello\n", "train-script.sh has no line that starts"),
        (Inference, "sleap-nn train a.yaml", "track-script.sh has no line that starts"),
        (Training, "\nsleap-nn train ../../x.yaml", "train-script.sh, line 2: the file path"),
        (Training, "sleap-nn train --config-name a --config-dir /etc", "the file path \"/etc/a"),
        (Training, "sleap-nn train a.yaml trainer_config.run_name=../x", "run name \"../x\""),
        (Training, "sleap-nn train a.yaml trainer_config.run_name=a/b", "run name \"a/b\""),
        (Training, "sleap-nn train a.yaml 'trainer_config.run_name=${x}'", "run name \"${x}\""),
        (Training, "sleap-nn train 'a.yaml", "its quotes do not match"),
        (Training, "sleap-nn train", "it names no config"),
        (Training, "sleap-nn train --config-name a.json", "takes a YAML file"),
        (Training, "sleap-train a.json", "it names no labels"),
        (Inference, "sleap-nn track -m m -o o.slp", "it names no data"),
        (Inference, "sleap-nn track -i a.slp", "it names no model"),
        (Inference, "sleap-nn track -i a.slp -m", "it names no value"),
        (Inference, "sleap-nn track -i a.slp -m m -o ../o.slp", "the file path \"../o.slp\""),
        (Inference, "sleap-nn track -i -x -m m", "starts with a hyphen"),
    ];
    for (job_type, text, expected) in cases {
        let error = parse(job_type, text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?} gave {error:?}");
    }
    let many = "sleap-nn train a.yaml\n".repeat(33);
    assert!(matches!(parse(Training, &many), Err(ScriptError::TooMany { .. })));
}

proptest! {
    #[test]
    fn no_text_at_all_panics(text in "\\PC*") {
        let _ = parse(JobType::Training, &text);
        let _ = parse(JobType::Inference, &text);
    }

    #[test]
    fn no_arguments_panic_or_leave_the_package(
        words in proptest::collection::vec(
            prop_oneof![
                "[-a-z./=+$\"'\\\\ ]{0,12}",
                Just("--config-dir".to_owned()),
                Just("--config-name".to_owned()),
                Just("--model_paths".to_owned()),
                Just("-o".to_owned()),
                Just("trainer_config.run_name=".to_owned()),
            ],
            0..12,
        )
    ) {
        let arguments = words.join(" ");
        for (job_type, program) in
            [(JobType::Training, "sleap-nn train"), (JobType::Inference, "sleap-nn track")]
        {
            if let Ok(script) = parse(job_type, &format!("{program} {arguments}")) {
                for run in &script.runs {
                    for needed in run.needs() {
                        prop_assert!(!needed.as_str().split('/').any(|part| part == ".."));
                    }
                    if let Run::Train(train) = run {
                        prop_assert!(!train.folder_name().contains('/'));
                    }
                }
            }
        }
    }
}
