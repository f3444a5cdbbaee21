//! The files that a package names: taken from it, replaced, or refused.

use super::*;

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
fn missing_videos_are_named() {
    let outside = include_bytes!("../../../../../tests/fixtures/outside.slp");
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
