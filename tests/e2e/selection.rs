//! The choice of the worker that gets the job.

use crate::support::*;
use std::time::Duration;

/// Asserts that a folder of models was trained by this worker and no other.
#[track_caller]
fn assert_jobs(worker: &TestWorker, jobs: usize) {
    assert_eq!(worker.trainer_starts().len(), jobs, "jobs of {}", worker.peer_id());
}

#[test]
fn auto_select_takes_the_worker_with_the_larger_gpu() {
    let site = Site::new();
    let server = site.server();
    let (small, large) = TestWorker::small_and_large(&site, &server, 0.02);
    let client = site.client(&server).train(&fixture("train_single.zip")).auto(small.credentials());
    let ended = client.run();
    ended.assert_code(0).assert_says(&[large.peer_id()]);
    assert_jobs(&large, 1);
    assert_jobs(&small, 0);
}

#[test]
fn auto_select_takes_the_other_when_the_larger_is_busy() {
    let site = Site::new();
    let server = site.server();
    let (small, large) = TestWorker::small_and_large(&site, &server, 1.0);
    let package = fixture("train_single.zip");
    let first = site.client(&server).train(&package).auto(small.credentials());
    let second = site.client(&server).train(&package).auto(small.credentials());
    let outputs = [first.output(), second.output()];
    let mut first = first.start();
    wait_for("the first job", SOON, || large.trainer_starts().pop());
    let mut second = second.start();
    wait_for("the second job", SOON, || small.trainer_starts().pop());
    assert!(first.try_wait().is_none(), "both jobs at the same time");
    assert_eq!(second.wait(A_WHILE), 0, "{}", second.transcript());
    assert_eq!(first.wait(A_WHILE), 0, "{}", first.transcript());
    for output in outputs {
        assert!(files_below(&output).iter().any(|file| file.ends_with("best.ckpt")));
    }
    assert_jobs(&large, 1);
    assert_jobs(&small, 1);
}

#[test]
fn a_job_on_each_worker_gives_each_client_its_own_models() {
    let site = Site::new();
    let server = site.server();
    let (small, large) = TestWorker::small_and_large(&site, &server, 0.3);
    let start = |package, worker: &TestWorker| {
        let client = site.client(&server).train(&fixture(package)).room(worker.credentials());
        let client = client.arguments(&["--worker-id", worker.peer_id()]);
        (client.output(), client.start())
    };
    let (single, mut first) = start("train_single.zip", &small);
    let (topdown, mut second) = start("train_topdown.zip", &large);
    assert_eq!(first.wait(A_WHILE), 0, "{}", first.transcript());
    assert_eq!(second.wait(A_WHILE), 0, "{}", second.transcript());
    let names = |folder| {
        let files = files_below(folder);
        files.iter().map(|file| file.display().to_string()).collect::<String>()
    };
    assert!(names(&single).contains("single_instance") && !names(&single).contains("centroid"));
    assert!(names(&topdown).contains("centroid") && !names(&topdown).contains("single_instance"));
}

#[test]
fn worker_id_goes_where_it_says() {
    let site = Site::new();
    let server = site.server();
    let (small, large) = TestWorker::small_and_large(&site, &server, 0.02);
    let client = site.client(&server).train(&fixture("train_single.zip"));
    let client = client.room(small.credentials()).arguments(&["--worker-id", small.peer_id()]);
    client.run().assert_code(0);
    assert_jobs(&small, 1);
    assert_jobs(&large, 0);
}

#[test]
fn a_worker_id_that_nobody_has_ends_with_code_4() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let client = site.client(&server).train(&fixture("train_single.zip"));
    let client = client.room(worker.credentials()).arguments(&["--worker-id", "nobody"]);
    client.run().assert_code(4).assert_says(&["nobody"]);
}

#[test]
fn a_room_without_workers_ends_with_code_4() {
    let site = Site::new();
    let server = TestServer::persistent(&site);
    let mut worker = site.worker(&server);
    let credentials = worker.credentials().clone();
    worker.stop();
    let client = site.client(&server).train(&fixture("train_single.zip")).auto(&credentials);
    client.run_within(SOON).assert_code(4).assert_says(&["no", "worker"]);
}

#[test]
fn too_high_a_demand_ends_with_code_4() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let client = site.client(&server).train(&fixture("train_single.zip"));
    let client = client.auto(worker.credentials()).arguments(&["--min-gpu-memory", "99000"]);
    client.run_within(SOON).assert_code(4).assert_says(&["99000"]);
    assert_jobs(&worker, 0);
}

#[test]
fn a_wrong_room_or_token_ends_with_code_3() {
    let site = Site::new();
    let server = site.server();
    let right = site.worker(&server).credentials().clone();
    let wrong_room = Credentials { room_id: "0".repeat(8), ..right.clone() };
    let wrong_token = Credentials { token: "0".repeat(32), ..right };
    for (wrong, word) in [(wrong_room, "room"), (wrong_token, "token")] {
        let client = site.client(&server).train(&fixture("train_single.zip")).auto(&wrong);
        let ended = client.run_within(SOON);
        ended.assert_code(3).assert_says(&[word]);
        assert!(!ended.text().contains(&wrong.token), "the token was printed");
    }
}

#[test]
fn a_server_that_is_not_there_ends_with_code_3() {
    let site = Site::new();
    let mut server = site.server();
    let credentials = site.worker(&server).credentials().clone();
    server.kill();
    let client = site.client(&server).train(&fixture("train_single.zip")).auto(&credentials);
    let ended = client.run_within(SOON);
    ended.assert_code(3).assert_says(&[&server.address().to_string()]);
}

#[test]
fn the_list_shows_each_available_worker_and_a_number_selects() {
    let site = Site::new();
    let server = site.server();
    let (small, large) = TestWorker::small_and_large(&site, &server, 0.02);
    let client = site.client(&server).train(&fixture("train_single.zip"));
    let mut client = client.room(small.credentials()).on_terminal().start();
    let list = client.wait_stdout("the list of both workers", SOON, |text| {
        let both = text.contains(small.peer_id()) && text.contains(large.peer_id());
        let prompt = both && text.contains("refresh");
        prompt.then(|| text.to_owned())
    });
    for words in ["Test GPU 8000", "Test GPU 24000", "available"] {
        assert!(list.contains(words), "no {words:?} in:\n{list}");
    }
    let line = list.lines().find(|line| line.contains(small.peer_id())).unwrap();
    let number: String = line.chars().filter(char::is_ascii_digit).take(1).collect();
    client.type_line(&number);
    assert_eq!(client.wait(A_WHILE), 0, "{}", client.transcript());
    assert_jobs(&small, 1);
    assert_jobs(&large, 0);
}

#[test]
fn refresh_keeps_the_filter_and_finds_a_worker_that_came_later() {
    let site = Site::new();
    let server = site.server();
    let first = TestWorker::setup(&site, "first").gpu_mib(16_000).start(&server);
    let credentials = first.credentials();
    let client = site.client(&server).train(&fixture("train_single.zip")).room(credentials);
    let client = client.arguments(&["--min-gpu-memory", "10000"]);
    let mut client = client.on_terminal().start();
    client.wait_stdout("the first list", SOON, |text| text.contains(first.peer_id()).then_some(()));
    let setup = |name, mib| TestWorker::setup(&site, name).gpu_mib(mib).join(credentials);
    let below = setup("below", 4_000).start(&server);
    let later = setup("later", 24_000).start(&server);
    client.type_line("refresh");
    client
        .wait_stdout("the later worker", SOON, |text| text.contains(later.peer_id()).then_some(()));
    client.type_line("r");
    client.wait_stdout("the third list", SOON, |text| {
        (text.matches(later.peer_id()).count() >= 2).then_some(())
    });
    assert!(!client.stdout().contains(below.peer_id()), "refresh lost the filter");
    client.type_line("q");
    assert_eq!(client.wait(SOON), 130, "{}", client.transcript());
    for worker in [&first, &below, &later] {
        assert_jobs(worker, 0);
    }
}

#[test]
fn busy_workers_are_not_in_the_list() {
    let site = Site::new();
    let server = site.server();
    let (small, large) = TestWorker::small_and_large(&site, &server, 2.0);
    let package = fixture("train_single.zip");
    let mut first = site.client(&server).train(&package).auto(small.credentials()).start();
    wait_for("the first job", SOON, || large.trainer_starts().pop());
    let client = site.client(&server).train(&package).room(small.credentials());
    let mut client = client.on_terminal().start();
    client.wait_stdout("the list", SOON, |text| text.contains(small.peer_id()).then_some(()));
    assert!(!client.stdout().contains(large.peer_id()), "{}", client.stdout());
    client.type_line("q");
    client.wait(SOON);
    first.kill();
}

#[test]
fn without_a_terminal_the_prompt_is_an_error_that_names_the_flags() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let client = site.client(&server).train(&fixture("train_single.zip"));
    let ended = client.room(worker.credentials()).run_within(SOON);
    ended.assert_code(2).assert_says(&["--auto-select", "--worker-id"]);
    assert_jobs(&worker, 0);
}

#[test]
fn the_decision_and_its_reason_are_one_line_for_the_user() {
    let site = Site::new();
    let server = site.server();
    let (small, large) = TestWorker::small_and_large(&site, &server, 0.02);
    let client = site.client(&server).train(&fixture("train_single.zip")).auto(small.credentials());
    let ended = client.run();
    ended.assert_code(0);
    let text = ended.text();
    let line = text.lines().find(|line| line.contains(large.peer_id())).expect("a line about it");
    assert!(line.contains("24000") || line.contains("24,000"), "no reason in {line:?}");
    assert!(ended.took < Duration::from_secs(60));
}
