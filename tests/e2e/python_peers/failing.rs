//! Peers that vanish or fall silent at each stage of a job. The cases of a test mostly wait, so
//! they run in parallel, each on its own site.

use super::*;
use std::{thread, time::Instant};

/// Runs `case` for each stage at once.
fn each(stages: &[&str], case: impl Fn(&str) + Sync) {
    thread::scope(|scope| {
        for stage in stages {
            let case = &case;
            scope.spawn(move || case(stage));
        }
    });
}

/// Minutes in practice. A vanished peer is noticed earlier, except while bytes are in flight.
const PATIENCE: &str = "[client]\npython_silence = \"30 s\"\n";
const LITTLE_PATIENCE: &str = "[client]\npython_silence = \"4 s\"\npython_run_silence = \"4 s\"\n";

/// Asserts that our client ends with one of `codes`, and a useful message.
fn python_worker_fails(how: &str, stage: &str, codes: &[i32]) {
    let setup = Setup { python: &[how, stage], ..Setup::default() };
    let Some(mut pair) = Pair::with(PYTHON, setup) else { return };
    pair.client_config = if how == "--silent" { LITTLE_PATIENCE } else { PATIENCE };
    let start = Instant::now();
    let package = fixture("train_topdown.zip");
    let (code, text) = pair.train(Native, Session, &package, &[]).unwrap().end();
    let took_s = start.elapsed().as_secs_f64();
    println!("Python worker {how} {stage}: our client ended with {code} after {took_s:.1} s");
    assert!(codes.contains(&code), "{stage}: exit code {code}\n{text}");
    assert!(text.contains(&pair.credentials().peer_id), "{stage}: names no worker\n{text}");
    let Worker::Python(worker, _) = &pair.worker else { unreachable!() };
    assert!(worker.stdout().to_lowercase().contains(&format!("at {stage}")), "{stage} never came");
}

/// Asserts that our worker is free again after the Python client has failed, and serves the next
/// one.
fn python_client_fails(how: &str, stage: &str) {
    let Some(pair) = Pair::new(Native) else { return };
    let package = fixture("train_topdown.zip");
    let start = Instant::now();
    let Some(mut failing) = pair.train(PYTHON, Session, &package, &[how, stage]) else { return };
    failing.process.wait_stdout("its failure", A_WHILE, |text| {
        text.to_lowercase().contains(&format!("at {stage}")).then_some(())
    });
    pair.wait_status("available");
    let took_s = start.elapsed().as_secs_f64();
    println!("Python client {how} {stage}: our worker was free again after {took_s:.1} s");
    pair.train(Native, Session, &package, &[]).unwrap().assert_code(0);
    failing.process.kill();
    pair.wait_idle();
}

#[test]
fn a_python_worker_that_vanishes_ends_our_client() {
    each(&["offer", "answer", "package", "run", "result"], |stage| {
        python_worker_fails("--vanish", stage, if stage == "offer" { &[4] } else { &[3, 7] });
    });
}

#[test]
fn a_python_worker_that_stays_silent_ends_our_client() {
    each(&["offer", "package", "run", "result"], |stage| {
        python_worker_fails("--silent", stage, if stage == "offer" { &[4] } else { &[7] });
    });
}

#[test]
fn a_python_client_that_vanishes_frees_our_worker() {
    each(&["offer", "open", "package", "run", "result"], |stage| {
        python_client_fails("--vanish", stage);
    });
}

#[test]
fn a_python_client_that_stays_silent_frees_our_worker() {
    each(&["offer", "open", "package", "run", "result"], |stage| {
        python_client_fails("--silent", stage);
    });
}
