//! The devices that a driver lists, with their memory and processes.

use super::BYTES_PER_MIB;
use serde::{Deserialize, Serialize};
use sleap_rtc_protocol::capabilities::Gpu;

/// All devices that the driver lists.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Inventory {
    /// In the driver's order, including lost ones.
    pub devices: Vec<Device>,
    /// The driver's version.
    pub driver_version: Option<String>,
    /// The newest CUDA version that the driver supports, such as `12.4`.
    pub cuda_version: Option<String>,
}

/// One GPU, as the driver numbers them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// Its number, in the order of the PCI bus, as in `nvidia-smi`.
    pub index: u32,
    /// Its permanent identifier, such as `GPU-…`.
    pub uuid: Option<String>,
    /// Whether it can be used.
    pub health: GpuHealth,
    /// Its MIG devices, if MIG is enabled.
    pub slices: Vec<Slice>,
    /// The processes that use it, if the driver reports them.
    pub processes: Option<Vec<GpuProcess>>,
}

/// Whether a GPU can be used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GpuHealth {
    /// It answers.
    Working(Gpu),
    /// It is gone from the bus or in an error state. The text is the driver's error message.
    Lost(String),
}

impl GpuHealth {
    /// What it reports, if it answers.
    pub fn gpu(&self) -> Option<&Gpu> {
        match self {
            Self::Working(gpu) => Some(gpu),
            Self::Lost(_) => None,
        }
    }
}

/// A part of a GPU that is a device of its own (MIG).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// Its permanent identifier, such as `MIG-…`.
    pub uuid: String,
    /// What it reports about itself.
    pub gpu: Gpu,
}

/// A process that uses a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuProcess {
    /// Its process id, outside of any container.
    pub pid: u32,
    /// The GPU memory that it uses, in MiB, if the driver reports it.
    pub memory_mib: Option<u64>,
}

/// What a driver reports of a GPU's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// The GPU has memory of its own.
    Own { total_mib: u64, free_mib: Option<u64> },
    /// The GPU shares the machine's memory.
    Unified,
}

/// A GPU with these properties. One that shares the machine's memory has as much as the machine; how
/// much of it is free depends on other programs, and is not reported.
pub(crate) fn gpu(model: String, memory: Memory, utilization: Option<f64>) -> Gpu {
    let (memory_mib, memory_free_mib) = match memory {
        Memory::Own { total_mib, free_mib } => (total_mib, free_mib),
        Memory::Unified => (machine_memory_mib(), None),
    };
    Gpu { model, memory_mib, memory_free_mib, utilization, ..Gpu::default() }
}

fn machine_memory_mib() -> u64 {
    let info = rustix::system::sysinfo();
    // The field's type differs between architectures.
    #[allow(clippy::unnecessary_cast, reason = "the type differs between architectures")]
    let total = info.totalram as u64;
    total.saturating_mul(u64::from(info.mem_unit)) / BYTES_PER_MIB
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unified_memory_is_the_machines() {
        let gpu = gpu("NVIDIA GB10".into(), Memory::Unified, None);
        assert!(gpu.memory_mib >= 256, "{gpu:?}");
        assert_eq!(gpu.memory_free_mib, None);
    }
}
