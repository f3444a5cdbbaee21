//! Which GPUs this machine has: as configured, else as NVML says, else as `nvidia-smi` says, else
//! none. No driver means no GPU, and never an error.

mod nvidia_smi;
mod nvml;

use sleap_rtc_protocol::capabilities::{Accelerators, Gpu};

/// A way to find out about GPUs.
pub trait Probe {
    /// What there is now; `None` when this way is not open on this machine. Blocks, for a bounded
    /// time.
    fn probe(&self) -> Option<Accelerators>;
}

/// What the configuration says there is.
struct Configured<'a>(Option<&'a [Gpu]>);

impl Probe for Configured<'_> {
    fn probe(&self) -> Option<Accelerators> {
        let gpus = self.0?.to_vec();
        Some(Accelerators { gpus, ..Accelerators::default() })
    }
}

/// What there is now. Blocks: milliseconds with NVML, some seconds at worst without.
pub fn detect(configured: Option<&[Gpu]>) -> Accelerators {
    first_answer(&[&Configured(configured), &nvml::Nvml, &nvidia_smi::NvidiaSmi])
}

/// A process that uses a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuProcess {
    /// Its id, as the driver's machine counts processes.
    pub pid: u32,
    /// What it holds, in MiB, where the driver tells.
    pub memory_mib: Option<u64>,
}

/// Which processes use each GPU, in the driver's order; `None` where only NVML could tell and is
/// not there. Blocks.
pub fn processes() -> Option<Vec<Vec<GpuProcess>>> {
    nvml::processes()
}

fn first_answer(probes: &[&dyn Probe]) -> Accelerators {
    probes.iter().find_map(|probe| probe.probe()).unwrap_or_default()
}

const BYTES_PER_MIB: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    struct Closed;

    impl Probe for Closed {
        fn probe(&self) -> Option<Accelerators> {
            None
        }
    }

    #[test]
    fn the_first_that_can_answer_does() {
        let gpus = [Gpu { model: "RTX".into(), memory_mib: 24576, ..Gpu::default() }];
        let found = first_answer(&[&Closed, &Configured(Some(&gpus)), &Configured(Some(&[]))]);
        assert_eq!(found.gpus, gpus);
        assert_eq!(first_answer(&[&Closed]), Accelerators::default());
    }

    #[test]
    fn a_configured_list_stands_in_for_detection_even_when_empty() {
        assert_eq!(detect(Some(&[])), Accelerators::default());
    }

    #[test]
    fn detection_is_no_error_on_any_machine() {
        for gpu in detect(None).gpus {
            assert!(!gpu.model.is_empty());
            assert!(gpu.utilization.is_none_or(|share| (0.0..=1.0).contains(&share)));
        }
    }
}
