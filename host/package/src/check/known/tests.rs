use super::*;
use crate::config::Config;
use crate::script::{ConfigOverride, Value};

/// What the script of a package sets.
fn changes(arguments: &[&str]) -> Vec<ConfigOverride> {
    let split = |argument: &&str| {
        let (key, value) = argument.split_once('=').unwrap();
        ConfigOverride { key: key.to_owned(), value: Value::parse(value) }
    };
    arguments.iter().map(split).collect()
}

fn checked(config: &str, arguments: &[&str], installed: Option<&str>) -> Result<(), String> {
    let config = Config::read(config).unwrap();
    check(&Settings { config: &config, changes: &changes(arguments) }, installed)
}

#[test]
fn a_setting_with_a_typing_error_is_refused_with_the_one_that_is_meant() {
    for (config, meant) in [
        ("trainer_config:\n  max_epoch: 3\n", "max_epoch; did you mean trainer_config.max_epochs?"),
        (
            "trainer_config:\n  batch_size: 3\n",
            "did you mean trainer_config.train_data_loader.batch_size?",
        ),
        (
            "trainer_confg:\n  max_epochs: 3\n",
            "no setting trainer_confg; did you mean trainer_config?",
        ),
        (
            "trainer_config.max_epochs: 3\n",
            "\"trainer_config.max_epochs\"; did you mean trainer_config",
        ),
        ("outputs:\n  run_name: a\n", "up to 0.3.5 has no setting outputs: leave it out"),
        (
            "model_config:\n  backbone_config:\n    unet:\n      filter_rate: 2\n",
            "did you mean model_config.backbone_config.unet.filters_rate?",
        ),
    ] {
        let why = checked(config, &[], None).unwrap_err();
        assert!(why.contains(meant), "{config}: {why}");
    }
    let why = checked("a: 1\n", &["trainer_config.optimiser.lr=1e-3"], None).unwrap_err();
    assert!(why.contains("no setting a"), "{why}");
    let why = checked("name: x\n", &["trainer_config.optimiser.lr=1e-3"], None).unwrap_err();
    assert!(
        why.contains("trainer_config.optimiser; did you mean trainer_config.optimizer?"),
        "{why}"
    );
}

#[test]
fn what_a_newer_version_may_know_is_left_to_it() {
    let config = "trainer_config:\n  warp: 9\n";
    assert!(checked(config, &[], Some("0.3.5")).is_err());
    assert_eq!(checked(config, &[], Some("0.3.6")), Ok(()));
    assert_eq!(checked(&format!("sleap_nn_version: 0.4.0\n{config}"), &[], None), Ok(()));
    assert!(checked(&format!("sleap_nn_version: 0.3.5\n{config}"), &[], None).is_err());
}

#[test]
fn values_are_of_the_type_that_the_trainer_wants() {
    for (setting, wanted) in [
        ("trainer_config.max_epochs=9.0", "is 9.0, and sleap-nn wants a whole number"),
        ("trainer_config.max_epochs=true", "a whole number"),
        ("trainer_config.max_epochs=null", "is null, and sleap-nn wants a whole number, not null"),
        ("trainer_config.use_wandb=maybe", "is \"maybe\", and sleap-nn wants true or false"),
        ("trainer_config.use_wandb=1.5", "true or false"),
        ("trainer_config.optimizer.lr=fast", "a number"),
        ("trainer_config.optimizer.lr=0", "wants >0"),
        ("trainer_config.optimizer=Adam", "a mapping of names to values"),
        ("trainer_config.optimizer=null", "not null"),
        ("trainer_config.optimizer_name=SGD", "wants Adam, AdamW"),
        ("trainer_config.run_name=[a]", "a text"),
        ("trainer_config.trainer_device_indices=[a]", "a list of whole numbers"),
        ("data_config.train_labels_path=x.slp", "a list of texts"),
        ("data_config.preprocessing.crop_size=None", "a whole number"),
        ("data_config.augmentation_config.geometric.rotation_max=200", "wants <=180"),
        ("trainer_config.eval.frequency=0", "wants >=1"),
        ("trainer_config.seed=-1", "wants >=0"),
        ("trainer_config.seed=0x10", "a whole number"),
        ("trainer_config.train_data_loader.num_workers=-1", "wants >=0"),
    ] {
        let why = checked("name: x\n", &[setting], None).unwrap_err();
        assert!(why.contains(wanted), "{setting}: {why}");
    }
    for setting in [
        "trainer_config.max_epochs=\"9\"",
        "trainer_config.max_epochs=1_000",
        "trainer_config.use_wandb=yes",
        "trainer_config.use_wandb=2",
        "trainer_config.optimizer.lr=1",
        "trainer_config.optimizer.lr=\"1e-3\"",
        "trainer_config.run_name=5",
        "trainer_config.train_data_loader.num_workers=auto",
        "trainer_config.lr_scheduler=null",
        "trainer_config.seed=null",
        "data_config.train_labels_path=[5]",
        "data_config.skeletons=[{a: 1}]",
        "model_config.backbone_config.convnext.arch.depths=[3,3]",
    ] {
        assert_eq!(checked("name: x\n", &[setting], None), Ok(()), "{setting}");
    }
}

#[test]
fn what_the_script_replaces_or_removes_does_not_count() {
    let config = "trainer_config:\n  max_epochs: many\n  warp: {a: 1}\n";
    let config = Config::read(config).unwrap();
    let mut changes = changes(&["trainer_config.max_epochs=3"]);
    changes.push(ConfigOverride { key: "trainer_config.warp".into(), value: Value::Removed });
    assert_eq!(check(&Settings { config: &config, changes: &changes }, None), Ok(()));
}

#[test]
fn the_version_that_a_config_needs_is_that_of_its_newest_setting() {
    let needs = |config: &str| {
        let config = Config::read(config).unwrap();
        let needed = needed(&Settings { config: &config, changes: &[] }).unwrap();
        format!("{} {}", needed.version, needed.key)
    };
    let old = "model_config:\n  init_weights: xavier\nsleap_nn_version: 0.3.5\n";
    assert!(needs(old).starts_with("0.0.5 "), "{}", needs(old));
    let newer = "data_config:\n  preprocessing:\n    crop_mode: fixed\n";
    assert_eq!(needs(newer), "0.3.5 data_config.preprocessing.crop_mode");
    let unlisted = "sleap_nn_version: 0.4.1\ntrainer_config:\n  warp: 9\n";
    assert_eq!(needs(unlisted), "0.4.1 trainer_config.warp");
}

#[test]
fn versions_are_compared_by_their_numbers() {
    assert!(
        is_newer("0.3.10", "0.3.9") && is_newer("0.4", "0.3.5") && is_newer("0.4.0rc1", "0.3.5")
    );
    assert!(!is_newer("0.3", "0.3.0") && !is_newer("unknown", "0.3.5") && !is_newer("0.3.5", "x"));
}

/// `SLEAP_NN=/path/of/sleap-nn cargo nextest run -p sleap-rtc-package --run-ignored only installed`
#[test]
#[ignore = "needs a real sleap-nn, named by SLEAP_NN"]
fn every_setting_of_an_installed_sleap_nn_is_known() {
    let program = std::path::PathBuf::from(std::env::var("SLEAP_NN").expect("SLEAP_NN names it"));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../xtask/sleap-nn/settings.py");
    let python = program.with_file_name("python");
    let output = std::process::Command::new(python).arg(script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let version = Version::parse(lines.next().unwrap()).unwrap();
    let theirs: std::collections::HashMap<&str, &str> =
        lines.filter_map(|line| line.split_once(' ')).collect();
    assert!(theirs.len() > 200, "{text}");
    for (key, kind) in &theirs {
        let known = KNOWN.get(*key).unwrap_or_else(|| panic!("{key} {kind} is not in the list"));
        assert!(known.since <= version, "{version} has {key} already");
        // A kind that has become wider is in the list as it is now.
        let name = ValueKind::ALL.iter().find(|(_, kind)| *kind == known.kind).unwrap().0;
        let own = format!("{name}{}", if known.may_be_null { "?" } else { "" });
        assert!(known.kind == ValueKind::Any || own == *kind, "{key} is {kind}, not {own}");
    }
    for (key, known) in KNOWN.iter().filter(|(_, known)| known.since <= version) {
        let is_dropped =
            key.ends_with("embedding.loss_weight") || key.ends_with("proximity_filter_px");
        assert!(
            is_dropped || theirs.contains_key(key.as_str()),
            "{version} has no {key}: {known:?}"
        );
    }
}
