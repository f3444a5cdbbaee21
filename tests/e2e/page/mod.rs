//! The client for browsers, in Chromium: as a person uses it, and against people who mean it no good.
//!
//! | module | what it tests |
//! |---|---|
//! | `firefox` | the core in another browser |
//! | `folders` | packages and results as folders |
//! | `hostile` | texts of others |
//! | `keyboard` | the keyboard alone, and screen readers |
//! | `large` | rates, memory, and what is sent twice |
//! | `log` | a log of many lines |
//! | `tracking` | predictions |

mod firefox;
mod folders;
mod hostile;
mod keyboard;
mod large;
mod log;
mod tracking;

use crate::members::room;
use crate::support::invitation::{verification_words, wrong};
use crate::support::*;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use zip::ZipArchive;

/// A worker whose training lasts long enough to be watched.
fn slow_worker(site: &Site, server: &TestServer) -> TestWorker {
    let setup = TestWorker::setup(site, "worker");
    let setup = setup.env("FAKE_SLEAP_EPOCHS", "14").env("FAKE_SLEAP_STEPS", "2");
    setup.env("FAKE_SLEAP_BATCH_S", "0.5").start(server)
}

/// Opens the worker's link, and waits until the page shows the worker.
fn join(browser: &Browser, worker: &TestWorker) {
    browser.open(&worker.page_link());
    browser.wait_text(".worker", "available", SOON);
}

/// Gives the page a package, and starts its job.
fn submit(browser: &Browser, package: &Path) {
    browser.click("nav button", "Train");
    browser.type_into("#package", package.to_str().unwrap());
    browser.click("button", "Start");
}

/// Fetches the results, and waits for a file of this name.
fn fetch(browser: &Browser, name: &str) {
    browser.click("button", "Fetch the results");
    browser.wait_text(".files", name, SOON);
}

/// Nothing has violated the page's policy, and nobody but the server was asked for anything.
fn assert_well_behaved(browser: &Browser, server: &TestServer) {
    let log = browser.log();
    let bad = |line: &&String| line.contains("SEVERE") || line.contains("Content Security Policy");
    assert_eq!(log.iter().filter(bad).collect::<Vec<_>>(), Vec::<&String>::new());
    let (http, ws) =
        (format!("http://{}/", server.address()), format!("ws://{}/", server.address()));
    let is_own = |url: &String| {
        [http.as_str(), &ws, "blob:", "data:", "chrome:", "about:"]
            .iter()
            .any(|own| url.starts_with(own))
    };
    let requests = browser.requests();
    assert!(requests.len() > 5, "{requests:?}");
    let others: Vec<_> = requests.iter().filter(|url| !is_own(url)).collect();
    assert_eq!(others, Vec::<&String>::new());
}

/// Every file below `folder` is in the zip, byte by byte, and nothing else is.
#[track_caller]
fn assert_same(zip: &Path, folder: &Path) {
    let mut archive = ZipArchive::new(File::open(zip).unwrap()).unwrap();
    let expected = files_below(folder);
    assert_eq!(archive.len(), expected.len());
    for path in expected {
        let mut content = Vec::new();
        archive.by_name(path.to_str().unwrap()).unwrap().read_to_end(&mut content).unwrap();
        assert!(content == fs::read(folder.join(&path)).unwrap(), "{} differs", path.display());
    }
}

/// The folder of the only job's results on the worker.
fn results(worker: &TestWorker) -> std::path::PathBuf {
    let jobs = fs::read_dir(worker.state_dir().join("jobs")).unwrap().flatten();
    let folders: Vec<_> = jobs.map(|job| job.path().join("results")).collect();
    assert_eq!(folders.len(), 1, "{folders:?}");
    folders[0].clone()
}

#[test]
fn a_link_leads_to_the_workers_and_a_package_to_its_model_across_a_reload() {
    let site = Site::new();
    let Some(browser) = Browser::start(&site) else { return };
    let server = site.server();
    let worker = slow_worker(&site, &server);
    // The link is for a page that is open already, too.
    browser.open(&format!("http://{}/app/", server.address()));
    browser.wait_text("h2", "Join a room", SOON);
    browser.open(&worker.page_link());
    browser.wait_text(".worker", "Test GPU 16000", SOON);
    assert!(!browser.url().contains('#'), "the token stays in the address: {}", browser.url());
    browser.picture("workers");

    browser.click("nav button", "Train");
    browser.picture("new-job");
    browser.type_into("#package", fixture("train_single.zip").to_str().unwrap());
    let described = browser.wait_text(".facts", "Models", SOON);
    assert!(described.contains("single_instance"), "{described}");
    assert!(worker.jobs().is_empty(), "something was sent before the user has agreed");
    browser.picture("package");

    browser.click("button", "Start");
    browser.wait_text(".legend", "epoch 2", A_WHILE);
    browser.picture("training");
    browser.prefer("dark");
    browser.picture("training-dark");
    browser.prefer("light");

    browser.reload();
    browser.click("nav button", "train_single");
    let legend = browser.wait_text(".legend", "epoch", SOON);
    assert!(legend.contains("validation"), "{legend}");
    browser.resize(420, 900);
    browser.picture("training-phone");
    browser.resize(1280, 1000);

    browser.wait_text(".chip", "done", A_WHILE);
    assert!(browser.texts(".log").join("").contains("Finished training"));
    fetch(&browser, "best.ckpt");
    browser.picture("results");
    browser.click("button", "Save all as a zip");
    assert_same(&browser.downloaded("-results.zip"), &results(&worker));
    assert_well_behaved(&browser, &server);
}

#[test]
fn an_upload_goes_on_after_a_reload_and_is_not_made_twice() {
    let site = Site::new();
    let Some(browser) = Browser::start(&site) else { return };
    let server = site.server();
    let worker = site.worker(&server);
    let package = large_package(&site, 60_000_000);
    join(&browser, &worker);
    submit(&browser, &package);
    browser.wait_text("section .card", "MB/s", A_WHILE);
    browser.picture("sending");
    browser.reload();
    browser.click("nav button", "large");
    browser.wait_text("section .card", "already on", A_WHILE);
    browser.wait_text(".chip", "done", A_WHILE);

    submit(&browser, &package);
    browser.wait_text("section .card", "60 MB already there", A_WHILE);
    browser.wait_text(".chip", "done", A_WHILE);
    assert_well_behaved(&browser, &server);
}

#[test]
fn a_training_is_stopped_early_and_what_it_has_learned_is_kept() {
    let site = Site::new();
    let Some(browser) = Browser::start(&site) else { return };
    let server = site.server();
    let worker = slow_worker(&site, &server);
    let package = unpacked(&site, "train_single.zip");
    let config = package.join("single_instance.yaml");
    let settings = fs::read_to_string(&config).unwrap();
    fs::write(config, settings.replace("max_epochs: 2\n", "max_epochs: 14\n")).unwrap();
    join(&browser, &worker);
    browser.click("nav button", "Train");
    browser.type_into("#folder", package.to_str().unwrap());
    browser.click("button", "Start");
    browser.wait_text(".legend", "epoch", A_WHILE);
    // In the words of the command line.
    let said = browser.wait_text(".curve .now", " left", A_WHILE);
    assert!(said.starts_with("epoch ") && said.contains(" of 14, "), "{said}");
    browser.wait_text("section .card", &said[..said.find(',').unwrap()], SOON);
    browser.click("button", "Stop early");
    browser.wait_text(".chip", "stopped early", A_WHILE);
    fetch(&browser, "best.ckpt");
    assert_well_behaved(&browser, &server);
}

/// Opens the page at the server, and gives it a pairing code.
fn pair(browser: &Browser, server: &TestServer, code: &str) {
    browser.open(&format!("http://{}/app/", server.address()));
    give(browser, code);
}

fn give(browser: &Browser, code: &str) {
    browser.type_into("#key", code);
    browser.click("button", "Join");
}

#[test]
fn a_code_admits_a_browser_until_it_is_removed() {
    let site = Site::new();
    let Some(browser) = Browser::start(&site) else { return };
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").config("room_name = \"northlab\"\n");
    let worker = setup.start(&server);
    let mut invitation = TestInvitation::of(&worker, &[]);
    let code = invitation.code().to_uppercase().replace('-', " ");
    pair(&browser, &server, &code);
    let said = browser.wait_text(".paired", "Paired with room \"northlab\" (worker ", SOON);
    browser.picture("paired");
    assert_eq!(invitation.wait(), 0, "{}", invitation.text());
    assert_eq!(verification_words(&said), verification_words(&invitation.text()));
    assert!(invitation.text().contains("Chrome-on-Linux (client)"), "{}", invitation.text());
    // The worker admits it by its certificate: it has no other proof.
    let rooms = browser.run("return localStorage.getItem('sleap-rtc rooms')");
    let token = rooms.as_str().unwrap().split("\"token\":\"").nth(1).unwrap();
    let peer = token.split('.').nth(1).unwrap().split('"').next().unwrap();
    assert!(peer.len() < 50, "the room's secret is in {peer}");

    browser.reload();
    browser.wait_text(".place", "northlab", SOON);
    submit(&browser, &fixture("train_single.zip"));
    browser.wait_text(".chip", "done", A_WHILE);

    room(&worker, &["remove", "Chrome-on-Linux"]).assert_code(0);
    // The page would choose no worker whose slot is not free yet.
    browser.click("nav button", "Workers");
    browser.wait_text(".worker", "available", SOON);
    submit(&browser, &fixture("train_single.zip"));
    browser.wait_text(".problem", "was removed from the room", SOON);
    browser.picture("removed");
    assert_eq!(worker.jobs().len(), 1);
    assert_well_behaved(&browser, &server);
}

#[test]
fn a_code_that_does_not_admit_a_browser_is_refused_in_the_words_of_the_command_line() {
    let site = Site::new();
    let Some(browser) = Browser::start(&site) else { return };
    let server = site.server();
    let worker = site.worker(&server);
    let refused = |code: &str, words: &[&str]| {
        pair(&browser, &server, code);
        let said = browser.wait_text(".problem", words[0], SOON);
        for word in words {
            assert!(said.contains(word), "{word:?} is not in {said:?}");
        }
    };
    refused("4-harbour-violin", &["no pairing code has the word", "is it \"harbor\"?"]);
    refused("4-harbor-violin", &["no worker waits for a code that begins with 4", "room invite"]);
    let mut invitation = TestInvitation::of(&worker, &[]);
    let guess = wrong(invitation.code());
    refused(&guess, &["does not accept this code", "this code is spent"]);
    browser.picture("wrong-code");
    // The worker's next code is good, for the role that it was made for.
    pair(&browser, &server, invitation.next_code());
    browser.wait_text(".paired", "Verify if you like", SOON);
    let for_worker = TestInvitation::of(&worker, &["--worker"]);
    browser.click("button", "Leave room");
    give(&browser, for_worker.code());
    browser.wait_text(".problem", "this code is for a worker, not for a client", SOON);
    assert_well_behaved(&browser, &server);
}

#[test]
fn a_job_waits_in_line_at_a_busy_worker() {
    let site = Site::new();
    let Some(browser) = Browser::start(&site) else { return };
    let server = site.server();
    let worker = TestWorker::setup(&site, "worker").env("FAKE_SLEAP_BATCH_S", "0.1");
    let worker = worker.env("FAKE_SLEAP_EPOCHS", "100000").start(&server);
    let client = site.client(&server).train(&fixture("train_single.zip"));
    let client = client.auto(worker.credentials());
    let home = client.home().to_owned();
    let mut first = client.start();
    let job = first.wait_stderr("its start", SOON, |text| {
        let (_, rest) = text.split_once("sleap-rtc attach ")?;
        text.contains("started on").then(|| rest.split_once('`').unwrap().0.to_owned())
    });

    browser.open(&worker.page_link());
    browser.wait_text(".worker", "busy", SOON);
    browser.click("nav button", "Train");
    browser.type_into("#package", fixture("train_single.zip").to_str().unwrap());
    browser.wait_text(".choices", "it can wait in line", SOON);
    browser.click("button", "Start");
    browser.wait_text(".problem", "No worker takes the job.", SOON);
    browser.click("button", "Wait in line");
    let said = browser.wait_text("section .card", "1st in line", A_WHILE);
    assert!(said.contains("Queued on ") && said.contains("you"), "{said}");
    browser.picture("waiting");
    // Its place outlives the page.
    browser.reload();
    browser.click("nav button", "train_single");
    browser.wait_text("section .card", "1st in line", SOON);
    assert_eq!(browser.texts(".controls button"), ["Cancel…"]);

    let stop = site.client(&server).in_home(&home).arguments(&["stop", &job]);
    stop.run_within(SOON).assert_code(0);
    assert_eq!(first.wait(A_WHILE), 0, "{}", first.transcript());
    browser.wait_text(".legend", "epoch", A_WHILE);
    browser.click("button", "Stop early");
    browser.wait_text(".chip", "stopped early", A_WHILE);
    assert_well_behaved(&browser, &server);
}

#[test]
fn a_job_keeps_its_place_while_the_worker_checks_its_trainer() {
    let site = Site::new();
    let Some(browser) = Browser::start(&site) else { return };
    let server = site.server();
    let (tools, answer) = (site.folder("tools"), site.folder("answer").join("now"));
    let wait = format!("until [ -e {} ]; do sleep 0.05; done", answer.display());
    let text = format!("#!/bin/sh\n{wait}\nexec {}/sleap-nn \"$@\"\n", stand_in().display());
    write_program(&tools.join("sleap-nn"), &text);
    // In a sandbox the trainer would not see the file.
    let worker = TestWorker::setup(&site, "worker").config("sandbox = \"off\"\n");
    let worker = worker.trainers_in(&tools).start(&server);
    browser.open(&worker.page_link());
    browser.click("nav button", "Train");
    browser.type_into("#package", fixture("train_single.zip").to_str().unwrap());
    browser.click("button", "Start");
    browser.wait_text("section .card", "it has just started and is checking its trainer", A_WHILE);
    std::fs::write(&answer, "").unwrap();
    browser.wait_text(".chip", "done", A_WHILE);
    assert_well_behaved(&browser, &server);
}

#[test]
fn a_file_that_is_no_package_is_refused_in_the_words_of_the_command_line() {
    let site = Site::new();
    let Some(browser) = Browser::start(&site) else { return };
    let server = site.server();
    let worker = site.worker(&server);
    browser.open(&worker.page_link());
    browser.click("nav button", "Train");
    let labels = large_labels(&site, 100_000);
    browser.type_into("#package", labels.to_str().unwrap());
    browser.wait_text(
        ".problem",
        "it is a SLEAP labels file (HDF5), not a training job package",
        SOON,
    );
    browser.picture("no-package");
    assert!(worker.jobs().is_empty());
}

#[test]
fn a_room_is_forgotten_with_its_jobs_and_their_secrets() {
    let site = Site::new();
    let Some(browser) = Browser::start(&site) else { return };
    let server = site.server();
    let worker = site.worker(&server);
    join(&browser, &worker);
    submit(&browser, &fixture("train_single.zip"));
    browser.wait_text(".chip", "done", A_WHILE);
    let kept = || browser.run("return JSON.stringify(localStorage)").as_str().unwrap().to_owned();
    let room = worker.credentials().room_id.as_str();
    assert!(kept().contains(room), "{}", kept());
    browser.click("button", "Leave room");
    browser.wait_text(".rooms", "Enter", SOON);
    browser.picture("rooms");
    browser.click(".rooms button", "Forget");
    wait_for("the end of the room", SOON, || (!kept().contains(room)).then_some(()));
    assert!(!kept().contains(worker.credentials().server_token()), "{}", kept());
    browser.reload();
    browser.wait_text("h2", "Join a room", SOON);
    assert_eq!(browser.texts(".rooms"), Vec::<String>::new());
    assert_well_behaved(&browser, &server);
}

#[test]
fn a_server_serves_no_page_if_its_operator_wants_none() {
    let site = Site::new();
    let (address, off) = ([127, 0, 0, 1].into(), "[signaling]\npage = false\n");
    let server = TestServer::configured(&site, address, off);
    let worker = site.worker(&server);
    assert!(!worker.stdout().contains("/app/"), "{}", worker.stdout());
}
