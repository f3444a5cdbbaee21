//! Checks the GPUs, their driver, the trainer and its PyTorch.

use crate::cli::findings::Finding;
use crate::cli::print;
use crate::config::{SlotsConfig, WorkerConfig};
use crate::worker::confinement::runner_settings;
use crate::worker::{gpus, slots};
use sleap_rtc_base::bounded_wait::BoundedWait;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_gpu::{GpuHealth, Selector, Survey, visible_devices};
use sleap_rtc_job::trainers::{Trainer, TrainerVersion, Trainers};
use sleap_rtc_job::{ReadScope, RunnerSettings, Sandbox};
use std::time::Duration;

/// How long each program of a trainer may take. Its imports take seconds on a cold disk.
const PATIENCE: BoundedWait =
    BoundedWait { limit: Duration::from_secs(20), announce: print::waiting };
const BY_HAND: &str = "run it by hand; if the disk was only cold, check once more";
const INSTALL: &str = "uv tool install \"sleap-nn[torch]\" --torch-backend auto";

pub(crate) async fn check(config: &WorkerConfig) -> Vec<Finding> {
    let (mut findings, has_gpu) = check_gpus(config).await;
    let settings = match runner_settings(config) {
        Ok(settings) => settings,
        Err(error) => {
            let advice = "see \"The sandbox\" in docs/worker.md";
            findings.push(Finding::fail("sandbox", WithCauses(&error).to_string(), advice));
            RunnerSettings::default()
        }
    };
    let trainers = Trainers::find(&settings, PATIENCE).await;
    let confinement = settings.confinement.as_ref();
    findings.extend(confinement.map(|confinement| sandbox(&confinement.sandbox, trainers.scope)));
    findings.extend(trainer(&trainers));
    if let Trainer::Works(_) = &trainers.training {
        let report = sleap_rtc_job::trainers::system_report(&settings, PATIENCE).await;
        findings.push(match report {
            Ok(report) => torch(report.as_deref(), has_gpu),
            Err(silence) => Finding::warn("torch", silence, BY_HAND),
        });
    }
    findings
}

/// How jobs are confined on this machine.
fn sandbox(sandbox: &Sandbox, scope: ReadScope) -> Finding {
    let says = format!("jobs are confined by: {sandbox}");
    if let Some(more) = scope.explain() {
        let advice = "name what the trainer needs in `[worker] sandbox_read`, and jobs read no more than that";
        return Finding::warn("sandbox", format!("{says}; {more}"), advice);
    }
    match (sandbox, sandbox.lack()) {
        (_, None) => Finding::ok("sandbox", says),
        (Sandbox::Off, Some(lack)) => {
            Finding::warn("sandbox", format!("{says}; {lack}"), "set `[worker] sandbox = \"auto\"`")
        }
        (_, Some(lack)) => Finding::warn(
            "sandbox",
            format!("{says}; {lack}"),
            "use a newer kernel, and give room tokens only to people who may log in here",
        ),
    }
}

async fn check_gpus(config: &WorkerConfig) -> (Vec<Finding>, bool) {
    if let Some(gpus) = &config.gpus {
        let says = format!("`[worker] gpus` describes {}; the worker detects none", gpus.len());
        let mut findings = vec![Finding::ok("gpu", says)];
        if let Err(error) = slots::check(&config.slots, gpus) {
            findings.push(Finding::fail("slots", error.to_string(), "see `[worker] gpus`"));
        }
        return (findings, !gpus.is_empty());
    }
    let survey = gpus::survey(print::waiting).await;
    let mut findings = found(&survey);
    findings.extend(slots_without_gpu(&config.slots, &survey));
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    if let (Some(text), Survey::Answered(inventory)) = (visible, &survey) {
        let names = visible_devices(&text);
        let missing: Vec<String> =
            names.iter().filter(|n| n.find(inventory).is_none()).map(ToString::to_string).collect();
        findings.push(match missing.is_empty() {
            true => {
                Finding::ok("visible", format!("CUDA_VISIBLE_DEVICES names {} GPUs", names.len()))
            }
            false => Finding::fail(
                "visible",
                format!(
                    "CUDA_VISIBLE_DEVICES names {}, which the driver does not list",
                    missing.join(", ")
                ),
                "see `nvidia-smi -L`",
            ),
        });
    }
    let has_gpu = matches!(&survey, Survey::Answered(i) if i.devices.iter().any(|d| d.health.gpu().is_some()));
    (findings, has_gpu)
}

/// The slots whose GPUs the driver does not list. They take no jobs.
fn slots_without_gpu(config: &SlotsConfig, survey: &Survey) -> Option<Finding> {
    let inventory = match survey {
        Survey::Answered(inventory) => Some(inventory),
        Survey::NoDriver => None,
        Survey::Unavailable(_) => return None,
    };
    let is_missing =
        |name: &Selector| inventory.is_none_or(|inventory| name.find(inventory).is_none());
    let missing: Vec<String> = slots::named_gpus(config)?
        .iter()
        .filter(|name| is_missing(name))
        .map(ToString::to_string)
        .collect();
    let says = format!("`[worker] slots` names GPU {}, which is not there", missing.join(", "));
    let advice = "see `nvidia-smi -L`; the slot takes no jobs until the driver lists the GPU";
    (!missing.is_empty()).then(|| Finding::fail("slots", says, advice))
}

fn found(survey: &Survey) -> Vec<Finding> {
    let inventory = match survey {
        Survey::NoDriver => {
            let says = "no NVIDIA driver: jobs run on the CPU";
            return vec![Finding::warn(
                "gpu",
                says,
                "install the driver if this machine has a GPU",
            )];
        }
        Survey::Unavailable(words) => {
            let says = format!("the NVIDIA driver does not answer: {words}");
            let advice = "restart the machine after an upgrade of the driver; `dmesg | grep -i nvrm` \
                          shows details; `[worker] gpus = []` runs jobs on the CPU";
            return vec![Finding::fail("gpu", says, advice)];
        }
        Survey::Answered(inventory) => inventory,
    };
    let version = |version: &Option<String>| version.clone().unwrap_or_else(|| "unknown".into());
    let (driver, cuda) = (version(&inventory.driver_version), version(&inventory.cuda_version));
    let mut findings = vec![Finding::ok("driver", format!("{driver}, for CUDA up to {cuda}"))];
    if inventory.devices.is_empty() {
        let says = "the driver lists no GPU: jobs run on the CPU";
        findings.push(Finding::warn(
            "gpu",
            says,
            "see `nvidia-smi -L`, and the container's options",
        ));
    }
    findings.extend(inventory.devices.iter().map(|device| match &device.health {
        GpuHealth::Working(gpu) => {
            let (model, mib) = (&gpu.model, gpu.memory_mib);
            Finding::ok("gpu", format!("{}: {model}, {mib} MB", device.index))
        }
        GpuHealth::Lost(words) => Finding::fail(
            "gpu",
            format!("{} is lost: {words}", device.index),
            "`nvidia-smi --gpu-reset` or a restart may bring it back; its slot takes no jobs until then",
        ),
    }));
    findings
}

fn trainer(trainers: &Trainers) -> Vec<Finding> {
    let problems = trainers.problems();
    if problems.is_empty() {
        let program = trainers.training.program().unwrap_or("".as_ref()).display();
        return vec![match &trainers.version {
            TrainerVersion::Known(version) => {
                Finding::ok("trainer", format!("{program} {version}"))
            }
            TrainerVersion::Unknown => {
                Finding::ok("trainer", format!("{program} of unknown version"))
            }
            TrainerVersion::Silent(silence) => Finding::warn("trainer", silence, BY_HAND),
        }];
    }
    let advice = format!("install it with {INSTALL}, or name another in `[worker] trainer`");
    problems.into_iter().map(|says| Finding::fail("trainer", says, advice.clone())).collect()
}

/// The CUDA lines of sleap-nn's report about its installation.
fn torch(report: Option<&str>, has_gpu: bool) -> Finding {
    let Some(report) = report else {
        return Finding::ok("torch", "this trainer does not report on its PyTorch");
    };
    let lines = report.lines().map(str::trim);
    let about_cuda = lines.filter(|line| line.to_ascii_lowercase().contains("cuda"));
    let about_cuda: Vec<&str> = about_cuda.collect();
    let denies = |line: &&&str| {
        let line = line.to_ascii_lowercase();
        line.contains("available")
            && ["false", "no", "not"]
                .iter()
                .any(|word| line.split(|c: char| !c.is_alphanumeric()).any(|other| other == *word))
    };
    match about_cuda.iter().find(denies) {
        Some(line) if has_gpu => Finding::fail(
            "torch",
            format!("PyTorch does not use the GPU: {line}"),
            format!("install it for this driver's CUDA: {INSTALL}"),
        ),
        _ => Finding::ok(
            "torch",
            match about_cuda.first() {
                Some(line) => (*line).to_owned(),
                None => "the report does not mention CUDA".to_owned(),
            },
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::findings::Verdict;

    #[test]
    fn a_torch_for_the_cpu_beside_a_gpu_fails() {
        let cpu = "PyTorch: 2.9.0+cpu\nCUDA available: False\n";
        assert_eq!(torch(Some(cpu), true).verdict, Verdict::Fail);
        assert_eq!(torch(Some(cpu), false).verdict, Verdict::Ok);
        let cuda = "PyTorch: 2.9.0+cu128\nCUDA available: True\nCUDA version: 12.8\n";
        assert_eq!(torch(Some(cuda), true), Finding::ok("torch", "CUDA available: True"));
        assert_eq!(torch(None, true).verdict, Verdict::Ok);
    }

    #[test]
    fn slots_with_a_gpu_that_is_not_there_fail() {
        let slots = SlotsConfig::Gpus(vec![vec![9]]);
        let found = slots_without_gpu(&slots, &Survey::NoDriver).unwrap();
        assert_eq!(found.verdict, Verdict::Fail);
        assert!(found.says.contains("GPU 9"), "{found:?}");
        assert_eq!(slots_without_gpu(&SlotsConfig::Count(2), &Survey::NoDriver), None);
    }

    #[test]
    fn a_broken_driver_fails_and_a_missing_one_is_a_warning() {
        assert_eq!(found(&Survey::NoDriver)[0].verdict, Verdict::Warn);
        let broken = found(&Survey::Unavailable("version mismatch".into()));
        assert_eq!(broken[0].verdict, Verdict::Fail);
        assert!(broken[0].says.contains("version mismatch"));
    }
}
