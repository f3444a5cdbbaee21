//! Makes traces: a lab's users, and the jobs that they would submit.

use super::trace::{Trace, TraceJob, TraceWorker};
use crate::LocalTime;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::job::{ImageSize, JobDescription, JobType, Requirements};
use sleap_rtc_protocol::signaling::{Metadata, PeerInfo, Role};

const HOUR_MS: f64 = 3_600_000.0;
const DAY_MS: f64 = 24.0 * HOUR_MS;

/// What to make.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// The same seed gives the same trace.
    pub seed: u64,
    /// How many jobs.
    pub jobs: usize,
    /// How many users. The first submits most, the second half as much, the third a third, and so on.
    pub users: usize,
    /// How many workers, if no room is given.
    pub workers: usize,
    /// Jobs in an hour of a working day, on average.
    pub per_hour: f64,
    /// The share of tracking jobs, 0 to 1.
    pub tracking: f64,
    /// Whether the second week is the one before a deadline: twice as many jobs, at all hours.
    pub deadline_week: bool,
}

/// The GPUs of a made-up room: model and memory in MiB. Each worker has one of these lists.
const MACHINES: [&[(&str, u64)]; 4] = [
    &[("NVIDIA RTX A5000", 24_564)],
    &[("NVIDIA GeForce RTX 3070", 8_192)],
    &[("NVIDIA RTX A6000", 49_140), ("NVIDIA RTX A6000", 49_140)],
    &[("NVIDIA GeForce RTX 4080", 16_376)],
];
const NAMES: [&str; 12] =
    ["ada", "ben", "cleo", "dan", "eve", "finn", "gita", "hugo", "ines", "jun", "kim", "lea"];

/// Makes a trace with the workers of `room`, or with made-up ones.
pub fn generate(recipe: &Recipe, room: Option<Vec<TraceWorker>>) -> Trace {
    let workers = room.unwrap_or_else(|| (0..recipe.workers).filter_map(worker).collect());
    let mut maker = Maker { recipe, random: StdRng::seed_from_u64(recipe.seed), now_ms: 0.0 };
    let jobs = (1..=recipe.jobs).map(|number| maker.job(number)).collect();
    Trace { start: LocalTime::MONDAY, workers, jobs }
}

fn worker(number: usize) -> Option<TraceWorker> {
    let gpus = MACHINES[number % MACHINES.len()];
    let described: Vec<_> = gpus
        .iter()
        .map(|(model, memory_mib)| json!({ "model": model, "memory_mib": memory_mib }))
        .collect();
    let properties = json!({
        "hostname": format!("gpu{}.lab", number + 1),
        "status": "available",
        "gpus": described,
        "max_concurrent_jobs": gpus.len(),
        "supported_job_types": ["training", "inference"],
        "supported_models": ["base", "centroid", "topdown"],
        "sleap_version": "0.3.5",
        "protocols": [sleap_rtc_protocol::DIALECT],
    });
    Some(TraceWorker::from_peer(&PeerInfo {
        peer_id: PeerId::new(format!("gpu{}", number + 1)).ok()?,
        role: Role::Worker,
        metadata: Metadata { tags: Vec::new(), properties: properties.as_object().cloned()? },
        connected_at: serde_json::Value::Null,
    }))
}

/// The name of a user, by rank.
fn user(rank: usize) -> String {
    let name = NAMES[rank % NAMES.len()];
    match rank / NAMES.len() {
        0 => name.to_owned(),
        round => format!("{name}{round}"),
    }
}

struct Maker<'a> {
    recipe: &'a Recipe,
    random: StdRng,
    now_ms: f64,
}

impl Maker<'_> {
    fn job(&mut self, number: usize) -> TraceJob {
        self.wait();
        let user = self.user();
        let is_tracking = self.random.random_bool(self.recipe.tracking.clamp(0.0, 1.0));
        let (description, minutes) = if is_tracking { self.tracking() } else { self.training() };
        TraceJob {
            id: format!("job-{number}"),
            at_ms: self.now_ms as u64,
            duration_ms: (minutes * 60_000.0).max(1000.0) as u64,
            description: JobDescription { user: Some(user), ..description },
        }
    }

    /// Until the next job arrives: a Poisson process whose rate changes with the hour.
    fn wait(&mut self) {
        let most = self.recipe.per_hour.max(0.001) * 2.0;
        loop {
            let gap_h = -(1.0 - self.random.random::<f64>()).ln() / most;
            self.now_ms += gap_h * HOUR_MS;
            if self.random.random_bool(self.rate(self.now_ms) / 2.0) {
                return;
            }
        }
    }

    /// The rate at a time, of the rate in working hours; the trace starts on a Monday at midnight.
    fn rate(&self, at_ms: f64) -> f64 {
        let (day, hour) = ((at_ms / DAY_MS) as u64, at_ms % DAY_MS / HOUR_MS);
        let is_deadline = self.recipe.deadline_week && (7..14).contains(&day);
        match (day % 7 < 5, (9.0..19.0).contains(&hour)) {
            _ if is_deadline => 2.0,
            (true, true) => 1.0,
            (true, false) => 0.15,
            (false, _) => 0.1,
        }
    }

    fn user(&mut self) -> String {
        let users = self.recipe.users.max(1);
        let weight = |rank: usize| 1.0 / (rank + 1) as f64;
        let total: f64 = (0..users).map(weight).sum();
        let mut left = self.random.random::<f64>() * total;
        let rank = (0..users).find(|rank| {
            left -= weight(*rank);
            left < 0.0
        });
        user(rank.unwrap_or(0))
    }

    /// A training job, and how many minutes it really takes: early stopping, and GPUs that are faster or
    /// slower than anybody's estimate.
    fn training(&mut self) -> (JobDescription, f64) {
        let epochs = self.one_of(&[50, 100, 200, 300]);
        let models = self.one_of(&[
            &["centroid", "centered_instance"][..],
            &["single_instance"],
            &["bottomup"],
        ]);
        let min_gpu_memory_mib = match self.random.random::<f64>() {
            share if share < 0.08 => Some(20_000),
            share if share < 0.25 => Some(12_000),
            _ => None,
        };
        let description = JobDescription {
            model_types: models.iter().map(|model| (*model).to_owned()).collect(),
            epochs: Some(epochs),
            batch_size: Some(4),
            frame_count: Some((150.0 * self.spread(0.8)) as u64 + 20),
            image: Some(ImageSize { height: 1024, width: 1024, channels: 1 }),
            package_bytes: Some((80e6 * self.spread(0.8)) as u64),
            requirements: Requirements { min_gpu_memory_mib },
            ..JobDescription::unknown(JobType::Training)
        };
        let early =
            if self.random.random_bool(0.4) { self.random.random_range(0.2..0.9) } else { 1.0 };
        (description, f64::from(epochs) * 0.5 * early * self.spread(0.4))
    }

    /// A tracking job, and how many minutes it really takes.
    fn tracking(&mut self) -> (JobDescription, f64) {
        let frames = (3000.0 * self.spread(1.0)) as u64 + 100;
        let description = JobDescription {
            model_types: vec!["centroid".into(), "centered_instance".into()],
            frame_count: Some(frames),
            image: Some(ImageSize { height: 1024, width: 1024, channels: 1 }),
            package_bytes: Some((200e6 * self.spread(1.0)) as u64),
            ..JobDescription::unknown(JobType::Inference)
        };
        (description, frames as f64 / 100.0 * self.spread(0.5))
    }

    fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.random.random_range(0..values.len())]
    }

    /// A log-normal factor around 1, at most 8 and at least 1/8.
    fn spread(&mut self, sigma: f64) -> f64 {
        // Box and Muller's transform of two uniform numbers.
        let (one, two) = (1.0 - self.random.random::<f64>(), self.random.random::<f64>());
        let normal = (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * two).cos();
        (sigma * normal).exp().clamp(0.125, 8.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn recipe() -> Recipe {
        Recipe {
            seed: 1,
            jobs: 2000,
            users: 5,
            workers: 4,
            per_hour: 8.0,
            tracking: 0.3,
            deadline_week: true,
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_trace() {
        let trace = generate(&recipe(), None);
        assert_eq!(trace, generate(&recipe(), None));
        assert_ne!(trace, generate(&Recipe { seed: 2, ..recipe() }, None));
        let again = Trace::read(trace.to_text().unwrap().as_bytes()).unwrap();
        assert_eq!(again, trace);
    }

    #[test]
    fn users_kinds_and_weeks_are_as_the_recipe_says() {
        let trace = generate(&recipe(), None);
        assert_eq!(trace.workers[2].slots, [vec![0], vec![1]]);
        let mut users: BTreeMap<&str, usize> = BTreeMap::new();
        for job in &trace.jobs {
            *users.entry(job.description.user.as_deref().unwrap()).or_default() += 1;
        }
        assert_eq!(users.len(), 5);
        assert!(users["ada"] > users["ben"] && users["ben"] > users["eve"], "{users:?}");
        let is_tracking = |job: &&TraceJob| job.description.job_type == JobType::Inference;
        let tracking = trace.jobs.iter().filter(is_tracking).count();
        assert!((500..700).contains(&tracking), "{tracking}");
        let in_week = |week: u64| {
            let of = |job: &&TraceJob| job.at_ms / (7 * 86_400_000) == week;
            trace.jobs.iter().filter(of).count()
        };
        assert!(in_week(1) > 2 * in_week(0), "{} {}", in_week(0), in_week(1));
    }
}
