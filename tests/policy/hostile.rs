//! A plugin that misbehaves: the host stops it, and answers as `on_failure` says.

use crate::support::{hostile, training, worker};
use sleap_rtc_policy::ExtensionPoint::{Compatibility, Estimate, Selection};
use sleap_rtc_policy::{OnFailure, Verdict};

/// Deeds that fail at every extension point.
const FAILURES: [&str; 7] =
    ["loop", "free-loop", "recurse", "grow", "panic", "error", "log-not-text"];

#[tokio::test]
async fn the_default_answers_for_a_plugin_that_fails() {
    let workers = [worker("small", &[1000]), worker("large", &[2000])];
    for deed in
        FAILURES.into_iter().chain(["nan", "out-of-range", "twice", "huge", "many", "not-text"])
    {
        let policies = hostile(Selection, deed, OnFailure::Default);
        let selection = policies.select(&training(), &workers).await;
        let order: Vec<_> = selection.ranking.iter().map(|choice| choice.index).collect();
        assert_eq!(order, [1, 0], "{deed}");
        assert_eq!(
            selection.notice.as_deref(),
            Some("the selection plugin hostile-guest failed; the built-in plugin answered instead"),
            "{deed}"
        );
        assert_eq!(policies.failures(Selection), 1, "{deed}");
        assert_eq!(policies.failures(Estimate), 0, "{deed}");
    }
    for deed in FAILURES.into_iter().chain(["nan"]) {
        let policies = hostile(Estimate, deed, OnFailure::Default);
        let estimate = policies.estimate(&training(), &workers[0], &[]).await;
        assert_eq!(estimate.map(|estimate| estimate.minutes), Some(60.0), "{deed}");
    }
}

#[tokio::test]
async fn a_compatibility_plugin_that_fails_refuses() {
    for deed in FAILURES.into_iter().chain(["no-reason"]) {
        let policies = hostile(Compatibility, deed, OnFailure::Refuse);
        let Verdict::No(reasons) = policies.check(&training(), &worker("w", &[]), None).await
        else {
            panic!("{deed}: the job was admitted");
        };
        assert_eq!(reasons[0].code, "policy-failed");
        assert_eq!(reasons[0].message, "the compatibility plugin hostile-guest failed");
    }
}

#[tokio::test]
async fn refused_failures_give_no_ranking_and_no_estimate() {
    let policies = hostile(Selection, "panic", OnFailure::Refuse);
    let selection = policies.select(&training(), &[worker("w", &[])]).await;
    assert!(selection.ranking.is_empty());
    assert!(selection.notice.is_some());
    let policies = hostile(Estimate, "panic", OnFailure::Refuse);
    assert_eq!(policies.estimate(&training(), &worker("w", &[]), &[]).await, None);
}

#[tokio::test]
async fn odd_but_legal_answers_are_kept_and_cleaned() {
    let workers = [worker("a", &[]), worker("b", &[9])];
    let reason = |selection: sleap_rtc_policy::Selection| {
        assert_eq!(selection.notice, None);
        selection.ranking[0].reason()
    };
    let escape =
        hostile(Selection, "escape", OnFailure::Refuse).select(&training(), &workers).await;
    assert_eq!(reason(escape), "[2J boo");
    let who = hostile(Selection, "who", OnFailure::Refuse);
    assert_eq!(
        reason(who.asked_by("peer-7").select(&training(), &workers).await),
        "Some(\"peer-7\")"
    );
    assert_eq!(reason(who.select(&training(), &workers).await), "None");
    // 10 MB of log are truncated. That is not a failure.
    let logs = hostile(Selection, "log", OnFailure::Refuse);
    assert_eq!(reason(logs.select(&training(), &workers).await), "because");
    assert_eq!(
        hostile(Estimate, "none", OnFailure::Refuse).estimate(&training(), &workers[0], &[]).await,
        None
    );
}
