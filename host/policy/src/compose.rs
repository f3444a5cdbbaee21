//! How the answers of several plugins at one extension point become one.
//!
//! | extension point | rule |
//! |---|---|
//! | selection | the first plugin ranks; each further one leaves workers out, or moves whole groups of them |
//! | compatibility | all must say yes, and all reasons are collected |
//! | estimate | the first plugin that answers |
//! | queueing | the first plugin that answers, else the built-in one, or first in, first out after a failure |
//!
//! The WIT states the rules for authors of plugins. Everything here is pure: a [`PluginList`] makes the calls.

use super::answers::{Choice, Exclusion, LineOrder, Ranked, Ranking, Remark, Selection, Verdict};
use super::component::Failure;
use super::options::OnFailure;
use super::questions::order::OrderLine;
use super::questions::{Check, Question, Select};
use sleap_rtc_protocol::job::Reason;
use std::marker::PhantomData;
use std::sync::Arc;

/// The plugins of one extension point as the rules of this module see them: [`super::chain::PluginChain`],
/// or a script in tests.
pub(crate) trait PluginList<Q: Question> {
    /// How many there are.
    fn len(&self) -> usize;

    /// The plugin at `place`.
    fn info(&self, place: usize) -> PluginInfo;

    /// Asks the plugin at `place`, with its settings.
    fn ask(&self, place: usize, question: &mut Q) -> Result<Q::Answer, Failure>;

    /// Asks the built-in plugin, without settings.
    fn ask_built_in(&self, question: &mut Q) -> Result<Q::Answer, Failure>;

    /// The name of the built-in plugin.
    fn built_in(&self) -> Arc<str>;

    /// Counts and logs a failure of the plugin `name`.
    fn failed(&self, name: &str, failure: &Failure, then: Fallback);
}

/// The properties of a plugin that the rules depend on.
pub(crate) struct PluginInfo {
    /// Its name.
    pub name: Arc<str>,
    /// What happens when it fails.
    pub on_failure: OnFailure,
    /// Whether it is the built-in plugin, for which no other one answers.
    pub is_built_in: bool,
}

impl PluginInfo {
    /// What follows a failure of this plugin. Nobody answers if `on_failure` is `refuse`, or if the built-in
    /// plugin would replace itself.
    fn fallback(&self, instead: Fallback) -> Fallback {
        match self.on_failure {
            OnFailure::Refuse => Fallback::Nobody,
            OnFailure::Default if self.is_built_in && instead == Fallback::BuiltIn => {
                Fallback::Nobody
            }
            OnFailure::Default => instead,
        }
    }
}

/// What happens after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// The built-in plugin answers.
    BuiltIn,
    /// Nobody does.
    Nobody,
    /// The ranking of the plugins before it stays.
    RankingStays,
    /// The next plugin is asked.
    Next,
}

impl Fallback {
    /// The words after "the plugin failed".
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::BuiltIn => "the built-in plugin answered instead",
            Self::Nobody => "no other plugin answers in its place",
            Self::RankingStays => "the ranking of the plugins before it stays",
            Self::Next => "the next plugin is asked",
        }
    }
}

/// An answer, and the name of the plugin that gave it.
pub(crate) struct Answered<A> {
    pub answer: A,
    pub by: Arc<str>,
}

/// One decision of a list of plugins.
struct Decision<'p, Q, P> {
    plugins: &'p P,
    /// What the user reads about failures; the log has each plugin's own message.
    notices: Vec<String>,
    question: PhantomData<Q>,
}

impl<'p, Q: Question, P: PluginList<Q>> Decision<'p, Q, P> {
    fn new(plugins: &'p P) -> Self {
        Self { plugins, notices: Vec::new(), question: PhantomData }
    }

    /// Tells the log and the user that a plugin failed, and what happens then.
    fn failed(&mut self, plugin: &PluginInfo, failure: &Failure, then: Fallback) {
        self.plugins.failed(&plugin.name, failure, then);
        let (point, name) = (Q::POINT.key(), &plugin.name);
        self.notices.push(match plugin.is_built_in {
            true => format!("the built-in {point} plugin failed"),
            false => format!("the {point} plugin {name} failed"),
        });
        if then == Fallback::RankingStays {
            self.notices.push(then.text().to_owned());
        }
    }

    /// Asks the built-in plugin.
    fn ask_built_in(&mut self, question: &mut Q) -> Option<Answered<Q::Answer>> {
        let name = self.plugins.built_in();
        match self.plugins.ask_built_in(question) {
            Ok(answer) => Some(Answered { answer, by: name }),
            Err(failure) => {
                let built_in =
                    PluginInfo { name, on_failure: OnFailure::Refuse, is_built_in: true };
                self.failed(&built_in, &failure, Fallback::Nobody);
                None
            }
        }
    }

    /// Asks the plugin at `place` or, if that fails and may be replaced, the built-in one.
    fn ask_or_built_in(&mut self, place: usize, question: &mut Q) -> Option<Answered<Q::Answer>> {
        let plugin = self.plugins.info(place);
        let failure = match self.plugins.ask(place, question) {
            Ok(answer) => return Some(Answered { answer, by: plugin.name }),
            Err(failure) => failure,
        };
        let then = plugin.fallback(Fallback::BuiltIn);
        self.failed(&plugin, &failure, then);
        if then == Fallback::Nobody {
            return None;
        }
        let answer = self.ask_built_in(question)?;
        self.notices.push(then.text().to_owned());
        Some(answer)
    }

    /// Everything that the user reads about failures, if there were any.
    fn notice(self) -> Option<String> {
        (!self.notices.is_empty()).then(|| self.notices.join("; "))
    }
}

/// Ranks: the first plugin ranks, each further one narrows.
pub(crate) fn rank(plugins: &impl PluginList<Select>, question: &mut Select) -> Selection {
    let mut decision = Decision::new(plugins);
    let Some(Answered { answer: ranking, by }) = decision.ask_or_built_in(0, question) else {
        return Selection { notice: decision.notice(), ..Selection::default() };
    };
    let mut selection = Selection::new(&by, ranking);
    for place in 1..plugins.len() {
        if selection.ranking.is_empty() {
            break;
        }
        let plugin = plugins.info(place);
        let narrowed =
            plugins.ask(place, &mut question.about(&selection.ranking)).and_then(|answer| {
                narrow(&selection, &plugin.name, answer).map_err(Failure::BadAnswer)
            });
        match narrowed {
            Ok(narrowed) => selection = narrowed,
            Err(failure) => {
                let then = plugin.fallback(Fallback::RankingStays);
                decision.failed(&plugin, &failure, then);
                if then == Fallback::Nobody {
                    return Selection { notice: decision.notice(), ..Selection::default() };
                }
            }
        }
    }
    Selection { notice: decision.notice(), ..selection }
}

/// Applies the answer of a further plugin, whose indices count `so_far.ranking`.
///
/// Choices with the same score that follow each other are a group. The groups come in the order of the
/// answer; inside a group, the order so far stays.
fn narrow(so_far: &Selection, by: &Arc<str>, answer: Ranking) -> Result<Selection, String> {
    check_groups(&answer.choices)?;
    let mut ranking = Vec::with_capacity(answer.choices.len());
    for group in answer.choices.chunk_by(|one, next| one.score == next.score) {
        let mut group: Vec<&Ranked> = group.iter().collect();
        group.sort_by_key(|ranked| ranked.index);
        for ranked in group {
            let mut choice = choice_at(so_far, ranked.index)?.clone();
            choice.remarks.extend(Remark::new(by, &ranked.reason));
            ranking.push(choice);
        }
    }
    let mut left_out = so_far.left_out.clone();
    for out in answer.left_out {
        let index = choice_at(so_far, out.index)?.index;
        left_out.push(Exclusion { index, plugin: Arc::clone(by), reason: out.reason });
    }
    Ok(Selection { ranking, left_out, notice: None })
}

fn choice_at(selection: &Selection, index: usize) -> Result<&Choice, String> {
    let of = selection.ranking.len();
    selection.ranking.get(index).ok_or_else(|| format!("it names worker {index} of {of}"))
}

/// Refuses an answer in which a score comes again after another one: its groups would not be whole.
fn check_groups(choices: &[Ranked]) -> Result<(), String> {
    let groups = choices.chunk_by(|one, next| one.score == next.score);
    let mut scores: Vec<f64> = groups.filter_map(|group| Some(group.first()?.score)).collect();
    scores.sort_by(f64::total_cmp);
    let again = scores.windows(2).find(|pair| pair[0] == pair[1]);
    again.map_or(Ok(()), |pair| {
        Err(format!(
            "after other plugins it may only move whole groups, but workers with the score {} do not \
             follow each other",
            pair[0]
        ))
    })
}

/// Admits: all plugins must say yes.
pub(crate) fn admit(plugins: &impl PluginList<Check>, mut question: Check) -> Verdict {
    let mut reasons: Vec<Reason> = Vec::new();
    for place in 0..plugins.len() {
        let mut decision = Decision::new(plugins);
        let verdict = decision.ask_or_built_in(place, &mut question).map(|said| said.answer);
        let said = match verdict {
            Some(Verdict::Yes) => Vec::new(),
            Some(Verdict::No(reasons)) => reasons,
            None => vec![Verdict::failure_reason(decision.notice())],
        };
        // Two failed plugins may both have been replaced by the built-in one, which then gives its reasons
        // twice.
        let new: Vec<_> = said.into_iter().filter(|reason| !reasons.contains(reason)).collect();
        reasons.extend(new);
    }
    if reasons.is_empty() { Verdict::Yes } else { Verdict::No(reasons) }
}

/// What follows when no plugin has an opinion, and none has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhenNobodyAnswers {
    /// There is no answer.
    NoAnswer,
    /// The built-in plugin answers.
    AskBuiltIn,
}

/// What came of asking one plugin after the other.
pub(crate) struct FirstAnswer<A> {
    pub answered: Option<Answered<A>>,
    /// A line for the user about each plugin that failed before.
    pub notices: Vec<String>,
}

/// Asks one plugin after the other until one answers, by `is_answer`. If none does, the built-in plugin
/// answers, if one failed whose `on_failure` is `default`; `otherwise` says what follows if none failed.
pub(crate) fn ask_until_answered<Q: Question>(
    plugins: &impl PluginList<Q>,
    mut question: Q,
    is_answer: impl Fn(&Q::Answer) -> bool,
    otherwise: WhenNobodyAnswers,
) -> FirstAnswer<Q::Answer> {
    let (mut falls_back, mut has_built_in) = (false, false);
    let mut decision = Decision::new(plugins);
    for place in 0..plugins.len() {
        let plugin = plugins.info(place);
        has_built_in |= plugin.is_built_in;
        match plugins.ask(place, &mut question) {
            Ok(answer) if is_answer(&answer) => {
                let answered = Some(Answered { answer, by: plugin.name });
                return FirstAnswer { answered, notices: decision.notices };
            }
            Ok(_) => {}
            Err(failure) => {
                falls_back |= plugin.fallback(Fallback::BuiltIn) == Fallback::BuiltIn;
                let then = match place + 1 < plugins.len() {
                    true => Fallback::Next,
                    false if falls_back && !has_built_in => Fallback::BuiltIn,
                    false => Fallback::Nobody,
                };
                decision.failed(&plugin, &failure, then);
            }
        }
    }
    let none_failed = decision.notices.is_empty();
    let asks_built_in = falls_back || (none_failed && otherwise == WhenNobodyAnswers::AskBuiltIn);
    let answered = match asks_built_in && !has_built_in {
        true => decision.ask_built_in(&mut question),
        false => None,
    };
    FirstAnswer { answered, notices: decision.notices }
}

/// Orders the jobs that wait: the first plugin that answers.
pub(crate) fn order(plugins: &impl PluginList<OrderLine>, question: OrderLine) -> LineOrder {
    let otherwise = WhenNobodyAnswers::AskBuiltIn;
    let FirstAnswer { answered, notices } =
        ask_until_answered(plugins, question, Option::is_some, otherwise);
    match (answered, notices.join(" and ")) {
        (Some(Answered { answer: Some(places), by }), why) => {
            let because = if why.is_empty() { why } else { format!(", because {why}") };
            LineOrder::Decided { by: format!("{by}{because}"), places }
        }
        (_, why) if why.is_empty() => LineOrder::Failed("no plugin has decided".to_owned()),
        (_, why) => LineOrder::Failed(why),
    }
}

#[cfg(test)]
mod tests;
