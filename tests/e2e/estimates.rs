//! A worker learns from its jobs how long the next one takes, and refuses one that does not fit into its GPU.

use crate::queue::Waiting;
use crate::support::*;
use std::path::{Path, PathBuf};

/// A worker whose training takes two seconds, most of which are batches.
fn setup(site: &Site) -> WorkerSetup {
    let setup = TestWorker::setup(site, "worker").env("FAKE_SLEAP_BATCH_S", "0.1");
    setup.env("FAKE_SLEAP_STEPS", "10")
}

fn train(site: &Site, server: &TestServer, worker: &TestWorker, package: &Path) -> TestClient {
    site.client(server).train(package).session(worker.credentials())
}

/// What the client said to expect.
fn expected(text: &str) -> &str {
    let said = text.lines().find_map(|line| line.strip_prefix("Expected to take about "));
    said.unwrap_or_else(|| panic!("no estimate in:\n{text}"))
}

/// What `estimates --local` prints about the jobs of `worker`.
fn table(site: &Site, server: &TestServer, worker: &TestWorker) -> String {
    let estimates = site.client(server).arguments(&["estimates", "--local", "--state-dir"]);
    let ended = estimates.argument(worker.state_dir()).run();
    ended.assert_code(0);
    ended.stdout
}

/// Waits until the table says `words`.
fn wait_table(site: &Site, server: &TestServer, worker: &TestWorker, words: &str) -> String {
    wait_for(&format!("{words:?} in the table"), A_WHILE, || {
        Some(table(site, server, worker)).filter(|found| found.contains(words))
    })
}

#[test]
fn the_second_job_is_estimated_from_the_first() {
    let site = Site::new();
    let server = site.server();
    let worker = setup(&site).start(&server);
    let package = fixture("train_single.zip");
    assert!(table(&site, &server, &worker).contains("no job with an estimate"));

    let first = train(&site, &server, &worker, &package).run();
    first.assert_code(0);
    // Two epochs of half a minute, by the rule of thumb.
    assert_eq!(expected(&first.stderr), "60 s (15 s to 4 min)");
    let seen = wait_table(&site, &server, &worker, "training single_instance");
    assert!(seen.lines().nth(1).is_some_and(|row| row.trim_start().starts_with("1 ")), "{seen}");

    let second = train(&site, &server, &worker, &package).run();
    second.assert_code(0);
    let (seconds, _) = expected(&second.stderr).split_once(' ').unwrap();
    let seconds: f64 = seconds.parse().unwrap();
    // Two epochs of ten batches of a tenth of a second, and the trainer's start.
    assert!((1.0..30.0).contains(&seconds), "{}", second.stderr);

    // A worker that starts again remembers.
    let worker = worker.restart(&[]);
    let third = train(&site, &server, &worker, &package).run();
    third.assert_code(0);
    assert!(!expected(&third.stderr).starts_with("60 s"), "{}", third.stderr);
    let seen = wait_table(&site, &server, &worker, "   3 ");
    println!("{seen}");
}

#[test]
fn a_job_that_ended_while_the_worker_was_away_is_recorded_once() {
    let site = Site::new();
    let server = site.server();
    let mut worker = setup(&site).start(&server);
    let mut client = train(&site, &server, &worker, &fixture("train_single.zip")).start();
    client.wait_stdout("the trainer's log", SOON, |text: &str| {
        text.contains("Starting training loop").then_some(())
    });
    worker.kill();
    let job = std::fs::read_dir(worker.state_dir().join("jobs")).unwrap().next().unwrap().unwrap();
    wait_for("the job's end", A_WHILE, || {
        let record = std::fs::read_to_string(job.path().join("job.json")).unwrap();
        record.contains("succeeded").then_some(())
    });
    assert!(table(&site, &server, &worker).contains("no job with an estimate"));
    let worker = worker.start_again("");
    let seen = wait_table(&site, &server, &worker, "training single_instance");
    assert!(!seen.contains("more did not succeed"), "{seen}");
    let worker = worker.restart(&[]);
    client.wait(A_WHILE);
    let again = wait_table(&site, &server, &worker, "training single_instance");
    assert_eq!(seen, again);
}

#[test]
fn while_a_training_runs_the_room_and_the_clients_list_say_how_long_it_still_takes() {
    let site = Site::new();
    let server = site.server();
    let worker = setup(&site).env("FAKE_SLEAP_EPOCHS", "200").start(&server);
    let mut observer = Observer::join(&server, worker.credentials());
    let client = train(&site, &server, &worker, &training(&site, "trainer_config.max_epochs=200"));
    let home = client.home().to_owned();
    let mut client = client.start();
    let seen = observer.wait_properties(worker.peer_id(), "the time that is left", |seen| {
        seen["jobs"][0]["progress"]["left"]["seconds"].as_u64().is_some_and(|left| left > 60)
    });
    let progress = &seen["jobs"][0]["progress"];
    assert_eq!(progress["epochs"], 200);
    // The package stops early on a plateau.
    assert_eq!(progress["left"]["at_most"], true, "{progress}");
    let said = wait_for("how far it is", SOON, || {
        let text = client.stdout();
        text.lines().find(|line| line.contains(" of 200: ")).map(str::to_owned)
    });
    let is_so =
        said.starts_with("Epoch ") && said.contains(", at most ") && said.ends_with(" left");
    assert!(is_so, "{said}");
    wait_for("how far it is, in the list", SOON, || {
        let listed = site.client(&server).in_home(&home).arguments(&["jobs"]).run();
        listed.assert_code(0).text().contains(" of 200, at most ").then_some(())
    });
    client.kill();
}

/// The training of one model with these settings.
pub fn training(site: &Site, settings: &str) -> PathBuf {
    let script = format!(
        "sleap-nn train --config-name single_instance.yaml --config-dir . {settings} \
         trainer_config.ckpt_dir=models trainer_config.run_name=single_instance\n"
    );
    let zip = Zip::new(site, "labels.pkg.zip");
    let zip = zip.fixture("train_single.zip", "", &["train-script.sh"]);
    zip.file("train-script.sh", script.as_bytes()).finish()
}

#[test]
fn a_training_that_cannot_fit_is_refused_before_the_upload() {
    let site = Site::new();
    let server = site.server();
    let worker = setup(&site).gpu_mib(4_000).start(&server);
    let of_batches = |size: u32| {
        let batches = format!("trainer_config.train_data_loader.batch_size={size}");
        training(&site, &format!("{batches} trainer_config.trainer_accelerator=auto"))
    };
    let package = of_batches(20_000);
    let refused = train(&site, &server, &worker, &package).run();
    refused.assert_code(5).assert_says(&["of GPU memory, has 4,000 MB", "instead of 20000 fits"]);
    assert!(!refused.stderr.contains("upload"), "{}", refused.stderr);
    assert_eq!(worker.jobs().len(), 0);
    let room = site.client(&server).train(&package).auto(worker.credentials()).run();
    assert!(room.code == 4 || room.code == 5, "{}", room.text());
    room.assert_says(&["of GPU memory, has 4,000 MB"]);
    assert!(!room.text().contains("--wait"), "it never fits: {}", room.text());

    // As many as the refusal says.
    let (_, rest) = refused.stderr.split_once("a batch size of ").unwrap();
    let fits: u32 = rest.split_whitespace().next().unwrap().parse().unwrap();
    let close = train(&site, &server, &worker, &of_batches(fits)).run();
    close
        .assert_code(0)
        .assert_says(&["Warning: training single_instance needs about", "smaller batch"]);
    let small = train(&site, &server, &worker, &of_batches(4)).run();
    assert!(!small.assert_code(0).text().contains("Warning"), "{}", small.text());
    // The machine's memory is not a GPU's.
    let worker = TestWorker::setup(&site, "cpu").gpu_mib(0).start(&server);
    train(&site, &server, &worker, &package).run().assert_code(0);
}

#[test]
fn the_gpu_memory_that_a_training_has_held_is_recorded() {
    let site = Site::new();
    let server = site.server();
    let Some(driver) = Driver::new(&site) else { return };
    let holds = |held_mib: u64| {
        let free = format!(", {}, 0,", 16_000 - held_mib);
        driver.lists(&gpu_row(0, 16_000).replace(", 16000, 0,", &free));
    };
    holds(500);
    let setup = setup(&site).detect_gpus().trainers_in(driver.folder());
    let worker = setup.env("FAKE_SLEAP_EPOCHS", "100000").start(&server);
    let mut observer = Observer::join(&server, worker.credentials());
    let mut sees = |held_mib: u64| {
        wait_for("the GPU's memory in the room", A_WHILE, || {
            let seen = observer.properties(worker.peer_id());
            (seen["gpus"][0]["memory_free_mib"] == 16_000 - held_mib).then_some(())
        });
    };
    sees(500);
    let package = training(&site, "trainer_config.trainer_accelerator=auto");
    let mut job = Waiting::start(train(&site, &server, &worker, &package));
    job.sees("started on");
    holds(4_500);
    sees(4_500);
    holds(2_000);
    job.command(&site, &server, "stop").assert_code(0);
    assert_eq!(job.process.wait(A_WHILE), 0, "{}", job.process.transcript());
    // Nobody else held anything, so the job did.
    let file = worker.state_dir().join("history.sqlite");
    wait_for("the record of the job", SOON, || {
        let file = rusqlite::Connection::open(&file).ok()?;
        let record: String = file.query_row("SELECT record FROM job", [], |row| row.get(0)).ok()?;
        assert!(record.contains("\"peak_memory_mib\":4000"), "{record}");
        Some(())
    });
}
