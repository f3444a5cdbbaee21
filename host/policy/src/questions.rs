//! The four calls: how each is made, and which answers are valid.

pub(crate) mod order;

use super::ExtensionPoint;
use super::answers::{Choice, Estimate, LeftOut, Ranked, Ranking, Verdict};
use super::bindings::types::{Context, Job, Worker};
use super::bindings::{compatibility, estimation, selection};
use super::block::{Lists, Records};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sleap_rtc_protocol::job::Reason;
use sleap_rtc_protocol::text::Printable;
use wasmtime::component::{ComponentNamedList, Lift, Lower};

/// The longest reason to pass on, in characters.
const REASON_CHARS: usize = 500;
/// The most reasons of one refusal to pass on.
const REASONS: usize = 16;

/// A question to a plugin.
pub(crate) trait Question: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Which plugin is called.
    const POINT: ExtensionPoint;
    /// The arguments of the guest's function.
    type Arguments<'q>: ComponentNamedList + Lower;
    /// The guest's answer.
    type Raw: Lift + 'static;
    /// The answer after validation.
    type Answer: Serialize + DeserializeOwned + Send + 'static;

    /// The call's context, in which the plugin's settings are filled in.
    fn context(&mut self) -> &mut Context;

    /// What to call the guest's function with.
    fn arguments(&self, lists: Lists) -> Self::Arguments<'_>;

    /// Validates the answer. The error names the rule that it breaks.
    fn check(&self, answer: Self::Raw) -> Result<Self::Answer, String>;
}

/// The place in a list that an answer names. `seen` has an entry for each place, which is set once it is named.
fn place_of(what: &str, index: u32, seen: &mut [bool]) -> Result<usize, String> {
    let (place, of) = (usize::try_from(index).unwrap_or(usize::MAX), seen.len());
    match seen.get_mut(place) {
        None => Err(format!("it names {what} {index} of {of}")),
        Some(true) => Err(format!("it names {what} {index} twice")),
        Some(seen) => {
            *seen = true;
            Ok(place)
        }
    }
}

/// Which worker gets the job?
#[derive(Serialize, Deserialize)]
pub(crate) struct Select {
    pub context: Context,
    pub job: Job,
    pub workers: Vec<Worker>,
}

impl Select {
    /// The same question about the workers of `ranking` only, in its order.
    pub(crate) fn about(&self, ranking: &[Choice]) -> Self {
        let workers = ranking.iter().filter_map(|choice| self.workers.get(choice.index)).cloned();
        Self { context: self.context.clone(), job: self.job.clone(), workers: workers.collect() }
    }
}

impl Question for Select {
    const POINT: ExtensionPoint = ExtensionPoint::Selection;
    type Arguments<'q> = (&'q Context, &'q Job, Records<'q, Worker>);
    type Raw = selection::Ranking;
    type Answer = Ranking;

    fn context(&mut self) -> &mut Context {
        &mut self.context
    }

    fn arguments(&self, lists: Lists) -> Self::Arguments<'_> {
        (&self.context, &self.job, Records::new(&self.workers, lists))
    }

    fn check(&self, answer: Self::Raw) -> Result<Ranking, String> {
        let mut seen = vec![false; self.workers.len()];
        let mut place = |index: u32| place_of("worker", index, &mut seen);
        let mut ranking = Ranking::default();
        for choice in answer.choices {
            if !choice.score.is_finite() {
                return Err(format!("the score of worker {} is {}", choice.index, choice.score));
            }
            let index = place(choice.index)?;
            let reason = Printable::line(&choice.reason, REASON_CHARS).into();
            ranking.choices.push(Ranked { index, score: choice.score, reason });
        }
        for out in answer.left_out {
            let index = place(out.index)?;
            let reason = Printable::line(&out.reason, REASON_CHARS).into();
            ranking.left_out.push(LeftOut { index, reason });
        }
        Ok(ranking)
    }
}

/// Does this worker accept the job?
#[derive(Serialize, Deserialize)]
pub(crate) struct Check {
    pub context: Context,
    pub job: Job,
    pub worker: Worker,
}

impl Question for Check {
    const POINT: ExtensionPoint = ExtensionPoint::Compatibility;
    type Arguments<'q> = (&'q Context, &'q Job, &'q Worker);
    type Raw = compatibility::Verdict;
    type Answer = Verdict;

    fn context(&mut self) -> &mut Context {
        &mut self.context
    }

    fn arguments(&self, _: Lists) -> Self::Arguments<'_> {
        (&self.context, &self.job, &self.worker)
    }

    fn check(&self, answer: Self::Raw) -> Result<Verdict, String> {
        match answer {
            compatibility::Verdict::Yes => Ok(Verdict::Yes),
            compatibility::Verdict::No(reasons) if reasons.is_empty() => {
                Err("it refuses without a reason".into())
            }
            compatibility::Verdict::No(reasons) => {
                let reason = |reason: &compatibility::Reason| Reason {
                    code: Printable::line(&reason.code, 100).into(),
                    message: Printable::line(&reason.message, REASON_CHARS).into(),
                };
                Ok(Verdict::No(reasons.iter().take(REASONS).map(reason).collect()))
            }
        }
    }
}

/// How long will the job take?
#[derive(Serialize, Deserialize)]
pub(crate) struct EstimateDuration {
    pub context: Context,
    pub job: Job,
    pub worker: Worker,
}

impl Question for EstimateDuration {
    const POINT: ExtensionPoint = ExtensionPoint::Estimate;
    type Arguments<'q> = (&'q Context, &'q Job, &'q Worker);
    type Raw = Option<estimation::Duration>;
    type Answer = Option<Estimate>;

    fn context(&mut self) -> &mut Context {
        &mut self.context
    }

    fn arguments(&self, _: Lists) -> Self::Arguments<'_> {
        (&self.context, &self.job, &self.worker)
    }

    fn check(&self, answer: Self::Raw) -> Result<Option<Estimate>, String> {
        let Some(estimation::Duration { minutes, low, high, confidence }) = answer else {
            return Ok(None);
        };
        let ordered = 0.0 <= low && low <= minutes && minutes <= high && high.is_finite();
        if !ordered {
            return Err(format!(
                "0 <= low <= minutes <= high does not hold: low {low}, minutes {minutes}, high {high}"
            ));
        }
        if !(0.0..=1.0).contains(&confidence) {
            return Err(format!("the confidence {confidence} is not between 0 and 1"));
        }
        Ok(Some(Estimate { minutes, low, high, confidence }))
    }
}
