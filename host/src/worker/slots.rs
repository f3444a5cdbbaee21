//! The slots and their GPUs.

use super::gpu_pool::GpuPool;
use super::worker_view::SlotView;
use crate::config::{ExecutorConfig, SlotsConfig, WorkerConfig};
use sleap_rtc_gpu::Selector;
use sleap_rtc_job::RunnerSettings;
use sleap_rtc_protocol::capabilities::Gpu;
use sleap_rtc_protocol::worker::Slot;

/// Why the configured slots are impossible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotsError {
    /// A slot names a GPU that does not exist.
    #[error(
        "`[worker] slots` gives GPU {gpu} to slot {slot}, but `[worker] gpus` describes {}",
        gpus(*.count)
    )]
    NoSuchGpu {
        /// Its index.
        gpu: u32,
        /// The slot, counted from 0.
        slot: usize,
        /// How many GPUs there are.
        count: usize,
    },
}

fn gpus(count: usize) -> String {
    match count {
        0 => "none".into(),
        1 => "one GPU, number 0".into(),
        _ => format!("the GPUs 0 to {}", count - 1),
    }
}

/// The GPUs that the configured slots name, ordered by index. `None` if the configuration leaves the
/// choice to the environment and the driver.
pub(crate) fn named_gpus(config: &SlotsConfig) -> Option<Vec<Selector>> {
    let SlotsConfig::Gpus(lists) = config else { return None };
    let mut indices: Vec<u32> = lists.iter().flatten().copied().collect();
    indices.sort_unstable();
    indices.dedup();
    Some(indices.into_iter().map(Selector::Index).collect())
}

/// Refuses slots with GPUs that `[worker] gpus` does not describe. Not used for detected GPUs: one that
/// the driver does not list may appear later.
pub(crate) fn check(config: &SlotsConfig, described: &[Gpu]) -> Result<(), SlotsError> {
    let SlotsConfig::Gpus(lists) = config else { return Ok(()) };
    let count = described.len();
    for (slot, list) in lists.iter().enumerate() {
        if let Some(&gpu) = list.iter().find(|gpu| **gpu as usize >= count) {
            return Err(SlotsError::NoSuchGpu { gpu, slot, count });
        }
    }
    Ok(())
}

/// The GPUs of each slot, by their positions in the pool; `None` for a slot without GPUs of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SlotGpus(Vec<Option<Vec<usize>>>);

impl SlotGpus {
    /// The slots that the configuration asks for.
    pub(crate) fn configured(config: &WorkerConfig, pool: &GpuPool) -> Self {
        match config.executor {
            ExecutorConfig::Local => Self::plan(&config.slots, pool),
            ExecutorConfig::Slurm => Self::of_cluster(&config.slots),
        }
    }

    /// Distributes the GPUs of the pool over the slots.
    pub(crate) fn plan(config: &SlotsConfig, pool: &GpuPool) -> Self {
        let all: Vec<usize> = (0..pool.len()).collect();
        Self(match config {
            SlotsConfig::Gpus(lists) => {
                lists.iter().map(|list| Some(pool.positions(list))).collect()
            }
            SlotsConfig::PerGpu if all.is_empty() => vec![None],
            SlotsConfig::PerGpu => all.into_iter().map(|gpu| Some(vec![gpu])).collect(),
            SlotsConfig::Count(slots) if all.is_empty() => vec![None; *slots],
            SlotsConfig::Count(slots) => {
                (0..*slots).map(|slot| Some(share(&all, slot, *slots))).collect()
            }
        })
    }

    /// This many slots for jobs of a cluster, which decides which GPUs a job gets.
    fn of_cluster(config: &SlotsConfig) -> Self {
        let slots = match config {
            SlotsConfig::PerGpu => 1,
            SlotsConfig::Count(slots) => *slots,
            SlotsConfig::Gpus(lists) => lists.len(),
        };
        Self(vec![None; slots])
    }

    /// How many slots there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The slots in the order in which they are taken: those with the most GPU memory first.
    pub(crate) fn order(&self, pool: &GpuPool) -> Vec<usize> {
        let memory_mib = self.memory_mib(pool);
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_key(|slot| std::cmp::Reverse(memory_mib[*slot]));
        order
    }

    /// The memory of the largest GPU of each slot, in MiB: of all, for a slot without GPUs of its own; 0 where
    /// there are none.
    pub(crate) fn memory_mib(&self, pool: &GpuPool) -> Vec<u64> {
        let gpus = pool.gpus();
        let memory_mib = |own: &Option<Vec<usize>>| {
            let is_own = |position: &usize| own.as_ref().is_none_or(|own| own.contains(position));
            let own = gpus.iter().enumerate().filter(|(position, _)| is_own(position));
            own.filter_map(|(_, gpu)| Some(gpu.as_ref()?.memory_mib)).max().unwrap_or(0)
        };
        self.0.iter().map(memory_mib).collect()
    }

    /// Whether each slot can run a job, that is, whether all of its GPUs work.
    pub(crate) fn usable(&self, pool: &GpuPool) -> Vec<bool> {
        let usable = |gpus: &Option<Vec<usize>>| match gpus {
            None => !pool.is_unknown(),
            Some(positions) => positions.iter().all(|position| pool.is_working(*position)),
        };
        self.0.iter().map(usable).collect()
    }

    /// The state and the GPUs of each slot.
    pub(crate) fn views(&self, slots: &[Slot], pool: &GpuPool) -> Vec<SlotView> {
        let gpus = self.0.iter().cloned().zip(self.usable(pool));
        slots
            .iter()
            .cloned()
            .zip(gpus)
            .map(|(slot, (gpus, is_usable))| SlotView { slot, gpus, is_usable })
            .collect()
    }

    /// The GPUs of a slot.
    pub(crate) fn gpus(&self, slot: usize) -> Option<Vec<usize>> {
        self.0.get(slot).cloned().flatten()
    }

    /// The settings of a job that runs in `slot`.
    pub(crate) fn settings(
        &self,
        slot: usize,
        pool: &GpuPool,
        general: &RunnerSettings,
    ) -> RunnerSettings {
        let positions = self.gpus(slot);
        let gpus = positions.as_ref().map(|positions| pool.indices(positions));
        let mut settings = RunnerSettings { slot: Some(slot), gpus, ..general.clone() };
        if let Some(names) = positions.and_then(|positions| pool.cuda_names(&positions)) {
            settings.set_env.insert("CUDA_VISIBLE_DEVICES".to_owned(), names);
        }
        settings
    }

    /// The slot for a running job with these settings: its own, or the one that has its GPUs now.
    pub(crate) fn slot_for(&self, job: &RunnerSettings, pool: &GpuPool) -> Option<usize> {
        let wanted = job.gpus.as_deref();
        let own = |slot: &usize| {
            self.0.get(*slot).is_some_and(|positions| {
                positions.as_ref().map(|positions| pool.indices(positions)).as_deref() == wanted
            })
        };
        let positions = pool.positions(wanted.unwrap_or_default());
        let shares =
            |gpus: &Option<Vec<usize>>| gpus.iter().flatten().any(|g| positions.contains(g));
        job.slot
            .filter(own)
            .or_else(|| (0..self.len()).find(own))
            .or_else(|| self.0.iter().position(shares))
            .or(job.slot)
    }
}

/// Sets, for each GPU, whether a running job uses it. `jobs` are the jobs' GPUs, `None` for a job that may
/// use any.
pub(crate) fn mark_taken<'a>(
    gpus: &mut [Option<Gpu>],
    jobs: impl Iterator<Item = Option<&'a [usize]>> + Clone,
) {
    let anywhere = jobs.clone().any(|gpus| gpus.is_none());
    for (position, gpu) in gpus.iter_mut().enumerate() {
        let Some(gpu) = gpu else { continue };
        let taken = jobs.clone().flatten().any(|gpus| gpus.contains(&position));
        gpu.taken = (taken || !anywhere).then_some(taken);
    }
}

/// The GPUs of one of `slots` slots. Each GPU belongs to one slot; if there are more slots than GPUs, slots
/// share GPUs.
fn share(gpus: &[usize], slot: usize, slots: usize) -> Vec<usize> {
    if slots > gpus.len() {
        return vec![gpus[slot % gpus.len()]];
    }
    gpus.iter().skip(slot).step_by(slots).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sleap_rtc_gpu::visible_devices;

    fn pool(count: usize, names: Option<Vec<Selector>>) -> GpuPool {
        GpuPool::configured(&vec![Gpu::default(); count], names)
    }

    fn plan(config: SlotsConfig, count: usize, visible: Option<&str>) -> Vec<Option<Vec<u32>>> {
        let names = named_gpus(&config).or(visible.map(visible_devices));
        let pool = pool(count, names);
        let indices =
            |positions: Option<Vec<usize>>| positions.map(|positions| pool.indices(&positions));
        SlotGpus::plan(&config, &pool).0.into_iter().map(indices).collect()
    }

    #[test]
    fn gpus_are_dealt_out() {
        use SlotsConfig::{Count, Gpus, PerGpu};
        let some = |lists: &[&[u32]]| lists.iter().map(|l| Some(l.to_vec())).collect::<Vec<_>>();
        assert_eq!(plan(PerGpu, 0, None), [None]);
        assert_eq!(plan(PerGpu, 2, None), some(&[&[0], &[1]]));
        assert_eq!(plan(PerGpu, 4, Some("2, 3")), some(&[&[2], &[3]]));
        assert_eq!(plan(PerGpu, 4, Some("")), [None]);
        assert_eq!(plan(Count(2), 3, None), some(&[&[0, 2], &[1]]));
        assert_eq!(plan(Count(3), 2, None), some(&[&[0], &[1], &[0]]));
        assert_eq!(plan(Count(2), 0, None), [None, None]);
        assert_eq!(plan(Count(2), 4, Some("1,3")), some(&[&[1], &[3]]));
        let lists = vec![vec![0], vec![], vec![2, 1]];
        assert_eq!(plan(Gpus(lists.clone()), 3, Some("0")), some(&[&[0], &[], &[2, 1]]));
        let error = check(&Gpus(lists), &vec![Gpu::default(); 2]).unwrap_err();
        insta::assert_snapshot!(error, @"`[worker] slots` gives GPU 2 to slot 2, but `[worker] gpus` describes the GPUs 0 to 1");
    }

    #[test]
    fn a_slot_whose_gpu_is_not_there_cannot_run_a_job() {
        let pool = pool(2, Some(visible_devices("1,7")));
        let slots = SlotGpus::plan(&SlotsConfig::PerGpu, &pool);
        assert_eq!(slots.usable(&pool), [true, false]);
        assert_eq!(slots.settings(0, &pool, &RunnerSettings::default()).gpus, Some(vec![1]));
    }

    #[test]
    fn a_job_that_is_found_belongs_where_its_gpus_are() {
        let pool = pool(4, None);
        let slots = SlotGpus(vec![Some(vec![0]), Some(vec![1]), Some(vec![2, 3])]);
        let position = |slot, gpus: &[u32]| {
            let gpus = Some(gpus.to_vec());
            slots.slot_for(&RunnerSettings { slot, gpus, ..RunnerSettings::default() }, &pool)
        };
        assert_eq!(position(Some(1), &[1]), Some(1));
        assert_eq!(position(Some(0), &[1]), Some(1));
        assert_eq!(position(Some(0), &[3]), Some(2));
        assert_eq!(position(Some(7), &[9]), Some(7));
        assert_eq!(slots.slot_for(&RunnerSettings::default(), &pool), None);
    }

    #[test]
    fn a_gpu_is_taken_free_or_nobody_knows() {
        let taken = |jobs: &[Option<&[usize]>]| {
            let mut gpus = vec![Some(Gpu::default()); 3];
            mark_taken(&mut gpus, jobs.iter().copied());
            gpus.into_iter().map(|gpu| gpu.unwrap().taken).collect::<Vec<_>>()
        };
        assert_eq!(taken(&[]), [Some(false); 3]);
        assert_eq!(taken(&[Some(&[0, 2])]), [Some(true), Some(false), Some(true)]);
        assert_eq!(taken(&[Some(&[1]), None]), [None, Some(true), None]);
    }
}
