//! How this worker's jobs are confined, according to its configuration and the machine's abilities.

use crate::config::{SandboxChoice, WorkerConfig};
use sleap_rtc_job::{
    Confinement, JobLimits, ReadScope, RunnerSettings, Sandbox, SandboxError, SandboxMode,
};

/// How trainers are confined; the slot and its GPUs are added later. Starts programs to find out
/// what the machine supports, so it must not run in an async task.
pub fn runner_settings(config: &WorkerConfig) -> Result<RunnerSettings, SandboxError> {
    let mode = match config.sandbox.choice {
        SandboxChoice::Auto => SandboxMode::Auto,
        SandboxChoice::Strict => SandboxMode::Strict,
        SandboxChoice::Off => SandboxMode::Off,
    };
    let sandbox = Sandbox::find(mode)?;
    let wanted = config.sandbox.limits;
    let limits = JobLimits {
        processes: wanted.processes,
        memory_bytes: wanted.memory_bytes,
        file_bytes: wanted.file_bytes,
    };
    let confinement = Confinement {
        sandbox,
        limits,
        read: config.sandbox.read.clone(),
        write: config.sandbox.write.clone(),
        hidden: vec![config.state_dir.clone()],
        home: config.sandbox.home.clone(),
        scope: ReadScope::default(),
    };
    Ok(RunnerSettings {
        trainer: config.trainer.clone(),
        pass_env: config.pass_env.clone(),
        log_limit_bytes: wanted.log_bytes,
        confinement: Some(confinement),
        ..RunnerSettings::default()
    })
}

/// Logs how jobs are confined, and the gaps.
pub(crate) fn report(runner: &RunnerSettings) {
    let Some(confinement) = &runner.confinement else { return };
    tracing::info!(sandbox = %confinement.sandbox, "jobs run in a sandbox");
    if let Some(lack) = confinement.sandbox.lack() {
        tracing::warn!("the sandbox has a gap: {lack}");
    }
}
