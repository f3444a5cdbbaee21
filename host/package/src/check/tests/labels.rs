//! What labels must have for a training.

use super::*;

#[test]
fn files_that_are_not_labels_are_refused() {
    let package = Package::single().write("one.pkg.slp", "hello");
    assert!(package.refusal().contains("one.pkg.slp is not a SLEAP labels file"));
    let package = Package::tracking().write("two.pkg.slp", "hello");
    assert!(package.refusal().contains("two.pkg.slp is not a SLEAP labels file"));
    let whole = include_bytes!("../../../../../tests/fixtures/outside.slp");
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
    let empty = include_bytes!("../../../../../tests/fixtures/no-frames.slp");
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
