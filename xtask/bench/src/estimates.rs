//! `bench estimates`: replays jobs with known durations through the default estimates, in the order in which
//! a lab would submit them, and compares what was estimated before each job with what it took.
//!
//! The lab has projects, each with its images, models and settings. Labels are added over the weeks, batch
//! sizes are changed now and then, trainings stop early when they no longer improve, and nothing takes the
//! same time twice.

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sleap_rtc_policy::{Policies, PolicyConfig};
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::job::{ImageSize, JobDescription, JobType};
use sleap_rtc_protocol::signaling::PeerInfo;
use sleap_rtc_protocol::workload::{Calibration, FinishedJob, FinishedRun, Timing, Workload};
use std::collections::BTreeMap;

/// `bench estimates`.
#[derive(clap::Args)]
pub struct EstimatesOptions {
    /// Number of jobs.
    #[arg(long, default_value_t = 300)]
    jobs: usize,
    /// The first of five labs, which differ in everything that is drawn.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// The jobs from which a worker learns before it is judged.
const LEARNING: usize = 30;
const LABS: u64 = 5;
const GPUS: [(&str, f64); 2] = [("NVIDIA RTX A5000", 1.0), ("NVIDIA GeForce GTX 1080", 0.36)];

/// Prints the table.
pub fn run(options: &EstimatesOptions) -> Result<()> {
    ensure!(options.jobs > LEARNING, "--jobs: more than {LEARNING} are needed");
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let policies = Policies::load(&PolicyConfig::new("/nonexistent".into()))?;
    println!("  lab                    jobs  within  median error  median");
    let mut judged = Vec::new();
    for seed in options.seed..options.seed + LABS {
        let jobs = runtime.block_on(replay(&policies, seed, options.jobs))?;
        let (learning, known) = jobs.split_at(LEARNING);
        tell(&seed.to_string(), &format!("the first {LEARNING}"), learning)?;
        tell(&seed.to_string(), &format!("the next {}", known.len()), known)?;
        judged.extend(known.iter().cloned());
    }
    let mut kinds: BTreeMap<String, Vec<FinishedJob>> = BTreeMap::new();
    for job in &judged {
        kinds.entry(job.kind()).or_default().push(job.clone());
    }
    for (kind, jobs) in &kinds {
        tell("all", kind, jobs)?;
    }
    let found = tell("all", &format!("after the first {LEARNING}"), &judged)?;
    ensure!((0.75..=0.9).contains(&found.within), "the share within is not between 75 and 90 %");
    ensure!(found.median_error < 0.2, "the median error is not below 20 %");
    Ok(())
}

fn tell(lab: &str, what: &str, jobs: &[FinishedJob]) -> Result<Calibration> {
    let found = Calibration::of(jobs).context("no job succeeded")?;
    let Calibration { within, median_error, median_s, .. } = found;
    println!(
        "{lab:>5}  {what:>22}  {:>4.0} %  {:>10.0} %  {:.0} min",
        within * 100.0,
        median_error * 100.0,
        median_s / 60.0
    );
    Ok(found)
}

/// The jobs of a lab, each with what was estimated before it.
async fn replay(policies: &Policies, seed: u64, count: usize) -> Result<Vec<FinishedJob>> {
    let mut lab = Lab::new(seed);
    let workers = GPUS.map(|(model, _)| worker(model)).into_iter().collect::<Option<Vec<_>>>();
    let workers = workers.context("a worker's facts")?;
    let (mut history, mut jobs) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let (mut job, gpu) = lab.job();
        let mut description = JobDescription::unknown(job.runs[0].run.job_type);
        description.runs = job.runs.iter().map(|run| run.run.clone()).collect();
        job.estimate = policies.estimate(&description, &workers[gpu], &history).await;
        history.extend(job.runs.iter().cloned());
        jobs.push(job);
    }
    Ok(jobs)
}

fn worker(gpu: &str) -> Option<WorkerFacts> {
    let properties = serde_json::json!({
        "gpus": [{"model": gpu, "memory_mib": 24_000}], "sleap_version": "0.3.5", "status": "available",
    });
    let peer = serde_json::json!({
        "peer_id": "w", "role": "worker", "connected_at": null,
        "metadata": {"tags": [], "properties": properties},
    });
    serde_json::from_value::<PeerInfo>(peer).ok().map(|peer| WorkerFacts::from_peer(&peer))
}

/// What a project always has.
struct Project {
    models: Vec<&'static str>,
    side: u32,
    filters: u32,
    batch_size: u32,
    epochs: u32,
    /// The epoch at which its trainings usually stop.
    stops_at: f64,
    frames: f64,
}

struct Lab {
    random: StdRng,
    projects: Vec<Project>,
}

impl Lab {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let pipelines: [&[&str]; 3] =
            [&["single_instance"], &["centroid", "centered_instance"], &["bottomup"]];
        let projects = (0..6).map(|number| Project {
            models: pipelines[number % 3].to_vec(),
            side: [384, 512, 768, 1024][random.random_range(0..4)],
            filters: [16, 24, 32][random.random_range(0..3)],
            batch_size: [4, 8][random.random_range(0..2)],
            epochs: [100, 200][random.random_range(0..2)],
            stops_at: random.random_range(35.0..120.0),
            frames: random.random_range(60.0..400.0),
        });
        let projects = projects.collect();
        Self { random, projects }
    }

    /// A factor around 1, whose logarithm has this standard deviation.
    fn about(&mut self, deviation: f64) -> f64 {
        let (one, other): (f64, f64) = (self.random.random_range(1e-9..1.0), self.random.random());
        let normal = (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * other).cos();
        (deviation * normal).exp()
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.random.random_range(0.0..1.0) < probability
    }

    /// The next job, and the position of its GPU. Two of three use the fast one.
    fn job(&mut self) -> (FinishedJob, usize) {
        let project = self.random.random_range(0..self.projects.len());
        let gpu = usize::from(self.chance(0.33));
        let succeeded = !self.chance(0.06);
        let runs: Vec<FinishedRun> = match self.chance(0.35) {
            true => vec![self.tracking(project, gpu, succeeded)],
            false => {
                self.projects[project].frames *= 1.0 + 0.06 * self.random.random_range(0.0..1.0);
                let models = self.projects[project].models.clone();
                models
                    .into_iter()
                    .map(|model| self.training(project, model, gpu, succeeded))
                    .collect()
            }
        };
        let took_s = runs.iter().map(|run| run.took.took_s).sum();
        (FinishedJob { took_s, succeeded, estimate: None, runs }, gpu)
    }

    fn training(
        &mut self,
        project: usize,
        model: &str,
        gpu: usize,
        succeeded: bool,
    ) -> FinishedRun {
        let (speed, changed) = (GPUS[gpu].1, self.chance(0.1));
        let Project { side, filters, batch_size, epochs, stops_at, frames, .. } =
            self.projects[project];
        let side = if model == "centered_instance" { 160 } else { side };
        let batch_size = if changed { batch_size * 2 } else { batch_size };
        let frames = frames.round();
        let batches = (frames * 0.9 / f64::from(batch_size)).ceil().max(200.0);
        let work = f64::from(batch_size) * f64::from(side * side) * f64::from(filters);
        let s_per_batch = (0.012 + work * 1.1e-9 / speed) * self.about(0.06);
        let validation_s =
            (0.8 + frames * 0.1 * f64::from(side * side) * 6e-9 / speed) * self.about(0.1);
        let stops_at = (stops_at * self.about(0.22)).round();
        let mut done = stops_at.clamp(12.0, f64::from(epochs));
        if !succeeded {
            done = (done * self.random.random_range(0.05..0.9)).ceil();
        }
        let (start_up_s, after_s) =
            (19.0 * self.about(0.15), (8.0 + frames * 0.05) * self.about(0.2));
        let run = Workload {
            model_types: vec![model.to_owned()],
            epochs: Some(epochs),
            stops_early: true,
            batch_size: Some(batch_size),
            batches_per_epoch: Some(batches as u64),
            frames: Some(frames as u64),
            input: Some(ImageSize { height: side, width: side, channels: 1 }),
            filters: Some(filters),
            ..Workload::unknown(JobType::Training)
        };
        let took = Timing {
            took_s: start_up_s + done * (batches * s_per_batch + validation_s) + after_s,
            start_up_s: Some(start_up_s),
            epochs: Some(done as u32),
            s_per_batch: Some(s_per_batch),
            batches_per_epoch: Some(batches as u64),
            validation_s: Some(validation_s),
            after_s: Some(after_s),
            ..Timing::default()
        };
        finished(run, gpu, took, succeeded)
    }

    fn tracking(&mut self, project: usize, gpu: usize, succeeded: bool) -> FinishedRun {
        let Project { side, ref models, .. } = self.projects[project];
        let model_types = models.iter().map(|model| (*model).to_owned()).collect();
        let frames = (9_000.0 * self.about(0.9)).round().max(200.0);
        let s_per_frame = (0.006 + f64::from(side * side) * 4e-8 / GPUS[gpu].1) * self.about(0.12);
        let (start_up_s, after_s) = (16.0 * self.about(0.15), 4.0 * self.about(0.3));
        let run = Workload {
            model_types,
            frames: Some(frames as u64),
            input: Some(ImageSize { height: side, width: side, channels: 1 }),
            ..Workload::unknown(JobType::Inference)
        };
        let took = Timing {
            took_s: start_up_s + frames * s_per_frame + after_s,
            start_up_s: Some(start_up_s),
            after_s: Some(after_s),
            frames: Some(frames as u64),
            s_per_frame: Some(s_per_frame),
            ..Timing::default()
        };
        finished(run, gpu, took, succeeded)
    }
}

fn finished(run: Workload, gpu: usize, took: Timing, succeeded: bool) -> FinishedRun {
    let (gpu, sleap_nn_version) = (Some(GPUS[gpu].0.to_owned()), Some("0.3.5".to_owned()));
    FinishedRun { run, gpu, sleap_nn_version, took, succeeded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_estimates_reach_their_goals() {
        run(&EstimatesOptions { jobs: 300, seed: 1 }).unwrap();
    }
}
