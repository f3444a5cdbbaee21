//! What is wrong with a worker, by the part of its machine, and what people see of it.

use crate::capabilities::{PROBLEMS, PROBLEMS_BY_PART, WorkerFacts};
use crate::job::JobType;
use crate::text::Printable;
use crate::worker::WorkerStatus;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The most problems of a worker that are shown, and the most characters of each.
const MAX_LINES: usize = 8;
const LINE_CHARS: usize = 300;

/// What is wrong with a worker, one sentence for each problem.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Problems {
    /// Of its GPUs and their driver.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<String>,
    /// Of the trainer for trainings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training: Option<String>,
    /// Of the trainer for predictions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inference: Option<String>,
    /// Of its disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
}

impl Problems {
    /// All of them. What one trainer lacks for both kinds of job is said once.
    pub fn sentences(&self) -> Vec<String> {
        let trainers = self.training.iter().chain(&self.inference);
        let mut all: Vec<String> = self.gpus.iter().chain(trainers).cloned().collect();
        all.dedup();
        all.extend(self.disk.clone());
        all
    }

    /// Why jobs of this kind have no trainer that works.
    pub fn of_trainer(&self, job_type: JobType) -> Option<&str> {
        let problem = match job_type {
            JobType::Training => &self.training,
            JobType::Inference => &self.inference,
        };
        problem.as_deref()
    }

    /// Puts them among the properties of a worker: always if it had some, so that the room sees their end.
    pub fn publish(&self, properties: &mut Map<String, Value>) {
        if *self != Self::default() || properties.contains_key(PROBLEMS) {
            properties.insert(PROBLEMS.to_owned(), json!(self.sentences()));
            properties.insert(PROBLEMS_BY_PART.to_owned(), json!(self));
        }
    }
}

impl WorkerFacts {
    /// The problems of the worker's machine, as sentences.
    pub fn problems(&self) -> Vec<String> {
        self.reported(PROBLEMS).unwrap_or_default()
    }

    /// The same as people see them.
    pub fn problem_lines(&self) -> impl Iterator<Item = Printable> {
        let shown = self.problems().into_iter().take(MAX_LINES);
        shown.map(|problem| Printable::line(&problem, LINE_CHARS))
    }

    /// The same by parts, if the worker reports them so.
    fn problems_by_part(&self) -> Option<Problems> {
        self.reported(PROBLEMS_BY_PART)
    }

    /// Why the worker has no trainer that works for jobs of this kind. It would refuse them.
    pub fn trainer_problem(&self, job_type: JobType) -> Option<String> {
        self.problems_by_part()?.of_trainer(job_type).map(str::to_owned)
    }

    /// Whether it has a trainer that works for any kind of job, as far as it reports.
    pub fn has_trainer(&self) -> bool {
        let problems = self.problems_by_part().unwrap_or_default();
        problems.training.is_none() || problems.inference.is_none()
    }

    /// Its largest GPU, or what it has instead. A worker's own text.
    pub fn gpu_model(&self) -> &str {
        let is_broken = match self.problems_by_part() {
            Some(problems) => !problems.gpus.is_empty(),
            None => !self.problems().is_empty(),
        };
        match self.accelerators.largest() {
            Some(gpu) => &gpu.model,
            None if is_broken => "none that works",
            None => "CPU",
        }
    }

    /// Its status for people. A worker with a free slot is not `available` to jobs whose trainer does not
    /// work.
    pub fn status_words(&self) -> &'static str {
        let lacks = |job_type| self.trainer_problem(job_type).is_some();
        match (self.status, lacks(JobType::Training), lacks(JobType::Inference)) {
            (WorkerStatus::Available, true, true) => "no working trainer",
            (WorkerStatus::Available, true, false) => "tracks only",
            (WorkerStatus::Available, false, true) => "trains only",
            (status, ..) => status.as_str(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signaling::PeerInfo;

    fn worker(properties: Value) -> WorkerFacts {
        let metadata = json!({ "tags": [], "properties": properties });
        let peer = json!({ "peer_id": "w", "role": "worker", "metadata": metadata });
        WorkerFacts::from_peer(&serde_json::from_value::<PeerInfo>(peer).unwrap())
    }

    #[test]
    fn a_broken_trainer_is_no_broken_gpu() {
        let fails = Some("the trainer fails".to_owned());
        let both =
            Problems { training: fails.clone(), inference: fails.clone(), ..Problems::default() };
        for (problems, status, gpu) in [
            (Problems::default(), "available", "CPU"),
            (Problems { training: fails.clone(), ..Problems::default() }, "tracks only", "CPU"),
            (Problems { inference: fails, ..Problems::default() }, "trains only", "CPU"),
            (both.clone(), "no working trainer", "CPU"),
            (
                Problems { gpus: vec!["GPU 0 is lost".into()], ..Problems::default() },
                "available",
                "none that works",
            ),
        ] {
            let mut properties = Map::new();
            properties.insert("status".into(), "available".into());
            problems.publish(&mut properties);
            let worker = worker(Value::Object(properties));
            assert_eq!((worker.status_words(), worker.gpu_model()), (status, gpu), "{problems:?}");
        }
        assert_eq!(both.sentences(), ["the trainer fails"]);
    }

    #[test]
    fn the_end_of_problems_is_published() {
        let mut properties = Map::new();
        Problems::default().publish(&mut properties);
        assert!(properties.is_empty());
        Problems { disk: Some("full".into()), ..Problems::default() }.publish(&mut properties);
        Problems::default().publish(&mut properties);
        assert_eq!(Value::Object(properties), json!({ "problems": [], "problems-by-part": {} }));
    }

    #[test]
    fn an_older_worker_and_nonsense_are_read_too() {
        let older = worker(json!({ "status": "maintenance", "problems": ["GPU 0 is lost"] }));
        assert_eq!((older.status_words(), older.gpu_model()), ("maintenance", "none that works"));
        let nonsense = worker(json!({ "status": "available", "problems-by-part": [1] }));
        assert_eq!((nonsense.status_words(), nonsense.gpu_model()), ("available", "CPU"));
    }
}
