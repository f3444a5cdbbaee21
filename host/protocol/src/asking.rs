//! Decides in which order workers are asked whether they take a job, and which acceptance counts.
//! No I/O; time is an argument.
//!
//! The best worker is asked first, and the next ones shortly after, so that an unresponsive worker
//! costs little time. A few questions are open at once. The best worker that accepts in time gets
//! the job.

use web_time::{Duration, Instant};

/// The most open questions with an answer expected soon.
const OPEN: usize = 3;
/// The time between two questions.
const STAGGER: Duration = Duration::from_millis(700);
/// A question that is open this long makes room for another one, and a worse worker that accepts need
/// not wait for its answer. A worker that takes longer is loading its policies for the first time, or
/// will not answer at all.
const OVERDUE: Duration = Duration::from_secs(2);
/// A worker that has not answered by then counts as unresponsive.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The state of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum QuestionState {
    NotAsked,
    Open {
        since: Instant,
    },
    Yes,
    /// The worker refused, did not answer, or could not be reached.
    Over,
}

/// The next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Ask the worker at this place in the ranking.
    Ask(usize),
    /// Give the job to the worker at this place.
    Use(usize),
    /// This worker counts as unresponsive.
    GiveUp(usize),
    /// Wait for an answer, at most until this time.
    Wait(Instant),
    /// No worker is left.
    Nobody,
}

/// The questions to the workers of a ranking.
#[derive(Debug)]
pub struct Asking {
    questions: Vec<QuestionState>,
    asked_at: Option<Instant>,
}

impl Asking {
    /// No worker was asked yet.
    pub fn new(workers: usize) -> Self {
        Self { questions: vec![QuestionState::NotAsked; workers], asked_at: None }
    }

    /// The next step at `now`.
    pub fn next(&mut self, now: Instant) -> Next {
        if let Some(place) = self.position(|q| q.age(now).is_some_and(|age| age >= ANSWER_WITHIN)) {
            self.questions[place] = QuestionState::Over;
            return Next::GiveUp(place);
        }
        let mut wake = now + ANSWER_WITHIN;
        if let Some(best) = self.position(|q| *q == QuestionState::Yes) {
            if !self.questions[..best].iter().any(|q| q.is_due(now)) {
                return Next::Use(best);
            }
        } else if let Some(place) = self.position(|q| *q == QuestionState::NotAsked) {
            let open = self.questions.iter().filter(|q| q.is_due(now)).count();
            let ready_at = self.asked_at.filter(|_| open > 0).map_or(now, |at| at + STAGGER);
            if open < OPEN && now >= ready_at {
                return self.ask(place, now);
            }
            if open < OPEN {
                wake = ready_at;
            }
        }
        let open = self.questions.iter().filter_map(|q| q.age(now)).collect::<Vec<_>>();
        if open.is_empty() && self.position(|q| *q == QuestionState::NotAsked).is_none() {
            return Next::Nobody;
        }
        let left = |age: Duration| match age < OVERDUE {
            true => OVERDUE - age,
            false => ANSWER_WITHIN.saturating_sub(age),
        };
        let answer_by = open.into_iter().map(left).min();
        Next::Wait(answer_by.map_or(wake, |left| wake.min(now + left)))
    }

    fn ask(&mut self, place: usize, now: Instant) -> Next {
        self.questions[place] = QuestionState::Open { since: now };
        self.asked_at = Some(now);
        Next::Ask(place)
    }

    /// The worker at `place` accepts.
    pub fn yes(&mut self, place: usize) {
        if let QuestionState::Open { .. } = self.questions[place] {
            self.questions[place] = QuestionState::Yes;
        }
    }

    /// The worker at `place` refuses, or could not be reached.
    pub fn over(&mut self, place: usize) {
        self.questions[place] = QuestionState::Over;
    }

    /// The workers that should have answered by `now` but have not.
    pub fn overdue(&self, now: Instant) -> Vec<usize> {
        let is_late = |place: &usize| {
            let age = self.questions[*place].age(now);
            age.is_some_and(|age| age >= OVERDUE)
        };
        (0..self.questions.len()).filter(is_late).collect()
    }

    /// Whether only workers are left that should have answered by `now`.
    pub fn waits_for_overdue_ones(&self, now: Instant) -> bool {
        let is_left = |question: &&QuestionState| **question != QuestionState::Over;
        let mut left = self.questions.iter().filter(is_left).peekable();
        left.peek().is_some() && left.all(|q| q.age(now).is_some_and(|age| age >= OVERDUE))
    }

    /// The job goes to the worker at `place`. Returns the others that were asked and may have reserved a
    /// slot. If that worker fails, they are asked again.
    pub fn release_others(&mut self, place: usize) -> Vec<usize> {
        let places = (0..self.questions.len()).filter(|other| *other != place);
        let asked: Vec<usize> = places.filter(|other| self.questions[*other].is_asked()).collect();
        for other in &asked {
            self.questions[*other] = QuestionState::NotAsked;
        }
        asked
    }

    fn position(&self, is_wanted: impl Fn(&QuestionState) -> bool) -> Option<usize> {
        self.questions.iter().position(is_wanted)
    }
}

impl QuestionState {
    /// How long the question is open.
    fn age(&self, now: Instant) -> Option<Duration> {
        match self {
            Self::Open { since } => Some(now.saturating_duration_since(*since)),
            _ => None,
        }
    }

    /// Whether the question is open and its answer is expected soon.
    fn is_due(&self, now: Instant) -> bool {
        self.age(now).is_some_and(|age| age < OVERDUE)
    }

    fn is_asked(&self) -> bool {
        matches!(self, Self::Open { .. } | Self::Yes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A worker's reaction to a question.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Answer {
        Yes(u64),
        No(u64),
        Silence,
    }

    /// The worker that gets the job, the milliseconds until then, and the most questions that were
    /// open at once.
    fn simulate(answers: &[Answer]) -> (Option<usize>, u64, usize) {
        let (mut asking, start) = (Asking::new(answers.len()), Instant::now());
        let (mut now, mut due) = (start, Vec::new());
        let mut most = 0;
        loop {
            due.sort();
            while let Some((_, place)) = due.first().copied().filter(|(at, _)| *at <= now) {
                due.remove(0);
                match answers[place] {
                    Answer::Yes(_) => asking.yes(place),
                    _ => asking.over(place),
                }
            }
            match asking.next(now) {
                Next::Ask(place) => match answers[place] {
                    Answer::Yes(ms) | Answer::No(ms) => {
                        due.push((now + Duration::from_millis(ms), place));
                    }
                    Answer::Silence => {}
                },
                Next::GiveUp(_) => {}
                Next::Wait(until) => {
                    assert!(until > now, "it would spin");
                    let answer = due.iter().map(|(at, _)| *at).min();
                    now = answer.map_or(until, |at| at.min(until)).max(now);
                }
                Next::Use(place) => {
                    return (Some(place), (now - start).as_millis() as u64, most);
                }
                Next::Nobody => return (None, (now - start).as_millis() as u64, most),
            }
            most = most.max(asking.questions.iter().filter(|q| q.is_due(now)).count());
        }
    }

    #[test]
    fn the_best_worker_gets_the_job_if_it_answers_in_time() {
        assert_eq!(simulate(&[Answer::Yes(50), Answer::Yes(50)]), (Some(0), 50, 1));
        // The second answers first, and the first a moment later.
        assert_eq!(simulate(&[Answer::Yes(900), Answer::Yes(50)]), (Some(0), 900, 2));
        assert_eq!(simulate(&[Answer::Yes(1900), Answer::Yes(50)]), (Some(0), 1900, 2));
        // The first one is too late.
        assert_eq!(simulate(&[Answer::Yes(2100), Answer::Yes(50)]), (Some(1), 2000, 2));
    }

    #[test]
    fn five_silent_workers_cost_some_seconds() {
        let mut answers = vec![Answer::Silence; 5];
        answers.push(Answer::Yes(50));
        let (used, took_ms, most) = simulate(&answers);
        assert_eq!((used, most), (Some(5), OPEN));
        assert!(took_ms < 5_000, "{took_ms} ms");
    }

    #[test]
    fn a_refusal_is_followed_by_the_next_question_at_once() {
        let answers = [Answer::No(10), Answer::No(10), Answer::Yes(10)];
        assert_eq!(simulate(&answers), (Some(2), 30, 1));
        assert_eq!(simulate(&[Answer::No(10), Answer::Silence]), (None, 5_010, 1));
    }

    #[test]
    fn it_is_known_when_only_late_answers_are_missing() {
        let (mut asking, start) = (Asking::new(2), Instant::now());
        assert_eq!(asking.next(start), Next::Ask(0));
        assert!(!asking.waits_for_overdue_ones(start + OVERDUE), "the second was not asked");
        assert_eq!(asking.next(start + STAGGER), Next::Ask(1));
        asking.over(1);
        assert!(!asking.waits_for_overdue_ones(start + STAGGER));
        assert!(asking.waits_for_overdue_ones(start + OVERDUE));
        asking.over(0);
        assert!(!asking.waits_for_overdue_ones(start + OVERDUE), "nobody is left");
    }

    #[test]
    fn those_who_were_asked_are_released_and_asked_again_when_the_chosen_one_fails() {
        let (mut asking, start) = (Asking::new(3), Instant::now());
        assert_eq!(asking.next(start), Next::Ask(0));
        let later = start + STAGGER;
        assert_eq!(asking.next(later), Next::Ask(1));
        asking.yes(1);
        let later = start + OVERDUE;
        assert_eq!(asking.next(later), Next::Use(1));
        assert_eq!(asking.release_others(1), [0]);
        asking.over(1);
        assert_eq!(asking.next(later), Next::Ask(0));
    }

    /// Milliseconds until an answer. One that comes at the very end of [`ANSWER_WITHIN`] may count or
    /// be late, so there is none.
    fn delay_ms() -> impl Strategy<Value = u64> {
        prop_oneof![0..5_000u64, 5_001..6_000u64]
    }

    fn answer() -> impl Strategy<Value = Answer> {
        prop_oneof![
            delay_ms().prop_map(Answer::Yes),
            delay_ms().prop_map(Answer::No),
            Just(Answer::Silence),
        ]
    }

    proptest! {
        /// A worker that accepts in time gets the job, few workers are asked at once, and the
        /// search always ends.
        #[test]
        fn asking_ends_with_a_yes_if_there_is_one(
            answers in prop::collection::vec(answer(), 0..12),
        ) {
            let (used, took_ms, most) = simulate(&answers);
            let in_time = |answer: &Answer| matches!(answer, Answer::Yes(ms) if *ms < 5_000);
            prop_assert_eq!(used.is_some(), answers.iter().any(in_time));
            prop_assert!(used.is_none_or(|used| in_time(&answers[used])));
            prop_assert!(most <= OPEN);
            prop_assert!(took_ms <= 5_000 * answers.len() as u64 + 1_000);
        }
    }
}
