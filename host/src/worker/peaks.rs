//! The most GPU memory that running jobs have used, by the surveys of the GPUs.

use super::gpus::session_of;
use parking_lot::Mutex;
use sleap_rtc_gpu::{Device, Survey};
use std::collections::HashMap;
use std::sync::{Arc, Weak};

/// The jobs that run now.
#[derive(Default)]
pub(crate) struct Peaks {
    watched: Mutex<Vec<Weak<Peak>>>,
    /// What the GPUs held at the last survey while no job was watched, in MiB by their numbers.
    idle_mib: Mutex<HashMap<u32, u64>>,
}

/// What one job has used so far.
pub(crate) struct Peak {
    /// The session of its processes.
    session: u32,
    /// Its GPUs by their numbers; `None` if it may use any.
    gpus: Option<Vec<u32>>,
    /// What these held before it began.
    before_mib: HashMap<u32, u64>,
    most_mib: Mutex<Option<u64>>,
}

impl Peaks {
    /// Watches a job until the result is dropped.
    pub(crate) fn watch(&self, session: u32, gpus: Option<Vec<u32>>) -> Arc<Peak> {
        let before_mib = self.idle_mib.lock().clone();
        let peak = Arc::new(Peak { session, gpus, before_mib, most_mib: Mutex::new(None) });
        self.watched.lock().push(Arc::downgrade(&peak));
        peak
    }

    /// Records what the running jobs use according to a survey.
    pub(crate) fn record(&self, survey: &Survey) {
        let Survey::Answered(inventory) = survey else { return };
        let mut watched = self.watched.lock();
        watched.retain(|peak| peak.strong_count() > 0);
        let jobs: Vec<Arc<Peak>> = watched.iter().filter_map(Weak::upgrade).collect();
        if jobs.is_empty() {
            let held = inventory.devices.iter().filter_map(|d| Some((d.index, held_mib(d)?)));
            *self.idle_mib.lock() = held.collect();
        }
        for job in &jobs {
            let alone = |device: &Device| {
                jobs.iter().filter(|other| other.may_use(device.index)).count() == 1
            };
            let used = inventory.devices.iter().filter(|device| job.may_use(device.index));
            let used = used.filter_map(|device| job.used_mib(device, alone(device)));
            // Estimates of GPU memory are for one GPU.
            if let Some(mib) = used.max().filter(|mib| *mib > 0) {
                let mut most = job.most_mib.lock();
                *most = Some(most.map_or(mib, |most| most.max(mib)));
            }
        }
    }
}

impl Peak {
    /// The most since the last call.
    pub(crate) fn take(&self) -> Option<u64> {
        self.most_mib.lock().take()
    }

    fn may_use(&self, gpu: u32) -> bool {
        self.gpus.as_ref().is_none_or(|own| own.contains(&gpu))
    }

    /// How much memory of a device the job uses: what its processes hold, or else what has been added since
    /// it began, if it is `alone` there. The driver tells processes apart only where it sees their ids.
    fn used_mib(&self, device: &Device, alone: bool) -> Option<u64> {
        let processes = device.processes.as_deref().unwrap_or_default();
        let own = processes.iter().filter(|process| session_of(process.pid) == Some(self.session));
        let own: Vec<Option<u64>> = own.map(|process| process.memory_mib).collect();
        match own.iter().copied().collect::<Option<Vec<u64>>>() {
            Some(own) if !own.is_empty() => Some(own.into_iter().sum()),
            _ if alone => {
                let before = self.before_mib.get(&device.index)?;
                Some(held_mib(device)?.saturating_sub(*before))
            }
            _ => None,
        }
    }
}

/// The memory of a device that somebody holds, in MiB.
fn held_mib(device: &Device) -> Option<u64> {
    let gpu = device.health.gpu()?;
    gpu.memory_mib.checked_sub(gpu.memory_free_mib?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sleap_rtc_gpu::{GpuHealth, GpuProcess, Inventory};
    use sleap_rtc_protocol::capabilities::Gpu;
    use std::process::Command;

    fn survey(free_mib: u64, processes: Option<Vec<GpuProcess>>) -> Survey {
        let gpu = Gpu { memory_mib: 1000, memory_free_mib: Some(free_mib), ..Gpu::default() };
        let (uuid, slices) = (None, Vec::new());
        let device = Device { index: 0, uuid, health: GpuHealth::Working(gpu), slices, processes };
        Survey::Answered(Inventory { devices: vec![device], ..Inventory::default() })
    }

    #[test]
    fn the_most_counts_and_each_run_has_its_own() {
        let peaks = Peaks::default();
        peaks.record(&survey(900, None));
        let peak = peaks.watch(u32::MAX, Some(vec![0]));
        for free in [900, 300, 500] {
            peaks.record(&survey(free, None));
        }
        assert_eq!((peak.take(), peak.take()), (Some(600), None));
        peaks.record(&survey(500, None));
        assert_eq!(peak.take(), Some(400));
    }

    #[test]
    fn what_two_jobs_share_is_not_guessed() {
        let peaks = Peaks::default();
        peaks.record(&survey(900, None));
        let (one, other) = (peaks.watch(u32::MAX, None), peaks.watch(u32::MAX - 1, Some(vec![0])));
        peaks.record(&survey(300, None));
        assert_eq!((one.take(), other.take()), (None, None));
    }

    /// A process that leads a session of its own, as a job's does.
    struct Leader(std::process::Child);

    impl Leader {
        fn start() -> Self {
            let leader = Self(Command::new("setsid").args(["sleep", "600"]).spawn().unwrap());
            while session_of(leader.0.id()) != Some(leader.0.id()) {
                std::thread::yield_now();
            }
            leader
        }
    }

    impl Drop for Leader {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn processes_of_the_jobs_session_are_its_own() {
        let (job, other) = (Leader::start(), Leader::start());
        let peaks = Peaks::default();
        let peak = peaks.watch(job.0.id(), None);
        let process =
            |leader: &Leader, mib| GpuProcess { pid: leader.0.id(), memory_mib: Some(mib) };
        peaks.record(&survey(100, Some(vec![process(&job, 70), process(&other, 500)])));
        assert_eq!(peak.take(), Some(70));
    }
}
