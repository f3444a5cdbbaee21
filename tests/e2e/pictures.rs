//! Draws the pictures of the documentation: `cargo xtask pictures`.

use crate::support::*;
use std::fs;
use std::path::{Path, PathBuf};

/// The most lines of a page in a picture.
const HEIGHT: u32 = 900;

/// Where the pictures are.
fn folder() -> PathBuf {
    let folder = tests_folder().join("../docs/pictures");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// A worker on a machine of this name.
fn worker(site: &Site, name: &str, gpu: &str) -> WorkerSetup {
    let gpus = format!("gpus = [{{ model = {gpu:?}, memory_mib = 24564 }}]\n");
    let script = format!("hostname {name}; exec \"$@\"");
    let setup = TestWorker::setup(site, name).detect_gpus().config(&gpus);
    let setup = setup.config("room_name = \"northlab\"\n");
    let setup = setup.env("FAKE_SLEAP_STEPS", "2").env("FAKE_SLEAP_BATCH_S", "0.1");
    setup.env("FAKE_SLEAP_JITTER", "0.12").under(&["unshare", "--uts", "sh", "-c", &script, "sh"])
}

/// A package with two models of 60 epochs, as a user would call it.
fn package(site: &Site) -> PathBuf {
    let package = site.folder("packages").join("mice");
    fs::rename(unpacked(site, "train_topdown.zip"), &package).unwrap();
    for model in ["centroid.yaml", "centered_instance.yaml"] {
        let config = fs::read_to_string(package.join(model)).unwrap();
        let config = config.replace("max_epochs: 2\n", "max_epochs: 60\n");
        fs::write(package.join(model), config).unwrap();
    }
    package
}

fn keep(browser: &Browser, name: &str) {
    browser.keep(&folder().join(name).with_extension("webp"), HEIGHT);
}

fn keep_screen(screen: &TmuxScreen, columns: u16, name: &str) {
    let shown = screen.coloured();
    let svg = terminal_picture::svg(&shown, columns);
    fs::write(folder().join(name).with_extension("svg"), svg).unwrap();
}

#[test]
#[ignore = "writes pictures for the documentation; run `cargo xtask pictures`"]
fn of_every_screen() {
    let site = Site::new();
    let browser = Browser::start(&site).expect("a browser");
    let server = site.server();
    let first = worker(&site, "gpu1", "NVIDIA RTX A5000").start(&server);
    let second = worker(&site, "gpu2", "NVIDIA GeForce RTX 4090");
    let _second = second.join(first.credentials()).start(&server);
    let package = package(&site);
    browser.resize(1180, 1000);
    browser.open(&format!("http://{}/app/", server.address()));
    browser.wait_text("h2", "Join a room", SOON);
    keep(&browser, "page-join");

    let home = terminal(&site, &server, &first, &package, || {
        browser.open(&first.page_link());
        browser.wait_text(".worker", "gpu2", SOON);
        browser.wait_text(".running", "epoch", A_WHILE);
        keep(&browser, "page-room");
    });
    report(&site, &server, &home, &browser);
    page(&site, &browser, &first, &package);
}

/// A training in a terminal, and its room in another. Returns the user's folder.
fn terminal(
    site: &Site,
    server: &TestServer,
    worker: &TestWorker,
    package: &Path,
    meanwhile: impl FnOnce(),
) -> PathBuf {
    let train = site.client(server).env("USER", "ada").train(package);
    let train = train.session(worker.credentials());
    let home = train.home().to_owned();
    let training = TmuxScreen::open(site, &train, 88, 20).expect("tmux");
    meanwhile();
    let top = site.client(server).in_home(&home).arguments(&["top"]).room(worker.credentials());
    let top = TmuxScreen::open(site, &top, 88, 24).expect("tmux");
    training.wait("centered_instance  epoch 45", A_WHILE);
    keep_screen(&training, 88, "view");
    top.wait("centered_instance", SOON);
    keep_screen(&top, 88, "top");
    top.press(&["q"]);
    assert_eq!(training.wait_end(A_WHILE), 0);
    home
}

fn report(site: &Site, server: &TestServer, home: &Path, browser: &Browser) {
    let command = |words: &[&str]| site.client(server).in_home(home).arguments(words).run();
    let jobs = command(&["jobs"]).stdout;
    let job = jobs.split_whitespace().next().unwrap();
    command(&["report", job]).assert_code(0);
    let html = home.join("models").join(format!("sleap-rtc-report-{job}.html"));
    browser.open(&format!("file://{}", html.display()));
    // The folder of this test says nothing to a reader.
    browser.run(&format!(
        "for (const e of document.querySelectorAll('td'))
             e.textContent = e.textContent.replace({:?}, '/home/ada')",
        home.to_str().unwrap()
    ));
    keep(browser, "report");
}

/// The page, from a package to its result.
fn page(site: &Site, browser: &Browser, worker: &TestWorker, package: &Path) {
    browser.open(&worker.page_link());
    browser.click("nav button", "Train");
    browser.wait_text("#main", "Choose a zip", SOON);
    keep(browser, "page-train");
    browser.type_into("#folder", package.to_str().unwrap());
    browser.wait_text(".facts", "Models", SOON);
    keep(browser, "page-package");
    browser.click("button", "Start");
    browser.wait_text(".curve:nth-of-type(3) .legend", "epoch 45", A_WHILE);
    keep(browser, "page-training");
    browser.prefer("dark");
    keep(browser, "page-training-dark");
    browser.prefer("light");
    browser.resize(420, 900);
    keep(browser, "page-training-phone");
    browser.resize(1180, 1000);
    browser.wait_text(".chip", "done", A_WHILE);
    browser.click("button", "Fetch the results");
    browser.wait_text(".files", "best.ckpt", SOON);
    keep(browser, "page-results");
    let (labels, _) = labels_and_models(site);
    browser.click("nav button", "Track");
    browser.type_into("#data", labels.to_str().unwrap());
    browser.click("button", "Models of mice");
    browser.wait_text(".files", "Remove", SOON);
    keep(browser, "page-track");
}
