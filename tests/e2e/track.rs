//! Inference jobs, from labels and models to predictions.

use crate::support::*;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn room_credentials_and_auto_select_bring_predictions() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let (labels, models) = labels_and_models(&site);
    let client = site.client(&server).track(&labels, &models).auto(worker.credentials());
    let predictions = client.predictions();
    let ended = client.run();
    ended.assert_code(0).assert_says(&[predictions.to_str().unwrap()]);
    // The stand-in's predictions are a copy of its input.
    assert_eq!(fs::read(predictions).unwrap(), fs::read(labels).unwrap());
    worker.wait_idle(&site, &server);
}

#[test]
fn a_session_string_brings_predictions() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let (labels, models) = labels_and_models(&site);
    let client = site.client(&server).track(&labels, &models).session(worker.credentials());
    let predictions = client.predictions();
    client.run().assert_code(0);
    assert!(predictions.is_file());
}

#[test]
fn model_paths_may_be_repeated() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let (labels, models) = labels_and_models(&site);
    let client = site.client(&server).track(&labels, &models[..1]).auto(worker.credentials());
    let predictions = client.predictions();
    client.arguments(&["--model-paths"]).argument(&models[1]).run().assert_code(0);
    assert!(predictions.is_file());
    let arguments = worker.trainer_starts()[0]["argv"].to_string();
    for model in ["centroid", "centered_instance"] {
        assert!(arguments.contains(model), "{arguments}");
    }
}

#[test]
fn models_that_were_just_trained_can_be_applied() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let client =
        site.client(&server).train(&fixture("train_single.zip")).auto(worker.credentials());
    let output = client.output();
    client.run().assert_code(0);
    let checkpoint = files_below(&output).into_iter().find(|file| file.ends_with("best.ckpt"));
    let model = output.join(checkpoint.unwrap().parent().unwrap());
    let labels = unpacked(&site, "train_single.zip").join("one.pkg.slp");
    let client = site.client(&server).track(&labels, &[model]).auto(worker.credentials());
    let predictions = client.predictions();
    client.run().assert_code(0);
    assert!(predictions.is_file());
}

#[test]
fn labels_that_are_not_there_are_refused_before_connecting() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let (_, models) = labels_and_models(&site);
    let client = site.client(&server).track("gone.slp".as_ref(), &models);
    client.auto(worker.credentials()).run_within(SOON).assert_code(2).assert_says(&["gone.slp"]);
    assert!(worker.trainer_starts().is_empty());
}

#[test]
fn a_model_may_be_named_by_its_checkpoint_and_files_as_the_user_likes() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let (labels, models) = labels_and_models(&site);
    let odd = site.folder("odd").join("-my $labels (1).slp");
    fs::copy(&labels, &odd).unwrap();
    let checkpoints: Vec<_> = models.iter().map(|model| model.join("best.ckpt")).collect();
    let client = site.client(&server).track(&odd, &checkpoints).auto(worker.credentials());
    let predictions = client.predictions();
    client.run().assert_code(0);
    assert!(predictions.is_file());
    let arguments = worker.trainer_starts()[0]["argv"].to_string();
    for model in ["\"models/centroid\"", "\"models/centered_instance\""] {
        assert!(arguments.contains(model), "{arguments}");
    }
}

#[test]
fn a_folder_without_a_model_is_refused_before_connecting() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let (labels, _) = labels_and_models(&site);
    let client = site.client(&server).track(&labels, &[site.folder("empty")]);
    let ended = client.auto(worker.credentials()).run_within(SOON);
    ended.assert_code(2).assert_says(&["empty", "training_config"]);
}

#[test]
fn files_that_are_mixed_up_are_named_as_they_were_typed() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let (labels, models) = labels_and_models(&site);
    let track = |data: &Path, models: &[PathBuf]| {
        let client = site.client(&server).track(data, models).auto(worker.credentials());
        client.run_within(SOON)
    };
    let copy = site.folder("copy");
    fs::create_dir_all(copy.join(models[0].file_name().unwrap())).unwrap();
    let copy = copy.join(models[0].file_name().unwrap());
    for file in files_below(&models[0]) {
        fs::copy(models[0].join(&file), copy.join(&file)).unwrap();
    }
    let twice = track(&labels, &[models[0].clone(), copy.clone()]);
    let typed = [&models[0], &copy].map(|model| model.to_str().unwrap());
    twice.assert_code(2).assert_says(&[typed[0], typed[1], "do not predict together"]);
    let package = track(&fixture("train_single.zip"), &models);
    package.assert_code(2).assert_says(&["train_single.zip is a zip", "training package"]);
}

#[test]
fn frames_are_chosen_by_their_numbers() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let (labels, models) = labels_and_models(&site);
    let client = |frames: &str| {
        let client = site.client(&server).track(&labels, &models).session(worker.credentials());
        client.arguments(&["--frames", frames])
    };
    let ended = client("5000-6000").run_within(SOON);
    ended.assert_code(2).assert_says(&["none of the frames", "it holds 12 frames, from 0 to 11"]);
    assert!(worker.trainer_starts().is_empty());
    client("0-2,5,100").run().assert_code(0).assert_says(&["4 of the 12 frames"]);
    let arguments = worker.trainer_starts()[0]["argv"].to_string();
    assert!(arguments.contains(r#""--video_index","0","--frames","0,1,2,5""#), "{arguments}");
}

#[test]
fn videos_that_labels_name_are_sent_along_or_named() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let (_, models) = labels_and_models(&site);
    let labels = site.folder("outside").join("mice.slp");
    fs::copy(fixture("outside.slp"), &labels).unwrap();
    let client = || site.client(&server).track(&labels, &models).session(worker.credentials());
    let ended = client().run_within(SOON);
    ended.assert_code(2).assert_says(&["C:/data/mice.mp4", "put the video beside the labels"]);
    fs::write(labels.with_file_name("mice.mp4"), "a video").unwrap();
    client().run().assert_code(0).assert_says(&["mice.mp4 is sent along"]);
}

#[test]
fn only_the_files_of_a_model_that_a_tracker_reads_are_sent() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let (labels, models) = labels_and_models(&site);
    let run = models[0].join("wandb");
    fs::create_dir(&run).unwrap();
    std::os::unix::fs::symlink("/nowhere", run.join("latest-run")).unwrap();
    fs::write(models[0].join("last.ckpt"), vec![7; 3_000_000]).unwrap();
    let client = site.client(&server).track(&labels, &models).session(worker.credentials());
    let ended = client.run();
    ended.assert_code(0);
    assert!(!ended.stderr.contains(" MB"), "{}", ended.stderr);
}
