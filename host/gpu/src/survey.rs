//! What the driver says at one moment, device by device.

use super::nvidia_smi::NvidiaSmi;
use super::{BYTES_PER_MIB, nvml, presence};
use serde::{Deserialize, Serialize};
use sleap_rtc_protocol::capabilities::Gpu;

/// What the driver says at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Survey {
    /// Nothing on this machine belongs to an NVIDIA driver.
    NoDriver,
    /// The driver answers.
    Answered(Inventory),
    /// A driver should be there and cannot be asked. The text says why, in the driver's own words.
    Unavailable(String),
}

/// Every device that the driver knows of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Inventory {
    /// In the driver's order, lost ones too.
    pub devices: Vec<Device>,
    /// The driver's version.
    pub driver_version: Option<String>,
    /// The newest CUDA version that the driver serves, as `12.4`.
    pub cuda_version: Option<String>,
}

/// One GPU, as the driver numbers them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// Its number: the place on the PCI bus, as `nvidia-smi` counts.
    pub index: u32,
    /// Its name that does not change, as `GPU-…`.
    pub uuid: Option<String>,
    /// Whether it can be used.
    pub health: Health,
    /// What it is divided into, where MIG is on.
    pub slices: Vec<Slice>,
    /// The processes that use it, where the driver reports them.
    pub processes: Option<Vec<GpuProcess>>,
}

/// Whether a GPU can be used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It answers.
    Working(Gpu),
    /// It is gone from the bus or in an error state; the driver's words.
    Lost(String),
}

impl Health {
    /// Its numbers, while it answers.
    pub fn gpu(&self) -> Option<&Gpu> {
        match self {
            Self::Working(gpu) => Some(gpu),
            Self::Lost(_) => None,
        }
    }
}

/// A part of a GPU that MIG has made a device of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// As `MIG-…`.
    pub uuid: String,
    /// Its own numbers.
    pub gpu: Gpu,
}

/// A process that uses a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuProcess {
    /// Its id, as the driver's machine counts processes.
    pub pid: u32,
    /// What it holds, in MiB, where the driver reports it.
    pub memory_mib: Option<u64>,
}

/// Asks the driver's library, else `nvidia-smi`. Blocks, and may hang with the driver: see
/// [`survey_in_child`](super::survey_in_child).
pub fn survey() -> Survey {
    let by_library = nvml::inventory();
    let by_program = match &by_library {
        Ok(_) => None,
        Err(_) => NvidiaSmi::inventory(),
    };
    let signs = presence::signs();
    decide(by_library.map_err(|failure| failure.words()), by_program, &signs)
}

/// Puts both answers together. `by_program` is absent where `nvidia-smi` was not asked or is not
/// installed; `signs` are what else on this machine belongs to a driver.
fn decide(
    by_library: Result<Inventory, Option<String>>,
    by_program: Option<Result<Inventory, String>>,
    signs: &[String],
) -> Survey {
    let words = match (by_library, by_program) {
        (Ok(inventory), _) | (Err(_), Some(Ok(inventory))) => return listed(inventory, signs),
        (Err(Some(library)), Some(Err(program))) => format!("{program} (NVML: {library})"),
        (Err(Some(words)), None) | (Err(None), Some(Err(words))) => words,
        (Err(None), None) => match signs.first() {
            None => return Survey::NoDriver,
            Some(sign) => format!(
                "{sign} is there, but neither the library libnvidia-ml.so.1 nor the program \
                 nvidia-smi"
            ),
        },
    };
    Survey::Unavailable(words)
}

/// A driver that lists nothing has nothing, unless the machine has a device of it.
fn listed(inventory: Inventory, signs: &[String]) -> Survey {
    let device = signs.iter().find(|sign| presence::is_device(sign));
    match device {
        Some(device) if inventory.devices.is_empty() => {
            Survey::Unavailable(format!("the driver lists no GPU, although {device} is there"))
        }
        _ => Survey::Answered(inventory),
    }
}

/// What a driver reports of a GPU's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    /// Its own.
    Own { total_mib: u64, free_mib: Option<u64> },
    /// None of its own: it shares the machine's.
    Unified,
}

/// A GPU's numbers. One that shares the machine's memory has as much as the machine; how much of it
/// is free depends on what else runs there, and counts as not measured.
pub(super) fn gpu(model: String, memory: Memory, utilization: Option<f64>) -> Gpu {
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

    fn one_gpu() -> Inventory {
        let gpu = Gpu { model: "A".into(), memory_mib: 1, ..Gpu::default() };
        let (uuid, slices, processes) = (None, vec![], None);
        let device = Device { index: 0, uuid, health: Health::Working(gpu), slices, processes };
        Inventory { devices: vec![device], ..Inventory::default() }
    }

    #[test]
    fn a_driver_in_trouble_is_not_a_machine_without_one() {
        let none: &[String] = &[];
        assert_eq!(decide(Err(None), None, none), Survey::NoDriver);
        let signs = ["/proc/driver/nvidia".to_owned(), "/dev/nvidia0".to_owned()];
        let words = |survey| match survey {
            Survey::Unavailable(words) => words,
            other => panic!("{other:?}"),
        };
        assert!(words(decide(Err(None), None, &signs)).starts_with("/proc/driver/nvidia is there"));
        let mismatch = || Some(Err("Driver/library version mismatch".to_owned()));
        assert_eq!(words(decide(Err(None), mismatch(), none)), "Driver/library version mismatch");
        let both = words(decide(Err(Some("code 18".into())), mismatch(), none));
        assert_eq!(both, "Driver/library version mismatch (NVML: code 18)");
        assert_eq!(words(decide(Err(Some("code 18".into())), None, none)), "code 18");
        let empty = words(decide(Ok(Inventory::default()), None, &signs));
        assert!(empty.contains("/dev/nvidia0"), "{empty}");
    }

    #[test]
    fn whoever_answers_is_believed() {
        let answered = Survey::Answered(one_gpu());
        assert_eq!(decide(Ok(one_gpu()), None, &[]), answered);
        assert_eq!(decide(Err(Some("code 9".into())), Some(Ok(one_gpu())), &[]), answered);
        let empty = Survey::Answered(Inventory::default());
        assert_eq!(decide(Ok(Inventory::default()), None, &["/usr/bin/nvidia-smi".into()]), empty);
    }

    #[test]
    fn unified_memory_is_the_machines() {
        let gpu = gpu("NVIDIA GB10".into(), Memory::Unified, None);
        assert!(gpu.memory_mib >= 256, "{gpu:?}");
        assert_eq!(gpu.memory_free_mib, None);
    }

    #[test]
    fn this_machine_can_be_asked() {
        if let Survey::Answered(inventory) = survey() {
            for gpu in inventory.devices.iter().filter_map(|device| device.health.gpu()) {
                assert!(!gpu.model.is_empty());
                assert!(gpu.utilization.is_none_or(|share| (0.0..=1.0).contains(&share)));
            }
        }
    }
}
