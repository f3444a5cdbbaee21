//! A plugin that misbehaves: the host stops it, and answers as `on_failure` says.

use crate::support::{hostile, refused, training, worker};
use sleap_rtc::policy::ExtensionPoint::{Compatibility, Estimate, Selection};
use sleap_rtc::policy::{ExtensionPoint, OnFailure, Verdict};
use std::time::Instant;

/// Deeds that are a failure at every extension point.
const FAILURES: [&str; 6] = ["loop", "log-loop", "recurse", "grow", "panic", "error"];
const TIMEOUT_MS: u128 = 200;

#[tokio::test]
async fn the_default_answers_for_a_plugin_that_fails() {
    let workers = [worker("small", &[1000]), worker("large", &[2000])];
    for deed in FAILURES.into_iter().chain(["nan", "out-of-range", "twice", "huge"]) {
        let policies = hostile(Selection, deed, OnFailure::Default);
        let selection = policies.select(&training(), &workers).await;
        let order: Vec<_> = selection.ranking.iter().map(|choice| choice.index).collect();
        assert_eq!(order, [1, 0], "{deed}");
        assert_eq!(
            selection.notice.as_deref(),
            Some("the selection plugin hostile-guest failed; the default was used"),
            "{deed}"
        );
        assert_eq!(policies.failures(Selection), 1, "{deed}");
        assert_eq!(policies.failures(Estimate), 0, "{deed}");
    }
    for deed in FAILURES.into_iter().chain(["nan"]) {
        let policies = hostile(Estimate, deed, OnFailure::Default);
        let estimate = policies.estimate(&training(), &workers[0]).await;
        assert_eq!(estimate.map(|estimate| estimate.minutes), Some(60.0), "{deed}");
    }
}

#[tokio::test]
async fn a_compatibility_plugin_that_fails_refuses() {
    for deed in FAILURES.into_iter().chain(["no-reason"]) {
        let policies = hostile(Compatibility, deed, OnFailure::Refuse);
        let Verdict::No(reasons) = policies.check(&training(), &worker("w", &[])).await else {
            panic!("{deed}: the job was admitted");
        };
        assert_eq!(reasons[0].code, "policy-failed");
        assert_eq!(reasons[0].message, "the compatibility plugin hostile-guest failed");
    }
}

#[tokio::test]
async fn refusing_selection_and_estimate_say_nothing() {
    let policies = hostile(Selection, "panic", OnFailure::Refuse);
    let selection = policies.select(&training(), &[worker("w", &[])]).await;
    assert!(selection.ranking.is_empty());
    assert!(selection.notice.is_some());
    let policies = hostile(Estimate, "panic", OnFailure::Refuse);
    assert_eq!(policies.estimate(&training(), &worker("w", &[])).await, None);
}

#[tokio::test]
async fn what_never_answers_is_stopped_soon_after_its_deadline() {
    let (job, w) = (training(), worker("w", &[]));
    let told = |what: &str, start: Instant| {
        let late_ms = start.elapsed().as_millis().saturating_sub(TIMEOUT_MS);
        println!("{what:<40} stopped {late_ms:>3} ms past its deadline of {TIMEOUT_MS} ms");
        // The goal is 50 ms; a loaded machine must not fail the test.
        assert!(late_ms < 2000, "{what}: {late_ms} ms");
    };
    for deed in ["loop", "log-loop", "nest"] {
        let [selection, compatibility, estimate] =
            ExtensionPoint::ALL.map(|point| hostile(point, deed, OnFailure::Refuse));
        let start = Instant::now();
        selection.select(&job, std::slice::from_ref(&w)).await;
        told(&format!("{deed}, selection"), start);
        let start = Instant::now();
        compatibility.check(&job, &w).await;
        told(&format!("{deed}, compatibility"), start);
        let start = Instant::now();
        estimate.estimate(&job, &w).await;
        told(&format!("{deed}, estimate"), start);
        for (policies, point) in
            [selection, compatibility, estimate].iter().zip(ExtensionPoint::ALL)
        {
            assert_eq!(policies.failures(point), 1, "{deed}");
        }
    }
    let start = Instant::now();
    let said = refused(&with_module(&[TYPE, FUNCTION, START, LOOP]));
    told("a start function that loops, on loading", start);
    assert!(said.contains("it did not answer within 200 ms"), "{said}");
}

#[test]
fn a_module_that_wants_all_memory_at_once_is_refused() {
    // 65,536 pages are 4 GiB.
    let said = refused(&with_module(&[b"\x05\x05\x01\x00\x80\x80\x04"]));
    assert!(said.contains("it wanted more than 64 MiB of memory"), "{said}");
}

/// A core module's sections: one function without arguments, which starts and loops.
const TYPE: &[u8] = b"\x01\x04\x01\x60\x00\x00";
const FUNCTION: &[u8] = b"\x03\x02\x01\x00";
const START: &[u8] = b"\x08\x01\x00";
const LOOP: &[u8] = b"\x0a\x09\x01\x07\x00\x03\x40\x0c\x00\x0b\x0b";

/// A component that does nothing but instantiate a core module of these sections.
fn with_module(sections: &[&[u8]]) -> Vec<u8> {
    let module = [b"\0asm\x01\0\0\0", sections.concat().as_slice()].concat();
    let length = u8::try_from(module.len()).unwrap();
    assert!(length < 128, "a length of one byte");
    let instance = b"\x02\x04\x01\x00\x00\x00";
    [b"\0asm\x0d\0\x01\0\x01", [length].as_slice(), &module, instance].concat()
}

#[tokio::test]
async fn odd_but_legal_answers_are_kept_and_cleaned() {
    let workers = [worker("a", &[]), worker("b", &[9])];
    let reason = |selection: sleap_rtc::policy::Selection| {
        assert_eq!(selection.notice, None);
        selection.ranking[0].reason.clone()
    };
    let escape =
        hostile(Selection, "escape", OnFailure::Refuse).select(&training(), &workers).await;
    assert_eq!(reason(escape), " [2J  boo");
    let who = hostile(Selection, "who", OnFailure::Refuse);
    assert_eq!(
        reason(who.asked_by("peer-7").select(&training(), &workers).await),
        "Some(\"peer-7\")"
    );
    assert_eq!(reason(who.select(&training(), &workers).await), "None");
    // 10 MB of log is cut, and no failure.
    let logs = hostile(Selection, "log", OnFailure::Refuse);
    assert_eq!(reason(logs.select(&training(), &workers).await), "because");
    assert_eq!(
        hostile(Estimate, "none", OnFailure::Refuse).estimate(&training(), &workers[0]).await,
        None
    );
}
