//! Picks the smallest GPU that fits, so that the big ones stay free for big jobs; big jobs get the
//! biggest GPU.
//!
//! A GPU is big if it has at least `big-mib` of memory. A job is big if it requires such a GPU, or
//! if each of its batches has at least `big-megapixels`.

use crate::exports::sleap_rtc::policy::selection::{Choice, Exclusion, Guest, Ranking};
use crate::sleap_rtc::policy::types::{Context, Job, Property, Value, Worker, WorkerStatus};

/// The settings, checked.
struct Rules {
    big_mib: u64,
    big_megapixels: u64,
    /// Whether small jobs never get a big GPU.
    strict: bool,
}

impl Guest for crate::Plugin {
    fn select(context: Context, job: Job, workers: Vec<Worker>) -> Result<Ranking, String> {
        Ok(rank(&Rules::read(&context.settings)?, &job, &workers))
    }
}

impl Rules {
    fn read(settings: &[Property]) -> Result<Self, String> {
        let find = |key: &str| settings.iter().find(|s| s.key == key).map(|s| &s.value);
        let number = |key: &str, default| match find(key) {
            None => Ok(default),
            Some(Value::Integer(number)) if *number > 0 => Ok(number.unsigned_abs()),
            Some(_) => Err(format!("settings: `{key}` must be a whole number above 0")),
        };
        let strict = match find("strict") {
            None => false,
            Some(Value::Flag(strict)) => *strict,
            Some(_) => return Err("settings: `strict` must be true or false".into()),
        };
        let big_megapixels = number("big-megapixels", 16)?;
        Ok(Self { big_mib: number("big-mib", 20_000)?, big_megapixels, strict })
    }

    fn is_big_job(&self, job: &Job) -> bool {
        let demands = job.requirements.min_gpu_memory_mib.unwrap_or(0);
        let pixels = job.image.map_or(0, |image| u64::from(image.height) * u64::from(image.width));
        let in_a_batch = pixels.saturating_mul(job.batch_size.unwrap_or(1).into());
        demands >= self.big_mib || in_a_batch >= self.big_megapixels.saturating_mul(1_000_000)
    }
}

fn rank(rules: &Rules, job: &Job, workers: &[Worker]) -> Ranking {
    let big_job = rules.is_big_job(job);
    let (mut fit, mut left_out) = (Vec::new(), Vec::new());
    for (index, worker) in (0..).zip(workers) {
        let mib = memory_mib(worker);
        match obstacle(rules, job, worker) {
            Some(reason) => left_out.push(Exclusion { index, reason }),
            None => fit.push((index, mib)),
        }
    }
    fit.sort_by_key(|(_, mib)| *mib);
    if big_job {
        fit.reverse();
    }
    let choice = |(index, mib)| {
        let reason = match (big_job, mib >= rules.big_mib) {
            (true, true) => format!("{mib} MiB for a big job"),
            (true, false) => format!("{mib} MiB, not a big GPU"),
            (false, true) => format!("{mib} MiB, kept for big jobs if possible"),
            (false, false) => format!("{mib} MiB is enough"),
        };
        Choice { index, score: if big_job { mib as f64 } else { -(mib as f64) }, reason }
    };
    Ranking { choices: fit.into_iter().map(choice).collect(), left_out }
}

fn obstacle(rules: &Rules, job: &Job, worker: &Worker) -> Option<String> {
    let (needs, has) = (job.requirements.min_gpu_memory_mib.unwrap_or(0), memory_mib(worker));
    match worker.status {
        WorkerStatus::Available if has < needs => Some(format!("needs {needs} MiB, has {has} MiB")),
        WorkerStatus::Available if rules.strict && has >= rules.big_mib => {
            (!rules.is_big_job(job)).then(|| "kept for big jobs".into())
        }
        WorkerStatus::Available => None,
        _ => Some("not available".into()),
    }
}

/// Total memory of the largest GPU.
fn memory_mib(worker: &Worker) -> u64 {
    worker.gpus.iter().map(|gpu| gpu.memory_mib).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sleap_rtc::policy::types::{Gpu, ImageSize, JobType, Requirements};

    const RULES: Rules = Rules { big_mib: 20_000, big_megapixels: 16, strict: false };

    fn worker(memory_mib: u64) -> Worker {
        let gpu = Gpu {
            model: "A".into(),
            memory_mib,
            memory_free_mib: None,
            utilization: None,
            taken: None,
            properties: vec![],
        };
        Worker {
            peer_id: "w".into(),
            hostname: None,
            status: WorkerStatus::Available,
            gpus: vec![gpu],
            driver_version: None,
            cuda_version: None,
            sleap_version: None,
            slots: 1,
            slots_free: 1,
            active_jobs: 0,
            job_types: vec![],
            models: vec![],
            tags: vec![],
            properties: vec![],
        }
    }

    fn job(batch_size: u32, min_gpu_memory_mib: Option<u64>) -> Job {
        Job {
            job_type: JobType::Training,
            model_types: vec![],
            epochs: None,
            batch_size: Some(batch_size),
            frame_count: None,
            image: Some(ImageSize { height: 1000, width: 2000, channels: 1 }),
            package_bytes: None,
            requirements: Requirements { min_gpu_memory_mib, properties: vec![] },
            user: None,
            properties: vec![],
        }
    }

    fn order(rules: &Rules, job: &Job) -> Vec<u32> {
        let workers = [worker(8_000), worker(48_000), worker(12_000), worker(24_000)];
        rank(rules, job, &workers).choices.iter().map(|choice| choice.index).collect()
    }

    #[test]
    fn a_small_job_takes_the_smallest_gpu_that_fits() {
        assert_eq!(order(&RULES, &job(4, None)), [0, 2, 3, 1]);
        assert_eq!(order(&RULES, &job(4, Some(10_000))), [2, 3, 1]);
        assert_eq!(order(&Rules { strict: true, ..RULES }, &job(4, Some(10_000))), [2]);
    }

    #[test]
    fn a_big_job_takes_the_biggest() {
        assert_eq!(order(&RULES, &job(8, None)), [1, 3, 2, 0]);
        assert_eq!(order(&RULES, &job(1, Some(20_000))), [1, 3]);
        assert_eq!(order(&Rules { strict: true, ..RULES }, &job(8, None)), [1, 3, 2, 0]);
    }

    #[test]
    fn an_invalid_setting_is_named() {
        let setting = |key: &str, value| [Property { key: key.into(), value }];
        assert!(Rules::read(&setting("big-mib", Value::Integer(40_000))).is_ok());
        let wrong = Rules::read(&setting("big-mib", Value::Integer(0)));
        assert!(wrong.is_err_and(|why| why.contains("`big-mib`")));
        assert!(Rules::read(&setting("strict", Value::Text("yes".into()))).is_err());
    }
}
