//! Which GPUs belong to which slot.

use super::facts::SlotView;
use crate::config::SlotsConfig;
use sleap_rtc_job::RunnerSettings;
use sleap_rtc_protocol::capabilities::Gpu;
use sleap_rtc_protocol::worker::Slot;

/// Why the configured slots cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotsError {
    /// A GPU that is not there.
    #[error(
        "`[worker] slots` gives GPU {gpu} to slot {slot}, but this machine has {}; `nvidia-smi -L` \
         lists them", gpus(*.count)
    )]
    NoSuchGpu {
        /// Its index.
        gpu: u32,
        /// Counted from 0.
        slot: usize,
        /// How many GPUs there are.
        count: usize,
    },
}

fn gpus(count: usize) -> String {
    match count {
        0 => "no GPU that could be found".into(),
        1 => "one GPU, number 0".into(),
        _ => format!("the GPUs 0 to {}", count - 1),
    }
}

/// The GPUs of each slot, by index; `None` leaves the choice to the environment and to CUDA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SlotGpus(Vec<Option<Vec<u32>>>);

impl SlotGpus {
    /// Deals out `count` GPUs. `visible` is the worker's own `CUDA_VISIBLE_DEVICES`, which says what
    /// the operator wants it to use where the configuration does not.
    pub(super) fn plan(
        config: &SlotsConfig,
        count: usize,
        visible: Option<&str>,
    ) -> Result<Self, SlotsError> {
        let all = || (0..).take(count).collect::<Vec<u32>>();
        let usable = match visible {
            None => Some(all()),
            // What is not a list of indices names GPUs in a way that only CUDA understands.
            Some(text) => indices(text).filter(|list| list.iter().all(|gpu| all().contains(gpu))),
        };
        Ok(Self(match (config, usable) {
            (SlotsConfig::Gpus(lists), _) => {
                check(lists, count)?;
                lists.iter().cloned().map(Some).collect()
            }
            (SlotsConfig::PerGpu, Some(gpus)) if !gpus.is_empty() => {
                gpus.into_iter().map(|gpu| Some(vec![gpu])).collect()
            }
            (SlotsConfig::PerGpu, _) => vec![None],
            (SlotsConfig::Count(slots), Some(gpus)) if !gpus.is_empty() => {
                (0..*slots).map(|slot| Some(share(&gpus, slot, *slots))).collect()
            }
            (SlotsConfig::Count(slots), _) => vec![None; *slots],
        }))
    }

    /// How many slots there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The slots in the order in which they are taken: those with the most GPU memory first.
    pub(super) fn order(&self, gpus: &[Gpu]) -> Vec<usize> {
        let memory_mib = |slot: &usize| -> u64 {
            let own = self.0[*slot].iter().flatten();
            own.filter_map(|index| gpus.get(*index as usize))
                .map(|gpu| gpu.memory_mib)
                .max()
                .unwrap_or(0)
        };
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_key(|slot| std::cmp::Reverse(memory_mib(slot)));
        order
    }

    /// What is in each slot, with its GPUs.
    pub(super) fn views(&self, slots: &[Slot]) -> Vec<SlotView> {
        slots.iter().cloned().zip(self.0.iter().cloned()).collect()
    }

    /// The settings of a job that runs in `slot`.
    pub(super) fn settings(&self, slot: usize, general: &RunnerSettings) -> RunnerSettings {
        let gpus = self.0.get(slot).cloned().flatten();
        RunnerSettings { slot: Some(slot), gpus, ..general.clone() }
    }

    /// The slot in which a job with these settings belongs: its own, or where its GPUs are now.
    pub(super) fn place_of(&self, job: &RunnerSettings) -> Option<usize> {
        let same = |slot: &usize| self.0.get(*slot) == Some(&job.gpus);
        let wanted = job.gpus.as_deref().unwrap_or_default();
        let shares = |gpus: &Option<Vec<u32>>| gpus.iter().flatten().any(|g| wanted.contains(g));
        job.slot
            .filter(same)
            .or_else(|| (0..self.len()).find(same))
            .or_else(|| self.0.iter().position(shares))
            .or(job.slot)
    }
}

/// Says of each GPU whether one of the running jobs holds it; these are the jobs' own GPUs, `None`
/// for a job that may use any.
pub(super) fn mark_taken<'a>(
    gpus: &mut [Gpu],
    jobs: impl Iterator<Item = Option<&'a [u32]>> + Clone,
) {
    let anywhere = jobs.clone().any(|gpus| gpus.is_none());
    for (index, gpu) in (0..).zip(gpus) {
        let taken = jobs.clone().flatten().any(|gpus| gpus.contains(&index));
        gpu.taken = (taken || !anywhere).then_some(taken);
    }
}

fn check(lists: &[Vec<u32>], count: usize) -> Result<(), SlotsError> {
    for (slot, list) in lists.iter().enumerate() {
        if let Some(&gpu) = list.iter().find(|gpu| **gpu as usize >= count) {
            return Err(SlotsError::NoSuchGpu { gpu, slot, count });
        }
    }
    Ok(())
}

/// The GPUs of one of several slots: every one belongs to one slot; with more slots than GPUs they
/// are shared.
fn share(gpus: &[u32], slot: usize, slots: usize) -> Vec<u32> {
    if slots > gpus.len() {
        return vec![gpus[slot % gpus.len()]];
    }
    gpus.iter().skip(slot).step_by(slots).copied().collect()
}

fn indices(text: &str) -> Option<Vec<u32>> {
    text.split(',').map(|index| index.trim().parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(config: SlotsConfig, count: usize, visible: Option<&str>) -> Vec<Option<Vec<u32>>> {
        SlotGpus::plan(&config, count, visible).unwrap().0
    }

    #[test]
    fn gpus_are_dealt_out() {
        use SlotsConfig::{Count, Gpus, PerGpu};
        let some = |lists: &[&[u32]]| lists.iter().map(|l| Some(l.to_vec())).collect::<Vec<_>>();
        assert_eq!(plan(PerGpu, 0, None), [None]);
        assert_eq!(plan(PerGpu, 2, None), some(&[&[0], &[1]]));
        assert_eq!(plan(PerGpu, 4, Some("2, 3")), some(&[&[2], &[3]]));
        assert_eq!(plan(PerGpu, 4, Some("GPU-8932f937")), [None]);
        assert_eq!(plan(PerGpu, 4, Some("")), [None]);
        assert_eq!(plan(PerGpu, 2, Some("7")), [None]);
        assert_eq!(plan(Count(2), 3, None), some(&[&[0, 2], &[1]]));
        assert_eq!(plan(Count(3), 2, None), some(&[&[0], &[1], &[0]]));
        assert_eq!(plan(Count(2), 0, None), [None, None]);
        assert_eq!(plan(Count(2), 4, Some("1,3")), some(&[&[1], &[3]]));
        let lists = vec![vec![0], vec![], vec![1, 2]];
        assert_eq!(plan(Gpus(lists.clone()), 3, Some("0")), some(&[&[0], &[], &[1, 2]]));
        let error = SlotGpus::plan(&Gpus(lists), 2, None).unwrap_err();
        insta::assert_snapshot!(error, @"`[worker] slots` gives GPU 2 to slot 2, but this machine has the GPUs 0 to 1; `nvidia-smi -L` lists them");
    }

    #[test]
    fn a_job_that_is_found_belongs_where_its_gpus_are() {
        let slots = SlotGpus(vec![Some(vec![0]), Some(vec![1]), Some(vec![2, 3])]);
        let place = |slot, gpus: &[u32]| {
            let gpus = Some(gpus.to_vec());
            slots.place_of(&RunnerSettings { slot, gpus, ..RunnerSettings::default() })
        };
        assert_eq!(place(Some(1), &[1]), Some(1));
        assert_eq!(place(Some(0), &[1]), Some(1));
        assert_eq!(place(Some(0), &[3]), Some(2));
        assert_eq!(place(Some(7), &[9]), Some(7));
        assert_eq!(slots.place_of(&RunnerSettings::default()), None);
    }

    #[test]
    fn a_gpu_is_taken_free_or_nobody_knows() {
        let taken = |jobs: &[Option<&[u32]>]| {
            let mut gpus = vec![Gpu::default(); 3];
            mark_taken(&mut gpus, jobs.iter().copied());
            gpus.into_iter().map(|gpu| gpu.taken).collect::<Vec<_>>()
        };
        assert_eq!(taken(&[]), [Some(false); 3]);
        assert_eq!(taken(&[Some(&[0, 2])]), [Some(true), Some(false), Some(true)]);
        assert_eq!(taken(&[Some(&[1]), None]), [None, Some(true), None]);
    }
}
