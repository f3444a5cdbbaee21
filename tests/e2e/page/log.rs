//! The log of a trainer that says much.

use super::{assert_well_behaved, join, submit};
use crate::support::*;
use std::path::PathBuf;

const LINES: usize = 20_000;

/// Types into the log's search, and returns the milliseconds until its result is on the screen.
const SEARCH: &str = "
    const field = document.querySelector('[type=search]');
    const started = performance.now();
    field.value = 'line 15003 ';
    field.dispatchEvent(new Event('input', {bubbles: true}));
    return new Promise(done => setTimeout(
        () => requestAnimationFrame(() => setTimeout(() => done(performance.now() - started)))))";

#[test]
fn the_last_ten_thousand_lines_are_kept_and_searched_at_once() {
    let site = Site::new();
    let Some(browser) = Browser::start(&site) else { return };
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").trainers_in(&talkative_trainer(&site));
    let setup = setup.env("FAKE_SLEAP_EPOCHS", "100000").env("FAKE_SLEAP_BATCH_S", "0.2");
    let worker = setup.start(&server);
    join(&browser, &worker);
    submit(&browser, &fixture("train_single.zip"));
    browser.wait_text(".legend", "epoch 2", A_WHILE);
    browser.wait_text(".card", "the last 10000 lines, 400 shown", SOON);
    let took_ms = browser.run(SEARCH).as_f64().unwrap();
    println!("a search among 10,000 lines took {took_ms:.0} ms");
    assert!(took_ms < 1_000.0, "{took_ms} ms");
    assert_eq!(browser.wait_text(".log", "line 15003", SOON).lines().count(), 1);
    // What was typed stays while the training goes on, and so do the lines that fit.
    browser.wait_text(".legend", "epoch 6", A_WHILE);
    let typed = browser.run("return document.querySelector('[type=search]').value");
    assert_eq!(typed, "line 15003 ");
    assert_eq!(browser.texts(".log").join("").lines().count(), 1);

    browser.replace("[type=search]", "line");
    browser.click("button", "Show all lines");
    // One of the first lines that are kept, which is not among the 400 that were shown before.
    let all = browser.wait_text(".log", "line 11000 ", SOON);
    assert!(all.contains("line 20000 "), "the last lines are missing");
    assert!(!all.contains("line 10000 "), "more than 10,000 lines are kept");
    assert!(all.lines().count() > 9_000, "{} lines", all.lines().count());
    browser.click("button", "Stop early");
    browser.wait_text(".chip", "stopped early", A_WHILE);
    assert_well_behaved(&browser, &server);
}

/// A folder with a trainer that begins with many lines.
fn talkative_trainer(site: &Site) -> PathBuf {
    let folder = site.folder("talkative-trainer");
    let script = format!(
        "#!/bin/sh\n\
         case \"$*\" in\n\
         train*--help*) ;;\n\
         train*) seq -f 'line %g of many' 1 {LINES};;\n\
         esac\n\
         exec {}/sleap-nn \"$@\"\n",
        stand_in().display()
    );
    write_program(&folder.join("sleap-nn"), &script);
    folder
}
