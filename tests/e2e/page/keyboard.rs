//! The page by the keyboard alone, and as a screen reader finds it.

use super::{assert_same, assert_well_behaved, results, slow_worker};
use crate::support::keys::{ENTER, HOME};
use crate::support::*;

/// Goes to what has this name, and presses Enter.
#[track_caller]
fn enter(browser: &Browser, name: &str) {
    browser.tab_to(name);
    browser.press(ENTER);
}

#[test]
fn a_package_becomes_a_model_by_the_keyboard_alone() {
    let site = Site::new();
    let Some(browser) = Browser::start(&site) else { return };
    let server = site.server();
    let worker = slow_worker(&site, &server);
    browser.open(&format!("http://{}/app/", server.address()));
    browser.wait_text("h2", "Join a room", SOON);
    browser.tab_to("Code, link");
    browser.press(&worker.page_link());
    browser.press(ENTER);
    browser.wait_text(".worker", "available", SOON);

    enter(&browser, "Train");
    browser.tab_to("Choose a zip");
    browser.give_file(&fixture("train_single.zip"));
    browser.wait_text(".facts", "single_instance", SOON);
    // What was pressed is gone; the keyboard is at what has come.
    enter(&browser, "Start");
    browser.wait_text(".legend", "epoch 2", A_WHILE);
    browser.tab_to("Losses of single_instance");
    browser.press(HOME);
    browser.wait_text(".legend", "epoch 1", SOON);
    let found = browser.accessible();
    for wanted in [
        "main ",
        "navigation Screens",
        "heading train_single",
        "status ",
        "image Losses of single_instance",
        "group Scale of the losses",
        "button Stop early, keep the model",
        "searchbox Search the log",
        "log Log",
    ] {
        let is_found = found.iter().any(|node| node.starts_with(wanted));
        assert!(is_found, "a screen reader finds no {wanted:?} in {found:#?}");
    }
    enter(&browser, "Cancel…");
    // A screen reader hears of a question at once.
    wait_for("a question", SOON, || {
        browser.accessible().iter().any(|node| node.starts_with("alert ")).then_some(())
    });
    enter(&browser, "Keep it running");
    enter(&browser, "Stop early");
    browser.wait_text(".chip", "stopped early", A_WHILE);
    enter(&browser, "Fetch the results");
    browser.wait_text(".files", "best.ckpt", SOON);
    enter(&browser, "Save all as a zip");
    assert_same(&browser.downloaded("-results.zip"), &results(&worker));
    assert_well_behaved(&browser, &server);
}
