//! What an operator configures about the jobs that a worker submits.

use std::time::Duration;

/// How jobs are submitted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SlurmOptions {
    /// `--partition`.
    pub partition: Option<String>,
    /// `--account`.
    pub account: Option<String>,
    /// `--qos`.
    pub qos: Option<String>,
    /// `--gres`, such as `gpu:1`.
    pub gres: Option<String>,
    /// `--time`.
    pub time: TimeLimit,
    /// Further options of `sbatch`, with their values. The configuration has checked them.
    pub options: Vec<(String, String)>,
    /// Lines of shell before the job's process starts, such as `module load cuda`.
    pub environment: Vec<String>,
}

/// How long Slurm lets a job run.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TimeLimit {
    /// The longest time. Without it, the partition's default applies.
    pub longest: Option<Duration>,
    /// How many times its estimate a job gets, if there is an estimate.
    pub factor: Option<f64>,
}

/// No job is worth submitting for less than this.
const SHORTEST: Duration = Duration::from_secs(10 * 60);

impl TimeLimit {
    /// The limit of a job that is expected to run for `estimate`.
    pub fn of(self, estimate: Option<Duration>) -> Option<Duration> {
        let scaled = self.factor.zip(estimate).and_then(|(factor, estimate)| {
            Duration::try_from_secs_f64(estimate.as_secs_f64() * factor).ok()
        });
        let scaled = scaled.map(|limit| limit.max(SHORTEST));
        match (scaled, self.longest) {
            (Some(scaled), Some(longest)) => Some(scaled.min(longest)),
            (scaled, longest) => scaled.or(longest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_limit_follows_the_estimate_and_never_exceeds_the_longest() {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        let limit = TimeLimit { longest: Some(minutes(120)), factor: Some(2.0) };
        assert_eq!(limit.of(Some(minutes(40))), Some(minutes(80)));
        assert_eq!(limit.of(Some(minutes(1))), Some(minutes(10)));
        assert_eq!(limit.of(Some(minutes(90))), Some(minutes(120)));
        assert_eq!(limit.of(None), Some(minutes(120)));
        assert_eq!(TimeLimit::default().of(Some(minutes(90))), None);
    }
}
