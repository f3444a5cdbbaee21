//! The core of the page in Firefox, where that is installed.

use super::{assert_same, fetch, results, slow_worker};
use crate::support::*;

#[test]
fn firefox_joins_trains_watches_across_a_reload_and_fetches() {
    let site = Site::new();
    let Some(browser) = Browser::start_firefox(&site) else { return };
    let server = site.server();
    let worker = slow_worker(&site, &server);
    browser.open(&worker.page_link());
    browser.wait_text(".worker", "Test GPU 16000", SOON);
    assert!(!browser.url().contains('#'), "the token stays in the address: {}", browser.url());
    browser.click("nav button", "Train");
    browser.type_into("#package", fixture("train_single.zip").to_str().unwrap());
    browser.wait_text(".facts", "single_instance", SOON);
    browser.click("button", "Start");
    browser.wait_text(".legend", "epoch 2", A_WHILE);
    browser.reload();
    browser.click("nav button", "train_single");
    browser.wait_text(".legend", "validation", SOON);
    browser.picture("firefox");
    browser.wait_text(".chip", "done", A_WHILE);
    fetch(&browser, "best.ckpt");
    browser.click("button", "Save all as a zip");
    assert_same(&browser.downloaded("-results.zip"), &results(&worker));
}
