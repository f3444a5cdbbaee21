//! Hands a job over to Slurm.

use super::commands::call;
use super::options::SlurmOptions;
use crate::error::JobError;
use crate::expected::Expected;
use crate::folder::JobFolder;
use crate::place::{Place, SlurmJob};
use crate::settings::RunnerSettings;
use crate::shared_folder;
use sleap_rtc_base::clock::now_ms;
use sleap_rtc_protocol::job::{JobState, QueueEntry};
use std::path::Path;
use std::time::Duration;

/// A job with at least this limit is warned before its end.
const WARNED_FROM: Duration = Duration::from_secs(10 * 60);

/// Submits a job whose package is complete. Returns once Slurm has taken it; it may start much later.
pub async fn submit(
    folder: &JobFolder,
    options: &SlurmOptions,
    program: &Path,
    settings: &RunnerSettings,
) -> Result<(), JobError> {
    // Slurm decides which GPUs a job gets.
    let settings = RunnerSettings { gpus: None, ..settings.clone() };
    settings.write(folder)?;
    if let JobState::Staging = folder.record()?.state {
        folder.queue(QueueEntry { since_ms: now_ms(), ..QueueEntry::default() })?;
    }
    shared_folder::prepare(folder)?;
    // Written before the call: if this process dies in between, the job is found by its name.
    let name = format!("sleap-rtc-{}", folder.id());
    folder.write_place(&Place::Slurm(SlurmJob { name: name.clone(), number: None }))?;
    let (arguments, script) =
        (arguments(folder, &name, options, &settings), script(folder, options, program));
    match call("sbatch", &arguments, Some(&script), &settings.pass_env).await {
        Ok(printed) => {
            let number = Some(printed.stdout.trim().to_owned());
            tracing::info!(job = %folder.id(), number, name, "Slurm has taken the job");
            folder.write_place(&Place::Slurm(SlurmJob { name, number }))
        }
        Err(error) => {
            // It may have been taken although the answer was lost.
            let _ = cancel(&name).await;
            Err(error.into())
        }
    }
}

/// Removes a job from Slurm's queue, or ends it.
pub async fn cancel(name: &str) -> Result<(), super::SlurmError> {
    call("scancel", &[format!("--name={name}")], None, &[]).await.map(drop)
}

fn arguments(
    folder: &JobFolder,
    name: &str,
    options: &SlurmOptions,
    settings: &RunnerSettings,
) -> Vec<String> {
    // Slurm replaces `%` in names of files.
    let path = |name: &str| folder.path().join(name).to_string_lossy().replace('%', "%%");
    let mut arguments: Vec<String> =
        ["--parsable", "--no-requeue", "--open-mode=append"].map(str::to_owned).into();
    let mut add = |option: &str, value: &str| arguments.push(format!("--{option}={value}"));
    add("job-name", name);
    add("chdir", &folder.path().to_string_lossy());
    add("output", &path("run-job.log"));
    let estimate = Expected::read(folder).and_then(|expected| expected.runs_s());
    let limit = options.time.of(estimate.map(Duration::from_secs));
    arguments.extend(resources(options, limit));
    if limit.is_some_and(|limit| limit >= WARNED_FROM) {
        let warning = settings.stop_grace() * 2 + Duration::from_secs(60);
        arguments.push(format!("--signal=B:USR2@{}", warning.as_secs()));
    }
    arguments
}

/// The options that say what a job needs.
fn resources(options: &SlurmOptions, limit: Option<Duration>) -> Vec<String> {
    let named = [
        ("partition", &options.partition),
        ("account", &options.account),
        ("qos", &options.qos),
        ("gres", &options.gres),
    ];
    let named = named.iter().filter_map(|(option, value)| Some((*option, value.as_deref()?)));
    let further = options.options.iter().map(|(option, value)| (option.as_str(), value.as_str()));
    let all = named.chain(further).map(|(option, value)| format!("--{option}={value}"));
    let minutes = limit.map(|limit| format!("--time={}", limit.as_secs().div_ceil(60)));
    all.chain(minutes).collect()
}

/// When Slurm would start a further job, in milliseconds since 1970, if it knows that. Submits nothing.
pub async fn expected_start_ms(options: &SlurmOptions) -> Result<Option<u64>, super::SlurmError> {
    let mut arguments = resources(options, options.time.longest);
    arguments.extend(["--test-only", "--wrap=true"].map(str::to_owned));
    let printed = call("sbatch", &arguments, None, &[]).await?;
    Ok(start_in(&printed.stderr))
}

/// The time in `sbatch: Job 7 to start at 1796067988 using …`.
fn start_in(text: &str) -> Option<u64> {
    let (_, after) = text.split_once(" to start at ")?;
    let seconds: u64 = after.split_whitespace().next()?.parse().ok()?;
    seconds.checked_mul(1000)
}

/// The batch script. The job's process replaces the shell, so that it receives Slurm's signals.
fn script(folder: &JobFolder, options: &SlurmOptions, program: &Path) -> String {
    // Lines such as `module load` need what a login shell sets up.
    let shell = if options.environment.is_empty() { "#!/bin/sh" } else { "#!/bin/bash -l" };
    let words = [program, folder.path()].map(|path| quoted(&path.to_string_lossy()));
    let [program, folder] = words;
    let lines = options.environment.join("\n");
    format!("{shell}\n{lines}\nexec {program} run-job {folder}\n")
}

/// A word of a shell, whatever is in it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slurm::TimeLimit;
    use crate::tests::job_folder;

    #[test]
    fn an_expected_start_is_read() {
        let text = "sbatch: Job 7 to start at 1796067988 using 4 processors on nodes node1\n";
        assert_eq!(start_in(text), Some(1_796_067_988_000));
        assert_eq!(start_in("allocation failure: Invalid partition name specified"), None);
    }

    #[test]
    fn the_operators_settings_become_options_of_sbatch() {
        let state = tempfile::tempdir().unwrap();
        let folder = job_folder(state.path());
        let options = SlurmOptions {
            partition: Some("gpu".into()),
            gres: Some("gpu:1".into()),
            time: TimeLimit { longest: Some(Duration::from_secs(12 * 3600)), factor: None },
            options: vec![("mem".into(), "32G".into())],
            environment: vec!["module load cuda".into()],
            ..SlurmOptions::default()
        };
        let given = arguments(&folder, "sleap-rtc-job-1", &options, &RunnerSettings::default());
        for expected in [
            "--no-requeue",
            "--job-name=sleap-rtc-job-1",
            "--partition=gpu",
            "--gres=gpu:1",
            "--time=720",
            "--signal=B:USR2@120",
            "--mem=32G",
        ] {
            assert!(given.iter().any(|option| option == expected), "no {expected} in {given:?}");
        }
        let script = script(&folder, &options, Path::new("/it's/sleap-rtc"));
        let folder = folder.path().display();
        assert_eq!(
            script,
            format!(
                "#!/bin/bash -l\nmodule load cuda\nexec '/it'\\''s/sleap-rtc' run-job '{folder}'\n"
            )
        );
    }
}
