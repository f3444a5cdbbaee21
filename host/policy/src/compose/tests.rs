//! Each rule of composition, with scripted answers.

use super::*;
use crate::answers::LeftOut;
use crate::questions::EstimateDuration;
use crate::{Estimate, LocalTime, facts};
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::job::{JobDescription, JobType};
use sleap_rtc_protocol::signaling::{Metadata, PeerInfo, Role};
use std::cell::RefCell;

/// A plugin's answer; `None` if it fails.
type Script<A> = Option<A>;

/// Plugins named `a`, `b`, `c`, …, and the built-in one.
struct Scripted<A> {
    plugins: Vec<(Script<A>, OnFailure)>,
    built_in: Script<A>,
    /// The place of the built-in plugin in the list.
    listed: Option<usize>,
    log: RefCell<Vec<String>>,
}

impl<A> Scripted<A> {
    fn new(plugins: Vec<(Script<A>, OnFailure)>, built_in: Script<A>) -> Self {
        Self { plugins, built_in, listed: None, log: RefCell::default() }
    }
}

fn name(place: usize) -> Arc<str> {
    ["a", "b", "c", "d"][place].into()
}

fn scripted<A: Clone>(answer: &Script<A>) -> Result<A, Failure> {
    answer.clone().ok_or(Failure::Panic)
}

impl<Q: Question> PluginList<Q> for Scripted<Q::Answer>
where
    Q::Answer: Clone,
{
    fn len(&self) -> usize {
        self.plugins.len()
    }

    fn info(&self, place: usize) -> PluginInfo {
        let is_built_in = self.listed == Some(place);
        PluginInfo { name: name(place), on_failure: self.plugins[place].1, is_built_in }
    }

    fn ask(&self, place: usize, _: &mut Q) -> Result<Q::Answer, Failure> {
        scripted(&self.plugins[place].0)
    }

    fn ask_built_in(&self, _: &mut Q) -> Result<Q::Answer, Failure> {
        scripted(&self.built_in)
    }

    fn built_in(&self) -> Arc<str> {
        "own".into()
    }

    fn failed(&self, name: &str, _: &Failure, then: Fallback) {
        self.log.borrow_mut().push(format!("{name}: {then:?}"));
    }
}

fn worker(name: &str) -> crate::bindings::types::Worker {
    facts::worker(&WorkerFacts::from_peer(&PeerInfo {
        peer_id: PeerId::new(name).unwrap(),
        role: Role::Worker,
        metadata: Metadata { tags: vec![], properties: serde_json::Map::new() },
        connected_at: serde_json::Value::Null,
    }))
}

fn job() -> crate::bindings::types::Job {
    facts::job(&JobDescription::unknown(JobType::Training))
}

fn context() -> crate::bindings::types::Context {
    facts::context(None, &[], LocalTime::ORDINARY)
}

fn check() -> Check {
    Check { context: context(), job: job(), worker: worker("w") }
}

/// A ranking: `index:score` in order, then `-index` for those left out.
fn ranking(text: &str) -> Ranking {
    let mut ranking = Ranking::default();
    for word in text.split_whitespace() {
        let number = |text: &str| text.parse::<usize>().unwrap();
        match word.strip_prefix('-') {
            Some(out) => {
                ranking.left_out.push(LeftOut { index: number(out), reason: format!("no {out}") });
            }
            None => {
                let (index, score) = word.split_once(':').unwrap();
                let (index, score) = (number(index), score.parse().unwrap());
                ranking.choices.push(Ranked { index, score, reason: format!("at {score}") });
            }
        }
    }
    ranking
}

use OnFailure::{Default as D, Refuse as R};

/// Ranks four workers. The result: their indices in order, those left out by `plugin:index`.
fn ranked(plugins: &[(&str, OnFailure)]) -> (String, String, Option<String>, Vec<String>) {
    let script = |(text, on_failure): &(&str, OnFailure)| {
        ((*text != "fails").then(|| ranking(text)), *on_failure)
    };
    let plugins =
        Scripted::new(plugins.iter().map(script).collect(), Some(ranking("3:4 2:3 1:2 0:1")));
    let workers = ["p", "q", "r", "s"].map(worker).to_vec();
    let selection = rank(&plugins, &mut Select { context: context(), job: job(), workers });
    let order: Vec<_> = selection.ranking.iter().map(|choice| choice.index.to_string()).collect();
    let out = selection.left_out.iter().map(|out| format!("{}:{}", out.plugin, out.index));
    let out: Vec<_> = out.collect();
    (order.join(" "), out.join(" "), selection.notice, plugins.log.into_inner())
}

#[test]
fn a_further_selection_leaves_out_or_moves_whole_groups() {
    let cases: &[(&str, &[&str], &str, &str)] = &[
        ("one alone", &["1:9 0:8 -2"], "1 0", "a:2"),
        ("the same score for all changes nothing", &["2:9 0:8 1:7", "2:5 1:5 0:5"], "2 0 1", ""),
        ("it leaves out", &["2:9 0:8 1:7", "0:0 2:0 -1"], "2 1", "b:0"),
        ("what it does not name is gone", &["2:9 0:8 1:7", "1:0"], "0", ""),
        // The indices of the second count the ranking of the first: 3 1 0 2.
        ("two groups change places", &["3:4 1:3 0:2 2:1", "2:8 0:8 1:7 3:7"], "3 0 1 2", ""),
        ("inside a group the order stays", &["3:4 1:3 0:2 2:1", "3:8 2:8 1:8 0:7"], "1 0 2 3", ""),
        (
            "its order decides, not its scores",
            &["3:4 1:3 0:2 2:1", "2:-1 3:7 1:7 0:7"],
            "0 3 1 2",
            "",
        ),
        ("zero has no sign", &["1:2 0:1", "1:0 0:-0"], "1 0", ""),
        ("three in a row", &["3:4 2:3 1:2 0:1", "3:1 0:0 1:0 -2", "0:5 2:5 1:4"], "0 2 3", "b:1"),
        ("nobody left to ask about", &["-0 -1 -2 -3", "0:1"], "", "a:0 a:1 a:2 a:3"),
    ];
    for (what, plugins, order, out) in cases {
        let plugins: Vec<_> = plugins.iter().map(|text| (*text, R)).collect();
        let (got, left_out, notice, log) = ranked(&plugins);
        assert_eq!((got.as_str(), left_out.as_str()), (*order, *out), "{what}");
        assert_eq!((notice, log), (None, vec![]), "{what}");
    }
}

#[test]
fn a_selection_that_fails_does_as_its_entry_says() {
    const SPLIT: &str = "0:1 1:2 2:1";
    type Case =
        (&'static [(&'static str, OnFailure)], &'static str, &'static str, &'static [&'static str]);
    let cases: &[Case] = &[
        (
            &[("fails", D)],
            "3 2 1 0",
            "the selection plugin a failed; the built-in plugin answered instead",
            &["a: BuiltIn"],
        ),
        (&[("fails", R)], "", "the selection plugin a failed", &["a: Nobody"]),
        (
            &[("fails", D), ("3:1 0:1", R)],
            "3 0",
            "the selection plugin a failed; the built-in plugin answered instead",
            &["a: BuiltIn"],
        ),
        (
            &[("2:9 0:8 1:7", R), ("fails", D), ("2:1 0:1", R)],
            "2 1",
            "the selection plugin b failed; the ranking of the plugins before it stays",
            &["b: RankingStays"],
        ),
        (
            &[("2:9 0:8 1:7", D), (SPLIT, D)],
            "2 0 1",
            "the selection plugin b failed; the ranking of the plugins before it stays",
            &["b: RankingStays"],
        ),
        (
            &[("2:9 0:8 1:7", D), (SPLIT, R), ("0:1", D)],
            "",
            "the selection plugin b failed",
            &["b: Nobody"],
        ),
    ];
    for (plugins, order, expected, logged) in cases {
        let (got, _, notice, log) = ranked(plugins);
        assert_eq!((got.as_str(), notice.as_deref()), (*order, Some(*expected)), "{plugins:?}");
        assert_eq!(log, *logged, "{plugins:?}");
    }
}

#[test]
fn every_further_plugin_adds_its_reason() {
    let plugins = ["1:9 0:8", "1:5 0:5"].map(|text| (Some(ranking(text)), R)).to_vec();
    let plugins = Scripted::new(plugins, None);
    let workers = ["p", "q"].map(worker).to_vec();
    let selection = rank(&plugins, &mut Select { context: context(), job: job(), workers });
    let first = &selection.ranking[0];
    let said: Vec<_> = first.remarks.iter().map(|r| format!("{}: {}", r.plugin, r.text)).collect();
    assert_eq!(said, ["a: at 9", "b: at 5"]);
    assert_eq!((first.score, first.reason().as_str()), (9.0, "at 9; at 5"));
}

#[test]
fn a_further_selection_is_asked_about_the_workers_that_are_left() {
    let workers = ["p", "q", "r"].map(worker).to_vec();
    let question = Select { context: context(), job: job(), workers };
    let so_far = Selection::new(&name(0), ranking("2:2 0:1 -1"));
    let asked = question.about(&so_far.ranking);
    let ids: Vec<_> = asked.workers.iter().map(|worker| worker.peer_id.as_str()).collect();
    assert_eq!(ids, ["r", "p"]);
}

#[test]
fn all_must_admit_and_all_reasons_are_collected() {
    let no = |codes: &str| {
        let reason = |code: &str| Reason { code: code.into(), message: format!("not {code}") };
        Some(Verdict::No(codes.split(' ').map(reason).collect()))
    };
    let yes = Some(Verdict::Yes);
    let own = no("own");
    type Case<'a> = (Vec<(Script<Verdict>, OnFailure)>, &'a Script<Verdict>, &'a str);
    let cases: Vec<Case<'_>> = vec![
        (vec![(yes.clone(), R)], &own, ""),
        (vec![(yes.clone(), R), (yes.clone(), D)], &own, ""),
        (vec![(no("x y"), R), (yes.clone(), R), (no("z"), R)], &own, "x y z"),
        (vec![(no("x"), R), (no("x"), R)], &own, "x"),
        (vec![(yes.clone(), R), (None, R)], &own, "policy-failed"),
        (vec![(no("x"), R), (None, R), (no("z"), D)], &own, "x policy-failed z"),
        (vec![(None, D), (yes.clone(), R)], &own, "own"),
        (vec![(None, D), (yes.clone(), R)], &yes, ""),
        (vec![(no("own"), R), (None, D)], &own, "own"),
        (vec![(None, D), (yes.clone(), R)], &None, "policy-failed"),
    ];
    for (plugins, built_in, expected) in cases {
        let plugins = Scripted::new(plugins, built_in.clone());
        let codes = match admit(&plugins, check()) {
            Verdict::Yes => String::new(),
            Verdict::No(reasons) => {
                let codes: Vec<_> = reasons.into_iter().map(|reason| reason.code).collect();
                codes.join(" ")
            }
        };
        assert_eq!(codes, expected, "{:?}", plugins.plugins);
    }
}

#[test]
fn a_failure_is_named_to_the_client() {
    let plugins = Scripted::new(vec![(None, D)], None);
    let Verdict::No(reasons) = admit(&plugins, check()) else { panic!("admitted") };
    let said = "the compatibility plugin a failed; the built-in compatibility plugin failed";
    assert_eq!(reasons[0].message, said);
    let mut plugins = Scripted::new(vec![(Some(Verdict::Yes), R), (None, D)], Some(Verdict::Yes));
    plugins.listed = Some(1);
    let Verdict::No(reasons) = admit(&plugins, check()) else { panic!("admitted") };
    assert_eq!(reasons[0].message, "the built-in compatibility plugin failed");
}

#[test]
fn the_first_estimate_that_answers_counts() {
    let minutes =
        |minutes: f64| Some(Some(Estimate { minutes, low: 0.0, high: 99.0, confidence: 1.0 }));
    let (cannot_tell, fails) = (Some(None), None);
    let own = minutes(60.0);
    type Case =
        (Vec<(Script<Option<Estimate>>, OnFailure)>, Option<usize>, Option<f64>, &'static str);
    let cases: Vec<Case> = vec![
        (vec![(minutes(1.0), D), (minutes(2.0), D)], None, Some(1.0), ""),
        (vec![(cannot_tell, D), (minutes(2.0), D)], None, Some(2.0), ""),
        (vec![(cannot_tell, D)], None, None, ""),
        (vec![(fails, D), (minutes(2.0), D)], None, Some(2.0), "a: Next"),
        (vec![(fails, R), (minutes(2.0), D)], None, Some(2.0), "a: Next"),
        (vec![(fails, D)], None, Some(60.0), "a: BuiltIn"),
        (vec![(fails, R)], None, None, "a: Nobody"),
        (vec![(fails, D), (cannot_tell, R)], None, Some(60.0), "a: Next"),
        (vec![(fails, R), (fails, D)], None, Some(60.0), "a: Next b: BuiltIn"),
        (vec![(fails, D), (cannot_tell, D)], Some(1), None, "a: Next"),
        (vec![(fails, D), (fails, D)], Some(1), None, "a: Next b: Nobody"),
    ];
    for (plugins, listed, expected, logged) in cases {
        let mut plugins = Scripted::new(plugins, own);
        plugins.listed = listed;
        let question = EstimateDuration { context: context(), job: job(), worker: worker("w") };
        let otherwise = WhenNobodyAnswers::NoAnswer;
        let answer = ask_until_answered(&plugins, question, Option::is_some, otherwise)
            .answered
            .and_then(|answered| answered.answer);
        assert_eq!(answer.map(|answer| answer.minutes), expected, "{:?}", plugins.plugins);
        assert_eq!(plugins.log.borrow().join(" "), logged, "{:?}", plugins.plugins);
    }
}
