//! Packages and results as folders.

use super::{assert_well_behaved, fetch, join, results, submit};
use crate::support::*;
use std::fs;

/// Puts a folder of the browser's own in the place of the one that its user would choose.
const CHOOSE: &str = "window.showDirectoryPicker = () => navigator.storage.getDirectory()";
/// All files of that folder, with their sizes.
const LIST: &str = "
    const files = [];
    const walk = async (folder, below) => {
        for await (const [name, entry] of folder.entries()) {
            const path = below + name;
            if (entry.kind === 'directory') await walk(entry, path + '/');
            else files.push([path, (await entry.getFile()).size]);
        }
    };
    return navigator.storage.getDirectory().then(folder => walk(folder, '')).then(() => files)";

#[test]
fn a_folder_is_a_package_whether_chosen_or_dropped() {
    let site = Site::new();
    let Some(browser) = Browser::start(&site) else { return };
    let server = site.server();
    let worker = site.worker(&server);
    let package = unpacked(&site, "train_single.zip");
    fs::write(package.join(".DS_Store"), "of a Mac").unwrap();
    join(&browser, &worker);
    browser.click("nav button", "Train");
    browser.type_into("#folder", package.to_str().unwrap());
    browser.wait_text(".facts", "single_instance", SOON);
    browser.click("button", "Choose something else");
    browser.drop_on(".drop", &package);
    browser.wait_text(".facts", "single_instance", SOON);
    browser.click("button", "Start");
    browser.wait_text(".legend", "epoch", A_WHILE);
    browser.wait_text(".chip", "done", A_WHILE);
    // Without what the system has put there.
    let there = files_below(&results(&worker).parent().unwrap().join("files"));
    assert!(!there.iter().any(|path| path.ends_with(".DS_Store")), "{there:?}");
    assert!(there.iter().any(|path| path.ends_with("train-script.sh")), "{there:?}");
    assert_well_behaved(&browser, &server);
}

#[test]
fn a_result_is_saved_into_a_folder() {
    let site = Site::new();
    let Some(browser) = Browser::start(&site) else { return };
    let server = site.server();
    let worker = site.worker(&server);
    join(&browser, &worker);
    submit(&browser, &fixture("train_single.zip"));
    browser.wait_text(".chip", "done", A_WHILE);
    fetch(&browser, "best.ckpt");
    browser.run(CHOOSE);
    browser.click("button", "Save into a folder");
    browser.wait_text(".card", "Saved into", SOON);
    let listed = browser.run(LIST);
    let mut saved: Vec<(String, u64)> = serde_json::from_value(listed).unwrap();
    saved.sort();
    let folder = results(&worker);
    let size = |path: &std::path::PathBuf| folder.join(path).metadata().unwrap().len();
    let expected = files_below(&folder).into_iter();
    let mut expected: Vec<(String, u64)> = expected
        .map(|path| (format!("train_single-results/{}", path.display()), size(&path)))
        .collect();
    expected.sort();
    assert_eq!(saved, expected);
    assert_well_behaved(&browser, &server);
}
