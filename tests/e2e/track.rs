//! Inference jobs, from labels and models to predictions.

use crate::support::*;
use std::fs;

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
    // The stand-in predicts exactly what it was given.
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
