//! Checks of whole packages before anything runs.

use super::*;
use crate::script::{Model, Value};
use crate::tests::{Files, fixture, view};
use std::path::Path;

/// A package in memory that trains one model.
#[derive(Clone)]
struct Package(Files);

const CONFIG: &str = "single_instance.yaml";

impl Package {
    fn single() -> Self {
        Self(Files::of(&fixture("train_single.zip")))
    }

    fn tracking() -> Self {
        Self(Files::of(&fixture("track_topdown.zip")))
    }

    fn write(mut self, name: &str, text: impl AsRef<[u8]>) -> Self {
        self.0.0.insert(name.to_owned(), text.as_ref().to_vec());
        self
    }

    /// The same package, with one line of the config replaced.
    fn config(self, key: &str, line: &str) -> Self {
        let text = self.0.text(CONFIG);
        let is_key = |text: &str| text.trim_start().starts_with(&format!("{key}:"));
        assert!(text.lines().any(is_key), "{key}");
        let changed: Vec<&str> =
            text.lines().map(|old| if is_key(old) { line } else { old }).collect();
        self.write(CONFIG, changed.join("\n"))
    }

    fn train(self, arguments: &str) -> Self {
        self.write("train-script.sh", format!("sleap-nn train {CONFIG} {arguments}\n"))
    }

    fn track(self, arguments: &str) -> Self {
        let start = "sleap-nn track -i two.pkg.slp -m models/centroid";
        self.write("track-script.sh", format!("{start} {arguments}\n"))
    }

    fn on(&self, site: MachineFacts<'_>) -> Result<Checked, CheckError> {
        let tracks = self.0.0.contains_key("track-script.sh");
        let job_type = if tracks { JobType::Inference } else { JobType::Training };
        check(&view(&self.0.listing()), job_type, site)
    }

    fn checked(&self) -> Checked {
        self.on(MachineFacts::default()).unwrap()
    }

    fn refusal(&self) -> String {
        self.on(MachineFacts::default()).unwrap_err().to_string()
    }

    /// The settings that the trainer receives in addition to the config.
    fn settings(&self, site: MachineFacts<'_>) -> Vec<(String, Value)> {
        let Run::Train(train) = self.on(site).unwrap().runs.remove(0) else { panic!() };
        train.settings.into_iter().map(|set| (set.key, set.value)).collect()
    }
}

fn text(key: &str, value: &str) -> (String, Value) {
    (key.into(), Value::Text(value.into()))
}

fn bare(key: &str, value: &str) -> (String, Value) {
    (key.into(), Value::Bare(value.into()))
}

fn names(package: &Package) -> Vec<String> {
    let name = |run: Run| match run {
        Run::Train(train) => train.run_name.unwrap(),
        Run::TrainLegacy(train) => train.run_name.unwrap(),
        Run::Track(track) => track.output.into(),
    };
    package.checked().runs.into_iter().map(name).collect()
}

#[test]
fn every_fixture_passes() {
    for (name, job_type) in [
        ("train_single.zip", JobType::Training),
        ("train_topdown.zip", JobType::Training),
        ("track_topdown.zip", JobType::Inference),
    ] {
        let checked = check(&view(&fixture(name)), job_type, MachineFacts::default());
        assert_eq!(checked.unwrap().remarks, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn two_trainings_are_two_results() {
    let train = format!("sleap-nn train {CONFIG} trainer_config.run_name=");
    for (script, expected) in [
        (format!("{train}\n{train}\n"), ["single_instance", "single_instance-2"]),
        (format!("{train}r\n{train}r\n"), ["r", "r.single_instance"]),
        (format!("{train}R && {train}r"), ["R", "r.single_instance"]),
        (format!("{train}single_instance; {train}"), ["single_instance", "single_instance-2"]),
        (format!("{train}; {train}single_instance"), ["single_instance", "single_instance-2"]),
    ] {
        assert_eq!(
            names(&Package::single().write("train-script.sh", &script)),
            expected,
            "{script}"
        );
    }
    let config = Package::single().0.text(CONFIG);
    let package = Package::single().write("a/x.yaml", &config).write("b/x.yaml", &config);
    let script = "sleap-nn train -c x -d a\nsleap-nn train -c x -d b\n";
    let names = names(&package.write("train-script.sh", script));
    assert_eq!(names, ["single_instance", "single_instance.x"]);
}

#[test]
fn the_run_name_of_the_config_counts() {
    let package = Package::single().config("run_name", "  run_name: mouse_v3").train("");
    assert_eq!(names(&package), ["mouse_v3"]);
    let package = package.train("trainer_config.run_name=other");
    assert_eq!(names(&package), ["other"]);
    for (written, expected) in [
        ("../../x", "x"),
        ("/data/models/x", "x"),
        ("D:\\runs\\x\\", "x"),
        ("a/..", "single_instance"),
    ] {
        let line = format!("  run_name: {written}");
        let package = Package::single().config("run_name", &line).train("");
        assert_eq!(names(&package), [expected], "{written}");
        let remarks = package.checked().remarks;
        assert!(remarks[0].contains("is not one plain name"), "{written}: {remarks:?}");
        let package = Package::single().train(&format!("'trainer_config.run_name={written}'"));
        assert_eq!(names(&package), [expected], "{written}");
    }
}

#[test]
fn files_of_the_exporting_machine_are_taken_from_the_package() {
    for path in ["C:\\data\\one.pkg.slp", "/data/one.pkg.slp", "../one.pkg.slp", "x/one.pkg.slp"] {
        let config = Package::single().0.text(CONFIG);
        let config = config.replace("- one.pkg.slp", &format!("- '{path}'"));
        let package = Package::single().write(CONFIG, config);
        assert_eq!(
            package.settings(MachineFacts::default()),
            [bare("data_config.train_labels_path", "[\"one.pkg.slp\"]")],
            "{path}"
        );
    }
}

#[test]
fn files_that_the_package_lacks_are_named() {
    for (key, line) in [
        ("val_labels_path", "  val_labels_path: [/data/gone.slp]"),
        ("test_file_path", "  test_file_path: /data/gone.slp"),
        ("pretrained_backbone_weights", "  pretrained_backbone_weights: /data/gone.slp"),
        ("resume_ckpt_path", "  resume_ckpt_path: D:\\gone.slp"),
    ] {
        let message = Package::single().config(key, line).refusal();
        assert!(message.contains("gone.slp, which single_instance.yaml ("), "{message}");
        assert!(message.contains(key), "{message}");
    }
    let package = Package::single().train("trainer_config.resume_ckpt_path=old/best.ckpt");
    assert!(package.refusal().contains("lacks old/best.ckpt"));
    let package = package.write("best.ckpt", "x");
    assert_eq!(
        package.settings(MachineFacts::default()),
        [text("trainer_config.resume_ckpt_path", "best.ckpt")]
    );
    let package = Package::single().write("train-script.sh", "sleap-nn train other.yaml\n");
    assert!(package.refusal().contains("lacks other.yaml, which train-script.sh names"));
}

#[test]
fn a_training_always_ends_with_a_model() {
    for package in [
        Package::single().config("save_ckpt", "  save_ckpt: false"),
        Package::single().config("save_ckpt", ""),
        Package::single().train("trainer_config.save_ckpt=False"),
    ] {
        assert_eq!(
            package.settings(MachineFacts::default()),
            [bare("trainer_config.save_ckpt", "true")]
        );
        let remarks = package.checked().remarks;
        assert!(remarks[0].contains("save_ckpt is set"), "{remarks:?}");
    }
    for package in [
        Package::single().config("save_top_k", "    save_top_k: 0"),
        Package::single().train("trainer_config.model_ckpt.save_top_k=0"),
    ] {
        let one = [bare("trainer_config.model_ckpt.save_top_k", "1")];
        assert_eq!(package.settings(MachineFacts::default()), one);
        let remarks = package.checked().remarks;
        assert!(remarks[0].contains("save_top_k is 1, not 0"), "{remarks:?}");
    }
    let nothing = Package::single().train("trainer_config.max_epochs=0").refusal();
    assert!(nothing.contains("trainer_config.max_epochs is 0"), "{nothing}");
    // Some versions do not take a string as a boolean.
    let text = Package::single().config("save_ckpt", "  save_ckpt: 'True'");
    assert_eq!(text.settings(MachineFacts::default()), [bare("trainer_config.save_ckpt", "true")]);
    assert_eq!(text.checked().remarks, Vec::<String>::new());
}

#[test]
fn the_devices_are_those_of_the_slot() {
    let on = |gpus| MachineFacts { gpus: Some(gpus), ..MachineFacts::default() };
    let auto = || Package::single().config("trainer_accelerator", "  trainer_accelerator: auto");
    let devices = |line: &str| auto().config("trainer_devices", line);
    assert_eq!(devices("  trainer_devices: 1").settings(on(1)), []);
    assert_eq!(devices("  trainer_devices: 2").settings(on(2)), []);
    let two = devices("  trainer_devices: 2");
    assert_eq!(two.settings(on(1)), [bare("trainer_config.trainer_devices", "1")]);
    assert!(two.on(on(1)).unwrap().remarks[0].contains("trainer_devices is 1, not 2"));
    let second = auto().train("trainer_config.trainer_device_indices=[1]");
    let null = bare("trainer_config.trainer_device_indices", "null");
    assert_eq!(second.settings(on(1)), [null.clone(), bare("trainer_config.trainer_devices", "1")]);
    assert_eq!(second.settings(on(0)), [null]);
    let cpu = Package::single();
    assert_eq!(cpu.settings(on(1)), []);
    assert!(cpu.on(on(1)).unwrap().remarks[0].contains("it trains on the CPU"));
    assert_eq!(cpu.on(on(0)).unwrap().remarks, Vec::<String>::new());
    let one = [bare("trainer_config.trainer_devices", "1")];
    for line in ["  trainer_devices: [1]", "  trainer_devices: [0, 1]"] {
        assert_eq!(devices(line).settings(on(1)), one, "{line}");
        assert_eq!(devices(line).settings(on(0)), one, "{line}");
        assert!(devices(line).on(on(1)).unwrap().remarks[0].contains("trainer_devices is 1, not"));
    }
    // All devices; a CPU does not take this.
    assert_eq!(devices("  trainer_devices: -1").settings(on(1)), []);
    assert_eq!(devices("  trainer_devices: -1").settings(on(0)), one);
    assert_eq!(devices("  trainer_devices: auto").settings(on(0)), []);
    let gpu = Package::single().config("trainer_accelerator", "  trainer_accelerator: gpu");
    assert_eq!(gpu.settings(on(0)), [text("trainer_config.trainer_accelerator", "auto")]);
    assert!(gpu.on(on(0)).unwrap().remarks[0].contains("this worker has no GPU"));
}

#[test]
fn folders_and_ports_of_the_exporting_machine_are_replaced() {
    let package = Package::single()
        .config("ckpt_dir", "  ckpt_dir: C:/models")
        .train("'trainer_config={zmq: {publish_port: 9001}}'");
    assert_eq!(package.settings(MachineFacts::default()), []);
    let remarks = package.checked().remarks;
    assert!(
        remarks[0].contains(
            "the worker decides the checkpoint folder and the ZMQ ports (not 9001, C:/models)"
        ),
        "{remarks:?}"
    );
}

#[test]
fn a_config_needs_a_sleap_nn_that_can_read_it() {
    let package = Package::single();
    let with =
        |version| package.on(MachineFacts { version: Some(version), ..MachineFacts::default() });
    assert!(with("0.3.5").is_ok() && with("0.4.0").is_ok() && with("unknown").is_ok());
    let message = with("0.2.0").unwrap_err().to_string();
    assert!(message.contains("single_instance.yaml needs sleap-nn 0.3"), "{message}");
}

#[test]
fn configs_that_no_trainer_accepts() {
    for (text, expected) in [
        ("a: [", "cannot use the config"),
        ("just words", "not a mapping"),
        ("trainer_config: {}\n", "no model_config"),
        (
            "model_config: {}\n",
            "head_configs must set exactly one of its entries, and it sets none",
        ),
        (
            "model_config: {head_configs: {centroid: {confmaps: {}}}, backbone_config: {unet: {}}}\n",
            "names no labels (data_config.train_labels_path)",
        ),
    ] {
        let message = Package::single().write(CONFIG, text).refusal();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn files_that_are_not_labels_are_refused() {
    let package = Package::single().write("one.pkg.slp", "hello");
    assert!(package.refusal().contains("one.pkg.slp is not a SLEAP labels file"));
    let package = Package::tracking().write("two.pkg.slp", "hello");
    assert!(package.refusal().contains("two.pkg.slp is not a SLEAP labels file"));
    let whole = include_bytes!("../../../../tests/fixtures/outside.slp");
    let cut = &whole[..whole.len() - 1];
    for package in
        [Package::tracking().write("two.pkg.slp", cut), Package::single().write("one.pkg.slp", cut)]
    {
        let message = package.refusal();
        let expected =
            format!("is cut off: it has {} of at least {} bytes", cut.len(), whole.len());
        assert!(message.contains(&expected), "{message}");
    }
}

#[test]
fn missing_videos_are_named() {
    let outside = include_bytes!("../../../../tests/fixtures/outside.slp");
    let package = Package::tracking().write("two.pkg.slp", outside);
    let message = package.refusal();
    assert!(message.contains("the video C:/data/mice.mp4, which two.pkg.slp names"), "{message}");
    assert!(package.write("mice.mp4", "beside the labels").on(MachineFacts::default()).is_ok());
    let package = Package::single().write("one.pkg.slp", outside);
    assert!(package.refusal().contains("C:/data/mice.mp4"));
    let package = package.write("videos/mice.mp4", "x").train("--prefix-map C:/data videos");
    assert!(package.on(MachineFacts::default()).is_ok());
}

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
fn what_every_trainer_refuses_is_found_before() {
    let train = |arguments: &str| Package::single().train(arguments).refusal();
    for (arguments, why) in [
        (
            "trainer_config.max_epochs=ten",
            "max_epochs is \"ten\", and sleap-nn wants a whole number",
        ),
        ("trainer_config.max_epochs=", "max_epochs is \"\", and"),
        ("trainer_config.train_data_loader.batch_size=0", "batch_size is 0, and sleap-nn wants >0"),
        (
            "trainer_config.train_data_loader.batch_size=1.5",
            "batch_size is 1.5, and sleap-nn wants a whole",
        ),
    ] {
        assert!(train(arguments).contains(why), "{arguments}: {}", train(arguments));
    }
    for number in ["1_000", "+3"] {
        Package::single().train(&format!("trainer_config.max_epochs={number}")).checked();
    }
    let changed = |key: &str, line: &str| Package::single().train("").config(key, line).refusal();
    for (key, line, why) in [
        ("centroid", "    centroid: {confmaps: 1}", "sets single_instance and centroid"),
        ("convnext", "    convnext: {a: 1}", "sets unet and convnext"),
        ("max_epochs", "  max_epochs: 3\t# more", "has a tab outside of quotes"),
        ("max_epochs", "  max_epochs: !!python/tuple [1]", "`!!python/"),
    ] {
        assert!(changed(key, line).contains(why), "{line}: {}", changed(key, line));
    }
    for (line, why) in [
        ("  val_labels_path: \"one.pkg.slp \"", "lacks \"one.pkg.slp \""),
        ("  val_labels_path: old", "names old, which is a folder"),
        ("  val_labels_path: old/a.csv", "old/a.csv is not a SLEAP labels file"),
    ] {
        let package = Package::single().train("").write("old/a.csv", "a,b");
        let message = package.config("val_labels_path", line).refusal();
        assert!(message.contains(why), "{line}: {message}");
    }
    let weights = "  pretrained_backbone_weights: best.ckpt";
    let package = Package::single().train("").write("best.ckpt", "");
    let message = package.config("pretrained_backbone_weights", weights).refusal();
    assert!(message.contains("best.ckpt, which is empty"), "{message}");
    let weights = "model_config.pretrained_head_weights=one.pkg.slp";
    let message = Package::single().train(weights).refusal();
    assert!(message.contains("one.pkg.slp, which is no checkpoint by its name"), "{message}");
}

#[test]
fn logs_to_wandb_stay_with_the_model_where_nobody_has_a_key() {
    let on = |has_wandb_key| MachineFacts { has_wandb_key, ..MachineFacts::default() };
    let mode = |mode: &str| text("trainer_config.wandb.wandb_mode", mode);
    let used = Package::single().config("use_wandb", "  use_wandb: yes");
    assert_eq!(used.settings(on(Some(false))), [mode("offline")]);
    let remarks = used.on(on(Some(false))).unwrap().remarks;
    assert!(remarks.iter().any(|remark| remark.contains("`wandb sync` sends them")), "{remarks:?}");
    for has_key in [Some(true), None] {
        assert_eq!(used.settings(on(has_key)), []);
    }
    assert_eq!(Package::single().settings(on(Some(false))), []);
    let with = |key: &str| {
        let setting = format!("trainer_config.wandb.api_key={key}");
        Package::single().config("use_wandb", "  use_wandb: true").train(&setting)
    };
    assert!(with("abc").refusal().contains("no key of W&B"), "{}", with("abc").refusal());
    let key = "0123456789abcdef0123456789abcdef01234567";
    assert_eq!(with(key).settings(on(Some(false))), [text("trainer_config.wandb.api_key", key)]);
}

#[test]
fn heads_have_their_parts_and_name_nodes_and_tracks_of_the_labels() {
    let with = |from: &str, to: &str| {
        let text = Package::single().0.text(CONFIG);
        let changed = text.replace(from, to);
        assert!(changed != text, "{from}");
        Package::single().write(CONFIG, changed)
    };
    let without = |head: &str, package: Package| {
        let text = package.0.text(CONFIG).replace(&format!("    {head}: null\n"), "");
        package.write(CONFIG, text)
    };
    let head = "    single_instance:\n      confmaps:\n";
    for (package, why) in [
        (with("      confmaps:\n", "      other:\n"), "single_instance does not set confmaps"),
        (
            without("bottomup", with(head, "    bottomup:\n      confmaps:\n")),
            "bottomup does not set pafs, and sleap-nn needs confmaps and pafs",
        ),
        (
            with("part_names: null", "part_names: [zz]"),
            "part_names names zz, and the labels' skeleton has ",
        ),
        (
            with("part_names: null", "part_names: [b, a]"),
            "part_names must name all nodes of the labels' skeleton in their order (",
        ),
        (
            without(
                "multi_class_bottomup",
                with(head, "    multi_class_bottomup:\n      class_maps: {}\n      confmaps:\n"),
            ),
            "multi_class_bottomup learns tracks, and the labels have none",
        ),
    ] {
        assert!(package.refusal().contains(why), "{why}: {}", package.refusal());
    }
}

#[test]
fn heads_that_the_script_changes_count_as_the_trainer_will_see_them() {
    let heads = "model_config.head_configs";
    let centroid = format!("++{heads}.centroid.confmaps.sigma=2.5");
    let with = |arguments: &str| Package::single().train(arguments);
    for (arguments, why) in [
        (format!("{heads}.single_instance=null"), "exactly one of its entries, and it sets none"),
        (format!("~{heads}.single_instance"), "it sets none"),
        (centroid.clone(), "it sets single_instance and centroid"),
        ("~model_config.backbone_config.unet".into(), "it sets none"),
        (format!("~{heads}.nowhere"), "removes model_config.head_configs.nowhere (`~`)"),
        (
            format!("~{heads}.single_instance ++{heads}.bottomup.pafs.sigma=2"),
            "needs confmaps and pafs",
        ),
        (format!("{heads}.single_instance.confmaps.part_names=[zz]"), "names zz"),
    ] {
        let message = with(&arguments).refusal();
        assert!(message.contains(why), "{arguments}: {message}");
    }
    with(&format!("~{heads}.single_instance {centroid}")).checked();
    with("~trainer_config.early_stopping trainer_config.lr_scheduler=null").checked();
}

#[test]
fn labels_to_validate_with_are_as_many_as_those_to_train_on() {
    let two = "data_config.train_labels_path=[one.pkg.slp,one.pkg.slp]";
    let one = "data_config.val_labels_path=[one.pkg.slp]";
    let message = Package::single().train(&format!("{two} {one}")).refusal();
    assert!(
        message.contains("train_labels_path lists 2 and data_config.val_labels_path lists 1"),
        "{message}"
    );
    Package::single().train(two).checked();
    Package::single().train(one).checked();
}

#[test]
fn one_text_in_the_place_of_a_list_of_labels_is_a_list() {
    let names = ["train", "val"].map(|part| format!("data_config.{part}_labels_path=one.pkg.slp"));
    let package = Package::single().train(&names.join(" "));
    let mut settings = package.settings(MachineFacts::default());
    settings.retain(|(key, _)| key.ends_with("labels_path"));
    let values: Vec<&Value> = settings.iter().map(|(_, value)| value).collect();
    let list = Value::list(&["one.pkg.slp".to_owned()]);
    assert_eq!(values, [&list, &list]);
}

#[test]
fn labels_without_frames_are_no_training() {
    let empty = include_bytes!("../../../../tests/fixtures/no-frames.slp");
    let message = Package::single().train("").write("one.pkg.slp", empty).refusal();
    assert!(message.contains("one.pkg.slp has no labelled frames to train on"), "{message}");
}

#[test]
fn labels_without_instances_of_a_user_are_refused() {
    // A row of the instances: its number in eight bytes, then its kind. 1 is a predicted instance.
    const ROW_BYTES: usize = 57;
    let mut predicted = Package::single().0.0["one.pkg.slp"].clone();
    let numbered = |at: &usize| {
        let row = |number: u64| predicted.get(at + number as usize * ROW_BYTES..)?.get(..8);
        (0..10).all(|number| row(number) == Some(&number.to_le_bytes()[..]))
    };
    let first = (0..predicted.len()).find(numbered).unwrap();
    (0..10).for_each(|number| predicted[first + number * ROW_BYTES + 8] = 1);
    let package = Package::single().train("").write("one.pkg.slp", predicted);
    let message = package.refusal();
    assert!(message.contains("one.pkg.slp has no instance that a user has placed"), "{message}");
    let predicted = package.0.0["one.pkg.slp"].clone();
    package.train("data_config.user_instances_only=false").checked();
    let validated = Package::single().train("data_config.val_labels_path=[val.pkg.slp]");
    let message = validated.write("val.pkg.slp", predicted).refusal();
    assert!(message.contains("val.pkg.slp has no instance that a user has placed"), "{message}");
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

#[test]
fn devices_of_another_machine_become_the_slots() {
    for device in ["cuda:3", "1", "gpu"] {
        let package = Package::tracking().track(&format!("--device {device}"));
        let site = MachineFacts { gpus: Some(1), ..MachineFacts::default() };
        let checked = package.on(site).unwrap();
        let remark =
            format!("--device is auto, not {device}: the slot decides which devices it uses");
        assert_eq!(checked.remarks, [remark]);
        let Run::Track(track) = &checked.runs[0] else { panic!() };
        assert_eq!(track.option("--device"), Some("auto"));
    }
}

#[test]
fn unquoted_names_are_matched_with_the_exports_list() {
    let mut package = Package::single();
    for name in ["a -b; c.slp", "'quoted.slp'", "ada's && bob's.pkg.slp", "no ending"] {
        let labels = package.0.0["one.pkg.slp"].clone();
        package = package.write(name, labels);
        let config = r#"{"model": {}, "outputs": {}}"#;
        let jobs = format!("training:\n- cfg: c.json\n  train_labels: \"{name}\"\n");
        for (file, text) in [
            ("c.json", config),
            ("jobs.yaml", jobs.as_str()),
            ("train-script.sh", &format!("#!/bin/bash\nsleap-train c.json {name}\n")),
        ] {
            package = package.write(file, text);
        }
        let Run::TrainLegacy(train) = package.checked().runs.remove(0) else { panic!("{name}") };
        assert_eq!(train.labels.path.as_str(), name);
    }
}

#[test]
fn a_json_config_names_files_that_the_package_has_or_lacks() {
    let labels = Package::single().0.0["one.pkg.slp"].clone();
    let of = |config: &str| {
        let package =
            Package::single().write("c.json", config).write("models/old/best_model.h5", "x");
        package.write("train-script.sh", "sleap-train c.json one.pkg.slp\n")
    };
    for config in [
        r#"{"data": {"labels": {"validation_labels": "/home/ada/val.slp"}}}"#,
        r#"{"data": {"labels": {"test_labels": "D:\\val.slp"}}}"#,
        r#"{"model": {"base_checkpoint": "/home/ada/gone"}}"#,
    ] {
        let refusal = of(config).refusal();
        assert!(refusal.contains("the package lacks") && refusal.contains("c.json ("), "{refusal}");
    }
    let config = r#"{"data": {"labels": {"validation_labels": "/home/ada/val.slp"}},
        "model": {"base_checkpoint": "C:\\models\\old"}, "filename": "/home/ada/c.json"}"#;
    let checked = of(config).write("val.slp", labels).checked();
    let Run::TrainLegacy(train) = &checked.runs[0] else { panic!() };
    let files: Vec<_> = train.files.iter().map(|(_, path)| path.as_str()).collect();
    assert_eq!(files, ["val.slp", "models/old"]);
    assert_eq!(checked.remarks.len(), 2, "{:?}", checked.remarks);
}

#[test]
fn videos_are_found_where_the_package_lists_them() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    let outside = std::fs::read(fixtures.join("outside.slp")).unwrap();
    let package = Package::single().write("one.pkg.slp", outside);
    assert!(package.refusal().contains("C:/data/mice.mp4"), "{}", package.refusal());
    let folder = tempfile::tempdir().unwrap();
    let lab = folder.path().canonicalize().unwrap();
    let mounted = lab.join("mice.mp4");
    std::fs::write(&mounted, "").unwrap();
    let list = |place: &str| format!("[{{\"name\":\"C:/data/mice.mp4\",{place}}}]");
    let package = package.write("videos/0/mice.mp4", "");
    let on = |package: &Package, seen: &[&Path]| {
        let listing = package.0.listing();
        let files = view(&listing).seeing(|file| seen.contains(&Path::new(file)));
        check(&files, JobType::Training, MachineFacts::default())
    };
    let videos = |checked: Checked| match &checked.runs[..] {
        [Run::Train(train)] => train.videos.clone(),
        _ => panic!("one training"),
    };
    let none: [&Path; 0] = [];
    let mounts = [mounted.as_path()];
    let moved = |place: &str| vec![("C:/data/mice.mp4".to_owned(), place.to_owned())];
    let package = package.write("video-paths.json", list("\"package\":\"videos/0/mice.mp4\""));
    assert_eq!(videos(on(&package, &none).unwrap()), moved("videos/0/mice.mp4"));
    let package = package.write("video-paths.json", list("\"package\":\"gone.mp4\""));
    assert!(on(&package, &none).unwrap_err().to_string().contains("lacks gone.mp4"));
    let place = format!("\"worker\":\"{}\"", mounted.display());
    let package = package.write("video-paths.json", list(&place));
    assert_eq!(videos(on(&package, &mounts).unwrap()), moved(mounted.to_str().unwrap()));
    assert!(on(&package, &none).unwrap_err().to_string().contains("mounts"));
    for wrong in ["{", "[{\"name\":\"a\"}]", &list("\"package\":\"../a\"")] {
        let package = package.clone().write("video-paths.json", wrong);
        let package_refusal = on(&package, &none).unwrap_err().to_string();
        assert!(package_refusal.contains("video-paths.json"), "{package_refusal}");
    }
}

#[test]
fn configs_that_read_variables_or_files_of_the_worker_are_refused() {
    let secret = "${oc.env:WANDB_API_KEY}";
    let hidden = [
        ("provider", format!("  provider: \"x-{secret}\"")),
        // The parsed text counts, however it is written.
        ("provider", "  provider: \"\\x24{oc.env:HOME}\"".to_owned()),
        ("provider", "  provider: \"a $\\\n    {oc.env:HOME}\"".to_owned()),
        ("provider", format!("  provider: [[{{a: '{secret}'}}]]")),
        ("provider", format!("  \"{secret}\": LabelsReader")),
    ];
    for (key, line) in &hidden {
        let why = Package::single().config(key, line).train("").refusal();
        assert!(why.contains("interpolation") && why.contains(CONFIG), "{line}: {why}");
    }
    let labels = Package::single().0.text(CONFIG);
    let labels = labels.replace("- one.pkg.slp", &format!("- \"x-{secret}.slp\""));
    let why = Package::single().write(CONFIG, labels).train("").refusal();
    assert!(why.contains("interpolation"), "{why}");
}

#[test]
fn every_path_in_a_config_stays_in_the_package() {
    for written in ["/home/ada/profile", "~/profile", "../../job.json", "file:///etc/passwd"] {
        let line = format!("  profiler: \"{written}\"");
        let why = Package::single().config("profiler", &line).train("").refusal();
        assert!(why.contains(written) && why.contains("trainer_config.profiler"), "{why}");
        let in_mapping = format!("'trainer_config={{profiler: \"{written}\"}}'");
        for script in [format!("'trainer_config.profiler=\"{written}\"'"), in_mapping] {
            let why = Package::single().train(&script).refusal();
            assert!(why.contains(written), "{why}");
        }
    }
    for hidden in ["!!seq [/home/x.slp]", "[[/home/x.slp]]", "{a: /home/x.slp}"] {
        let why = Package::single()
            .config("test_file_path", &format!("  test_file_path: {hidden}"))
            .train("")
            .refusal();
        assert!(why.contains("/home/x.slp"), "{hidden}: {why}");
    }
    let why = Package::single().train("'trainer_config.profiler=[a,{b: /home/x}]'").refusal();
    assert!(why.contains("/home/x"), "{why}");
    let text = Package::single().0.text(CONFIG);
    for more in ["defaults: [other]", "hydra: {run: {dir: x}}", "# @package data_config"] {
        let why = Package::single().write(CONFIG, format!("{more}\n{text}")).train("").refusal();
        assert!(why.contains("Hydra reads further files"), "{more}: {why}");
    }
    // Labels and weights are found in the package by their bare names.
    for key in ["val_labels_path", "test_file_path", "pretrained_head_weights", "resume_ckpt_path"]
    {
        for written in ["/home/ada/secret.slp", "file:///home/ada/secret.slp", "../secret.slp"] {
            let why = Package::single().config(key, &format!("  {key}: {written}")).train("");
            assert!(why.refusal().contains("secret.slp"), "{key} {written}");
        }
    }
    let cached = Package::single().config("cache_img_path", "  cache_img_path: /home/ada/cache");
    let checked = cached.train("").checked();
    assert!(checked.remarks.iter().any(|remark| remark.contains("cache_img_path")));
    let folder = Package::single().config("ckpt_dir", "  ckpt_dir: /home/ada/models").train("");
    assert!(folder.checked().remarks.iter().any(|remark| remark.contains("/home/ada/models")));
}

#[test]
fn a_model_whose_config_has_an_interpolation_is_refused() {
    let package = Package::tracking().track("-o out.slp");
    let text = package.0.text("models/centroid/training_config.yaml");
    let text = text.replacen("provider: LabelsReader", "provider: ${oc.env:HOME}", 1);
    let package = package.write("models/centroid/training_config.yaml", text);
    let why = package.refusal();
    assert!(why.contains("models/centroid/training_config.yaml"), "{why}");
}

#[test]
fn a_file_that_stands_for_another_is_named_and_never_for_two() {
    let config = Package::single().0.text(CONFIG);
    let package = Package::single().write("conf/other.yaml", &config).write("x.yaml", &config);
    let script = |script: &str| package.clone().write("train-script.sh", script);
    for (text, taken) in [
        ("sleap-nn train -c ../../x.yaml -d .", "has no ./../../x.yaml; its x.yaml"),
        ("sleap-nn train -c x -d /home/ada/job", "has no /home/ada/job/x.yaml; its x.yaml"),
        ("sleap-nn train -c /home/ada/job/x.yaml -d .", "has no /home/ada/job/x.yaml; its x.yaml"),
        ("sleap-nn train -c 'D:\\job\\conf\\other.yaml'", "conf\\other.yaml; its conf/other.yaml"),
        ("sleap-nn train -c ~/conf/other.yaml", "has no ~/conf/other.yaml; its conf/other.yaml"),
        ("sleap-nn train -c deep/x.yaml", "has no deep/x.yaml; its x.yaml"),
        (
            "sleap-nn train x.yaml 'data_config.train_labels_path=[/data/one.pkg.slp]'",
            "x.yaml (data_config.train_labels_path): the package has no /data/one.pkg.slp; its one",
        ),
    ] {
        let remarks = script(text).checked().remarks;
        assert!(remarks.len() == 1 && remarks[0].contains(taken), "{text}: {remarks:?}");
    }
    for (text, why) in [
        ("sleap-nn train -c ../../y.yaml", "the package lacks ../../y.yaml, which train-script.sh"),
        ("sleap-nn train -c /a/b/y -d .", "the package lacks /a/b/y.yaml"),
        (
            "sleap-nn train x.yaml 'data_config.train_labels_path=[/a/one.pkg.slp]' \
             'data_config.val_labels_path=[/b/one.pkg.slp]'",
            "x.yaml names /a/one.pkg.slp and /b/one.pkg.slp, and the package has only one.pkg.slp",
        ),
    ] {
        let refusal = script(text).refusal();
        assert!(refusal.contains(why), "{text}: {refusal}");
    }
    let same = "sleap-nn train x.yaml 'data_config.train_labels_path=[/a/one.pkg.slp]' \
                'data_config.val_labels_path=[/a/one.pkg.slp]'";
    assert_eq!(script(same).checked().runs.len(), 1);
    let models = "sleap-nn track -i two.pkg.slp -m /a/models/centroid -m /b/models/centroid";
    let refusal = Package::tracking().write("track-script.sh", models).refusal();
    assert!(refusal.contains("names /a/models/centroid and /b/models/centroid"), "{refusal}");
}
