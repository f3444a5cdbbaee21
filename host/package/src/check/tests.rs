//! Checks of whole packages before anything runs.

use super::*;
use crate::script::{Model, Value};
use crate::tests::{MemoryFiles, fixture, view};
use std::path::Path;

mod files;
mod labels;
mod predictions;

/// A package in memory that trains one model.
#[derive(Clone)]
struct Package(MemoryFiles);

const CONFIG: &str = "single_instance.yaml";

impl Package {
    fn single() -> Self {
        Self(MemoryFiles::of(&fixture("train_single.zip")))
    }

    fn tracking() -> Self {
        Self(MemoryFiles::of(&fixture("track_topdown.zip")))
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
fn a_model_whose_config_has_an_interpolation_is_refused() {
    let package = Package::tracking().track("-o out.slp");
    let text = package.0.text("models/centroid/training_config.yaml");
    let text = text.replacen("provider: LabelsReader", "provider: ${oc.env:HOME}", 1);
    let package = package.write("models/centroid/training_config.yaml", text);
    let why = package.refusal();
    assert!(why.contains("models/centroid/training_config.yaml"), "{why}");
}
