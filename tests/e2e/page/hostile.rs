//! Texts of workers, trainers and users are texts, whatever is in them.

use super::{assert_well_behaved, join};
use crate::support::*;
use serde_json::json;
use std::fs;
use std::net::Ipv4Addr;

#[test]
fn a_hostile_name_is_shown_as_a_text() {
    let site = Site::new();
    let Some(browser) = Browser::start(&site) else { return };
    let server = site.server();
    let name = "<script>window.hacked = 1</script>";
    let setup = TestWorker::setup(&site, "worker");
    let gpus = format!("gpus = [{{ model = {name:?}, memory_mib = 16000 }}]\n");
    let worker = setup.detect_gpus().config(&gpus).start(&server);
    browser.open(&worker.page_link());
    browser.wait_text(".worker", name, SOON);
    assert!(browser.run("return window.hacked === undefined").as_bool().unwrap());
    assert_well_behaved(&browser, &server);
}

/// Markup, a change of direction, and what a terminal would obey.
const EVIL: &str = "<img src=x onerror=hacked()>\u{202e}\u{1b}[2J";

#[track_caller]
fn assert_harmless(shown: &str) {
    assert!(shown.contains("<img src=x onerror=hacked()>"), "{shown}");
    assert!(!shown.contains(['\u{202e}', '\u{1b}']), "{shown:?}");
}

#[test]
fn a_hostile_worker_and_its_refusal_are_shown_as_texts() {
    let site = Site::new();
    let Some(browser) = Browser::start(&site) else { return };
    let server = site.server();
    let worker = site.worker(&server);
    let job = json!({"owner": "peer-x", "user": EVIL, "since_ms": 0, "job_type": "training"});
    let properties = json!({
        "hostname": EVIL, "status": "available", "protocols": ["sleap-rtc/1"], "sleap_version": EVIL,
        "gpus": [{"model": EVIL.repeat(50), "memory_mib": 99_000}], "jobs": [job], "queue": [],
        "max_concurrent_jobs": 2, "slots_free": 1,
    });
    let metadata = json!({"tags": [], "properties": properties});
    let credentials = worker.credentials();
    let at = (credentials.room_id.as_str(), credentials.token.as_str());
    let own = Ipv4Addr::LOCALHOST;
    let mut evil = Observer::join_from(own, "worker", metadata, server.address(), at);
    join(&browser, &worker);
    let shown = browser.wait_text(".worker", "<img src=x", SOON);
    assert_harmless(&shown);
    assert!(shown.len() < 2_000, "{} bytes of a worker are shown", shown.len());

    browser.click("nav button", "Train");
    browser.type_into("#package", fixture("train_single.zip").to_str().unwrap());
    // The first choice, to choose automatically, names the worker too.
    browser.click(".choice + .choice label", "<img src=x");
    browser.click("button", "Start");
    let asked = evil.receive("peer_message");
    let payload = json!({
        "app_message_type": "job_response", "job_id": asked["payload"]["job_id"], "accepted": false,
        "reason": "busy", "message": EVIL.repeat(1_000),
    });
    let (from, to) = (evil.peer_id().to_owned(), asked["from_peer_id"].clone());
    evil.send(&json!({
        "type": "peer_message", "from_peer_id": from, "to_peer_id": to, "payload": payload,
    }));
    let said = browser.wait_text(".problem", "<img src=x", SOON);
    assert_harmless(&said);
    assert!(said.len() < 5_000, "{} bytes of a reason are shown", said.len());
    browser.picture("hostile");
    assert_well_behaved(&browser, &server);
}

#[test]
fn a_hostile_log_and_a_hostile_reason_are_shown_as_texts() {
    let site = Site::new();
    let Some(browser) = Browser::start(&site) else { return };
    let server = site.server();
    let worker = TestWorker::setup(&site, "worker").trainers_in(&hostile_trainer(&site));
    let worker = worker.start(&server);
    join(&browser, &worker);
    browser.click("nav button", "Train");
    // The name of a file is the user's, and may come from somebody else.
    let named = site.folder("named").join("<img src=x onerror=hacked()>.zip");
    fs::copy(fixture("train_single.zip"), &named).unwrap();
    browser.type_into("#package", named.to_str().unwrap());
    browser.click("button", "Start");
    browser.wait_text(".chip", "failed", A_WHILE);
    let log = browser.wait_text(".log", "<script>window.hacked = 1</script>", SOON);
    assert!(!log.contains('\u{202e}'), "text runs backwards");
    assert!(log.contains("the last line"), "{} bytes of a log", log.len());
    assert!(log.len() < 100_000, "{} bytes of a log are shown", log.len());
    // It stays quick.
    browser.type_into("[type=search]", "last");
    let others = || browser.texts(".log").join("").contains("<script>");
    wait_for("only the lines that were searched for", SOON, || (!others()).then_some(()));
    browser.wait_text(".log", "the last line", SOON);
    assert!(browser.run("return window.hacked === undefined").as_bool().unwrap());
    assert_well_behaved(&browser, &server);
}

/// A folder with a trainer that writes what a terminal or a page might obey, and lines of 1 MB.
fn hostile_trainer(site: &Site) -> std::path::PathBuf {
    let folder = site.folder("hostile-trainer");
    let script = format!(
        "#!/bin/sh\n\
         case \"$*\" in\n\
         train*--help*) ;;\n\
         train*)\n\
         printf '<script>window.hacked = 1</script>\\n\\033[2J\\342\\200\\256backwards\\n'\n\
         head -c 1000000 /dev/zero | tr '\\0' x; echo\n\
         echo 'the last line'\n\
         echo '<b onclick=hacked()>the reason</b>' >&2\n\
         exit 3;;\n\
         esac\n\
         exec {}/sleap-nn \"$@\"\n",
        stand_in().display()
    );
    write_program(&folder.join("sleap-nn"), &script);
    folder
}
