//! Predictions: labels or a video go, predictions come back.

use super::{assert_same, assert_well_behaved, fetch, join, results, submit};
use crate::support::*;

#[test]
fn models_of_an_earlier_job_predict_in_labels() {
    let site = Site::new();
    let Some(browser) = Browser::start(&site) else { return };
    let server = site.server();
    let worker = site.worker(&server);
    let (labels, _) = labels_and_models(&site);
    join(&browser, &worker);
    submit(&browser, &fixture("train_single.zip"));
    browser.wait_text(".chip", "done", A_WHILE);
    // Its models are fetched by themselves, also after a reload.
    browser.reload();
    browser.click("nav button", "Track");
    browser.type_into("#data", labels.to_str().unwrap());
    browser.wait_text(".files", "two.pkg.slp", SOON);
    browser.click("button", "Models of train_single");
    browser.wait_text(".files", "Remove", SOON);
    browser.picture("track");
    browser.click("button", "Review");
    let facts = browser.wait_text(".facts", "tracking", SOON);
    assert!(facts.contains("single_instance"), "{facts}");
    browser.picture("track-package");
    browser.click("button", "Start");
    browser.wait_text("h2", "two.pkg", SOON);
    browser.wait_text(".chip", "done", A_WHILE);
    fetch(&browser, "predictions.slp");
    browser.picture("track-results");
    assert_well_behaved(&browser, &server);
}

#[test]
fn a_folder_with_models_predicts_in_a_video() {
    let site = Site::new();
    let Some(browser) = Browser::start(&site) else { return };
    let server = site.server();
    let worker = site.worker(&server);
    let (_, models) = labels_and_models(&site);
    let video = site.folder("videos").join("mice.mp4");
    std::fs::write(&video, b"\0\0\0\x18ftypmp42 frames").unwrap();
    join(&browser, &worker);
    browser.click("nav button", "Track");
    browser.type_into("#model", models[0].parent().unwrap().to_str().unwrap());
    browser.wait_text(".files", "centered_instance", SOON);
    // What is no model is said in the words of the command line.
    browser.type_into("#model", video.parent().unwrap().to_str().unwrap());
    browser.wait_text(".problem", "training_config.yaml", SOON);
    browser.type_into("#data", video.to_str().unwrap());
    browser.click("label", "--tracking");
    browser.click("button", "Review");
    browser.wait_text(".facts", "tracking", SOON);
    browser.click("button", "Start");
    browser.wait_text(".chip", "done", A_WHILE);
    let started = std::fs::read_to_string(worker.trainer_log()).unwrap();
    for word in ["mice.mp4", "models/centroid", "models/centered_instance", "--tracking"] {
        assert!(started.contains(word), "no {word} in {started}");
    }
    fetch(&browser, "predictions.slp");
    browser.click("button", "Save all as a zip");
    assert_same(&browser.downloaded("-results.zip"), &results(&worker));
    assert_well_behaved(&browser, &server);
}

#[test]
fn text_is_no_data_in_the_words_of_the_command_line() {
    let site = Site::new();
    let Some(browser) = Browser::start(&site) else { return };
    let server = site.server();
    let worker = site.worker(&server);
    let (_, models) = labels_and_models(&site);
    let notes = site.folder("notes").join("notes.txt");
    std::fs::write(&notes, "frames 1 to 9\n").unwrap();
    browser.open(&worker.page_link());
    browser.click("nav button", "Track");
    browser.type_into("#model", models[0].to_str().unwrap());
    browser.type_into("#data", notes.to_str().unwrap());
    browser.click("button", "Review");
    let words = "notes.txt is a text file, and a prediction needs labels (.slp) or a video";
    browser.wait_text(".problem", words, SOON);
    assert!(worker.jobs().is_empty());
}
