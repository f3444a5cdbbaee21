//! Looks at the machine's GPUs while the worker runs: what they are used for changes, by this
//! worker's jobs and by anybody else's programs.

use super::Site;
use super::coordinator::CoordinatorHandle;
use rustix::process::{Pid, getsid};
use sleap_rtc_gpu::{self as gpu, GpuProcess};
use sleap_rtc_protocol::capabilities::{Accelerators, Gpu};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How old a measurement may become.
const INTERVAL: Duration = Duration::from_secs(30);
/// A driver in trouble does not answer; what was measured before is forgotten then.
const PATIENCE: Duration = Duration::from_secs(20);

/// What was seen at one moment.
#[derive(Default)]
pub(super) struct Seen {
    accelerators: Accelerators,
    /// By GPU; `None` where the driver does not tell.
    processes: Option<Vec<Vec<GpuProcess>>>,
}

/// Looks again and again until `shutdown`: after each interval, and whenever a job begins or ends.
pub(super) async fn watch(
    site: Arc<Site>,
    coordinator: CoordinatorHandle,
    shutdown: CancellationToken,
) {
    let looking = async {
        loop {
            let _ = tokio::time::timeout(INTERVAL, site.look_at_gpus.notified()).await;
            let mut seeing = tokio::task::spawn_blocking(|| Seen {
                accelerators: gpu::detect(None),
                processes: gpu::processes(),
            });
            let seen = match tokio::time::timeout(PATIENCE, &mut seeing).await {
                Ok(seen) => seen.unwrap_or_default(),
                Err(_) => {
                    warn!("the GPU driver does not answer; how the GPUs are used is not known");
                    coordinator.measured(Seen::default()).await;
                    // One question at a time: more would hang the same way.
                    seeing.await.unwrap_or_default()
                }
            };
            coordinator.measured(seen).await;
        }
    };
    shutdown.run_until_cancelled(looking).await;
}

impl Seen {
    /// Takes over what changes of each GPU; `sessions` are those of this worker's jobs.
    pub(super) fn apply(&self, gpus: &mut [Gpu], sessions: &HashSet<u32>) {
        let own = |process: &GpuProcess| session_of(process.pid).map(|id| sessions.contains(&id));
        measure(gpus, self, own);
    }
}

/// A driver that counts its GPUs otherwise than at the start
/// says nothing about them.
fn measure(gpus: &mut [Gpu], seen: &Seen, is_own: impl Fn(&GpuProcess) -> Option<bool>) {
    let found = &seen.accelerators.gpus;
    let found = (found.len() == gpus.len()).then_some(found);
    for (index, gpu) in gpus.iter_mut().enumerate() {
        let now = found.map(|found| &found[index]);
        gpu.memory_free_mib = now.and_then(|now| now.memory_free_mib);
        gpu.utilization = now.and_then(|now| now.utilization);
        let processes = seen.processes.as_ref().and_then(|all| all.get(index));
        gpu.memory_others_mib = others(gpu, processes.map(Vec::as_slice), &is_own);
    }
}

/// What programs of others hold, in MiB.
fn others(
    gpu: &Gpu,
    processes: Option<&[GpuProcess]>,
    is_own: impl Fn(&GpuProcess) -> Option<bool>,
) -> Option<u64> {
    let used = gpu.memory_mib.checked_sub(gpu.memory_free_mib?)?;
    if gpu.taken == Some(false) {
        return Some(used);
    }
    // A job of ours may be among them: the sum of the others, if each can be told.
    let mut others = 0;
    for process in processes? {
        if !is_own(process)? {
            others += process.memory_mib?;
        }
    }
    Some(others)
}

/// `None` for a process that cannot be seen from here: a container sees its own only.
fn session_of(pid: u32) -> Option<u32> {
    let session = getsid(Pid::from_raw(i32::try_from(pid).ok()?)).ok()?;
    u32::try_from(session.as_raw_nonzero().get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(free: Option<u64>, taken: Option<bool>) -> Gpu {
        let gpu = Gpu { model: "A".into(), memory_mib: 1000, ..Gpu::default() };
        Gpu { memory_free_mib: free, taken, ..gpu }
    }

    #[test]
    fn what_others_hold_is_told_where_it_is_certain() {
        let mine = |process: &GpuProcess| (process.pid < 9).then_some(process.pid == 1);
        let process = |pid, mib| GpuProcess { pid, memory_mib: mib };
        let two = [process(1, Some(300)), process(2, Some(40))];
        assert_eq!(others(&gpu(Some(900), Some(false)), None, mine), Some(100));
        assert_eq!(others(&gpu(Some(600), Some(true)), Some(&two), mine), Some(40));
        assert_eq!(others(&gpu(Some(600), None), Some(&two), mine), Some(40));
        assert_eq!(others(&gpu(Some(600), Some(true)), None, mine), None);
        assert_eq!(others(&gpu(None, Some(false)), Some(&two), mine), None);
        assert_eq!(others(&gpu(Some(1), Some(true)), Some(&[process(9, Some(1))]), mine), None);
        assert_eq!(others(&gpu(Some(1), Some(true)), Some(&[process(2, None)]), mine), None);
    }

    #[test]
    fn a_driver_that_says_nothing_leaves_nothing_stale() {
        let mut gpus = [gpu(Some(900), Some(false))];
        let own = |_: &GpuProcess| None;
        let found = gpu(Some(500), None);
        let accelerators = Accelerators { gpus: vec![found], ..Accelerators::default() };
        measure(&mut gpus, &Seen { accelerators, processes: None }, own);
        assert_eq!((gpus[0].memory_free_mib, gpus[0].memory_others_mib), (Some(500), Some(500)));
        assert_eq!(gpus[0].taken, Some(false));
        measure(&mut gpus, &Seen::default(), own);
        assert_eq!((gpus[0].memory_free_mib, gpus[0].memory_others_mib), (None, None));
    }
}
