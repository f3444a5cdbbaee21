//! Lists of plugins: the defaults and others decide together.

use crate::support::{training, worker};
use sleap_rtc_policy::ExtensionPoint::{Compatibility, Estimate, Queueing, Selection};
use sleap_rtc_policy::{
    ExtensionPoint, JobHere, Line, LineOrder, OnFailure, PluginConfig, Policies, PolicyConfig,
    PolicyError, Verdict,
};
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::job::JobDescription;

/// A plugin of a list, with one setting.
fn entry(name: &str, setting: Option<(&str, &str)>, on_failure: OnFailure) -> PluginConfig {
    let mut config = PluginConfig::new(on_failure);
    config.plugin = Some(name.to_owned());
    config.timeout_ms = 20_000;
    let setting = setting.map(|(key, value)| (key.to_owned(), value.into()));
    config.settings.extend(setting);
    config
}

fn together(point: ExtensionPoint, list: Vec<PluginConfig>) -> Policies {
    let mut config = PolicyConfig::new(test_guests::dir().to_owned());
    match point {
        Selection => config.selection = list,
        Compatibility => config.compatibility = list,
        Estimate => config.estimate = list,
        Queueing => config.queueing = list,
    }
    Policies::load(&config).unwrap()
}

use OnFailure::{Default as D, Refuse as R};

fn room() -> [WorkerFacts; 3] {
    [worker("small", &[8000]), worker("large", &[24_000]), worker("middle", &[16_000])]
}

async fn order(list: Vec<PluginConfig>) -> (Vec<String>, Vec<String>, Option<String>) {
    let (policies, workers) = (together(Selection, list), room());
    let selection = policies.select(&training(), &workers).await;
    let name = |index: usize| workers[index].peer_id.to_string();
    let reasons = selection.ranking.first().map(|choice| {
        choice.remarks.iter().map(|r| format!("{}: {}", r.plugin, r.text)).collect::<Vec<_>>()
    });
    let order = selection.ranking.iter().map(|choice| name(choice.index)).collect();
    (order, reasons.unwrap_or_default(), selection.notice)
}

#[tokio::test]
async fn a_preferred_machine_comes_before_the_order_of_the_default() {
    let prefer = |host| entry("custom-policy", Some(("prefer", host)), R);
    let (first, reasons, notice) =
        order(vec![entry("largest-gpu", None, D), prefer("small.lab")]).await;
    assert_eq!(first, ["small", "large", "middle"]);
    let said = "custom-policy: the preferred machine";
    assert_eq!(reasons, ["largest-gpu: largest GPU RTX with 8,000 MB", said]);
    assert_eq!(notice, None);
    // The other way around the size of the GPUs decides.
    let (first, reasons, _) = order(vec![prefer("small.lab"), entry("largest-gpu", None, D)]).await;
    assert_eq!(first, ["large", "middle", "small"]);
    assert_eq!(reasons[0], "custom-policy: any other machine");
}

#[tokio::test]
async fn a_further_selection_that_fails_keeps_the_order_or_ends_it() {
    let hostile = |deed, on_failure| entry("hostile-guest", Some(("do", deed)), on_failure);
    for deed in ["panic", "out-of-range", "twice", "nan", "groups"] {
        let list = vec![entry("largest-gpu", None, D), hostile(deed, D)];
        let (first, _, notice) = order(list).await;
        assert_eq!(first, ["large", "middle", "small"], "{deed}");
        let said =
            "the selection plugin hostile-guest failed; the ranking of the plugins before it stays";
        assert_eq!(notice.as_deref(), Some(said), "{deed}");
        let (first, _, notice) = order(vec![entry("largest-gpu", None, D), hostile(deed, R)]).await;
        assert!(first.is_empty(), "{deed}");
        assert_eq!(notice.as_deref(), Some("the selection plugin hostile-guest failed"), "{deed}");
    }
    // It names the first of those that it was asked about, which is the largest.
    let (first, ..) = order(vec![entry("largest-gpu", None, D), hostile("", R)]).await;
    assert_eq!(first, ["large"]);
}

#[tokio::test]
async fn the_built_in_check_stands_beside_a_rule_of_the_lab() {
    let demanding = || {
        let mut job = training();
        job.requirements.min_gpu_memory_mib = Some(20_000);
        job
    };
    let hostile = |deed| entry("hostile-guest", Some(("do", deed)), R);
    let codes =
        async |list: Vec<PluginConfig>, job: &JobDescription| match together(Compatibility, list)
            .check(job, &worker("w", &[8000]), None)
            .await
        {
            Verdict::Yes => Vec::new(),
            Verdict::No(reasons) => reasons.into_iter().map(|reason| reason.code).collect(),
        };
    let both = || vec![entry("requirements", None, R), hostile("")];
    assert_eq!(codes(both(), &training()).await, [""; 0]);
    assert_eq!(codes(both(), &demanding()).await, ["gpu-memory"]);
    let failing = vec![entry("requirements", None, R), hostile("panic")];
    assert_eq!(codes(failing, &demanding()).await, ["gpu-memory", "policy-failed"]);
    let mut forgiven = hostile("panic");
    forgiven.on_failure = D;
    let list = vec![entry("requirements", None, R), forgiven];
    assert_eq!(codes(list, &demanding()).await, ["gpu-memory"], "said once");
    // Settings belong to one plugin.
    let list = vec![hostile(""), hostile("panic"), hostile("")];
    assert_eq!(codes(list, &training()).await, ["policy-failed"]);
}

#[tokio::test]
async fn the_first_estimate_counts() {
    let hostile = |deed, on_failure| entry("hostile-guest", Some(("do", deed)), on_failure);
    let minutes = async |list| {
        let estimate = together(Estimate, list).estimate(&training(), &worker("w", &[]), &[]).await;
        estimate.map(|estimate| estimate.minutes)
    };
    let own = || entry("linear-estimate", None, D);
    assert_eq!(minutes(vec![hostile("", D), own()]).await, Some(7.0));
    assert_eq!(minutes(vec![own(), hostile("", D)]).await, Some(60.0));
    assert_eq!(minutes(vec![hostile("none", D), own()]).await, Some(60.0));
    assert_eq!(minutes(vec![hostile("none", D), hostile("", D)]).await, Some(7.0));
    assert_eq!(minutes(vec![hostile("panic", R), hostile("", D)]).await, Some(7.0));
    assert_eq!(minutes(vec![hostile("panic", D), hostile("none", R)]).await, Some(60.0));
    assert_eq!(minutes(vec![hostile("panic", R), hostile("none", R)]).await, None);
}

#[test]
fn a_plugin_of_a_list_that_is_missing_is_named() {
    let mut config = PolicyConfig::new("plugins/here".into());
    config.compatibility = vec![entry("requirements", None, R), entry("largest-gpu", None, R)];
    match Policies::load(&config) {
        // A built-in plugin has its name in its own section only.
        Err(PolicyError::NotFound { key, plugin, .. }) => {
            assert_eq!((key, plugin.as_str()), ("compatibility", "largest-gpu"));
        }
        other => panic!("{:?}", other.err()),
    }
}

#[tokio::test]
async fn a_file_with_the_name_of_a_built_in_plugin_takes_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("requirements.wasm");
    std::fs::copy(test_guests::dir().join("hostile-guest.wasm"), file).unwrap();
    let mut config = PolicyConfig::new(dir.path().to_owned());
    config.compatibility = vec![entry("requirements", Some(("do", "error")), R)];
    let verdict =
        Policies::load(&config).unwrap().check(&training(), &worker("w", &[]), None).await;
    let Verdict::No(reasons) = verdict else { panic!("admitted") };
    assert_eq!(reasons[0].message, "the compatibility plugin requirements failed");
}

/// Who starts first, second and so on, and the plugin that says so; or why nobody does.
async fn ordered(list: Vec<PluginConfig>) -> Result<(Vec<usize>, String), String> {
    let users = ["ada", "ada", "ben"];
    let waiting = users.iter().enumerate().map(|(number, user)| JobHere {
        id: number.to_string(),
        user: (*user).to_owned(),
        description: training(),
        since_s: 60,
        takes_s: None,
        slots: vec![0],
    });
    let line = Line { running: Vec::new(), waiting: waiting.collect() };
    let worker = WorkerFacts { slots: 2, ..worker("w", &[]) };
    match together(Queueing, list).order(&worker, &line).await {
        LineOrder::Failed(why) => Err(why),
        LineOrder::Decided { by, places } => {
            assert!(places.iter().all(|place| !place.reason.is_empty()));
            Ok((places.into_iter().map(|place| place.index).collect(), by))
        }
    }
}

#[tokio::test]
async fn the_first_order_counts_and_who_fails_is_named() {
    let hostile = |deed, on_failure| entry("hostile-guest", Some(("do", deed)), on_failure);
    let own = || entry("fewest-running", None, R);
    let said = |order: &[usize], by: &str| Ok((order.to_vec(), by.to_owned()));
    assert_eq!(ordered(vec![own()]).await, said(&[0, 2, 1], "fewest-running"));
    assert_eq!(ordered(vec![hostile("", R), own()]).await, said(&[2, 1, 0], "hostile-guest"));
    assert_eq!(ordered(vec![own(), hostile("", R)]).await, said(&[0, 2, 1], "fewest-running"));
    // Without an opinion the next one decides, and after the last one the built-in one.
    assert_eq!(ordered(vec![hostile("none", R), own()]).await, said(&[0, 2, 1], "fewest-running"));
    assert_eq!(ordered(vec![hostile("none", R)]).await, said(&[0, 2, 1], "fewest-running"));
    assert_eq!(ordered(vec![hostile("leave-out", R)]).await, said(&[], "hostile-guest"));
    let failed = "the queueing plugin hostile-guest failed";
    for deed in ["panic", "error", "out-of-range", "twice", "many", "huge", "not-text"] {
        assert_eq!(ordered(vec![hostile(deed, R)]).await, Err(failed.to_owned()), "{deed}");
        let instead = format!("fewest-running, because {failed}");
        assert_eq!(ordered(vec![hostile(deed, D)]).await, said(&[0, 2, 1], &instead), "{deed}");
        let list = vec![hostile(deed, R), own()];
        assert_eq!(ordered(list).await, said(&[0, 2, 1], &instead), "{deed}");
    }
    let list = vec![hostile("panic", R), hostile("none", R)];
    assert_eq!(ordered(list).await, Err(failed.to_owned()));
}
