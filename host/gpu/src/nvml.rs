//! Finds GPUs through NVML, the driver's library, which is loaded on demand.

use super::BYTES_PER_MIB;
use super::inventory::{Device, GpuHealth, GpuProcess, Inventory, Memory, Slice, gpu};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use nvml_wrapper::{Device as Handle, Nvml as Library};
use nvml_wrapper::{cuda_driver_version_major, cuda_driver_version_minor};

/// Why the library gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NvmlFailure {
    /// The library is not on this machine.
    #[error("NVML is not on this machine")]
    Missing,
    /// The library is here, but the driver does not answer.
    #[error(transparent)]
    Driver(NvmlError),
}

impl NvmlFailure {
    /// The driver's error message, or `None` if the library is missing.
    pub(crate) fn message(self) -> Option<String> {
        match self {
            Self::Missing => None,
            Self::Driver(error) => Some(error.to_string()),
        }
    }
}

/// What the library lists.
pub(crate) fn inventory() -> Result<Inventory, NvmlFailure> {
    let library = open().map_err(|error| match error {
        NvmlError::LibloadingError(_) => NvmlFailure::Missing,
        error => NvmlFailure::Driver(error),
    })?;
    list(&library).map_err(NvmlFailure::Driver)
}

/// Containers and plain driver packages have the library under its versioned name only; the other
/// name comes with development packages.
fn open() -> Result<Library, NvmlError> {
    let versioned = Library::builder().lib_path("libnvidia-ml.so.1".as_ref()).init();
    match versioned {
        Err(NvmlError::LibloadingError(_)) => Library::init(),
        opened => opened,
    }
}

/// The questions to a driver, which tests answer too.
trait Driver {
    fn device_count(&self) -> Result<u32, NvmlError>;
    fn read(&self, index: u32) -> Result<DeviceReport, NvmlError>;
    fn driver_version(&self) -> Option<String>;
    fn cuda_version(&self) -> Option<String>;
}

/// The properties of one device.
struct DeviceReport {
    uuid: Option<String>,
    model: String,
    memory: Memory,
    utilization: Option<f64>,
    slices: Vec<Slice>,
    processes: Option<Vec<GpuProcess>>,
}

/// Lists all devices. One that does not answer counts as lost, and the others keep their numbers.
fn list(driver: &impl Driver) -> Result<Inventory, NvmlError> {
    let devices = (0..driver.device_count()?).map(|index| match driver.read(index) {
        Ok(DeviceReport { uuid, model, memory, utilization, slices, processes }) => {
            let health = GpuHealth::Working(gpu(model, memory, utilization));
            Device { index, uuid, health, slices, processes }
        }
        Err(error) => {
            let health = GpuHealth::Lost(error.to_string());
            Device { index, uuid: None, health, slices: Vec::new(), processes: None }
        }
    });
    Ok(Inventory {
        devices: devices.collect(),
        driver_version: driver.driver_version(),
        cuda_version: driver.cuda_version(),
    })
}

impl Driver for Library {
    fn device_count(&self) -> Result<u32, NvmlError> {
        Library::device_count(self)
    }

    fn read(&self, index: u32) -> Result<DeviceReport, NvmlError> {
        let device = self.device_by_index(index)?;
        Ok(DeviceReport {
            uuid: device.uuid().ok(),
            model: device.name()?,
            memory: memory(&device)?,
            utilization: utilization(&device),
            slices: slices(&device),
            processes: processes(&device)
                .inspect_err(
                    |error| tracing::debug!(%error, index, "cannot list the processes on the GPU"),
                )
                .ok(),
        })
    }

    fn driver_version(&self) -> Option<String> {
        self.sys_driver_version().ok()
    }

    fn cuda_version(&self) -> Option<String> {
        self.sys_cuda_driver_version().ok().map(cuda_version)
    }
}

/// A GPU that shares the machine's memory does not support this query.
fn memory(device: &Handle<'_>) -> Result<Memory, NvmlError> {
    match device.memory_info() {
        Ok(memory) => Ok(Memory::Own {
            total_mib: memory.total / BYTES_PER_MIB,
            free_mib: Some(memory.free / BYTES_PER_MIB),
        }),
        Err(NvmlError::NotSupported) => Ok(Memory::Unified),
        Err(error) => Err(error),
    }
}

fn utilization(device: &Handle<'_>) -> Option<f64> {
    device.utilization_rates().ok().map(|rates| f64::from(rates.gpu.min(100)) / 100.0)
}

/// Its MIG devices. Empty without MIG, and with old drivers.
fn slices(device: &Handle<'_>) -> Vec<Slice> {
    let count = device.mig_device_count().unwrap_or(0);
    let slice = |index| {
        let part = device.mig_device_by_index(index).ok()?;
        let model = part.name().or_else(|_| device.name()).ok()?;
        Some(Slice { uuid: part.uuid().ok()?, gpu: gpu(model, memory(&part).ok()?, None) })
    };
    (0..count).filter_map(slice).collect()
}

fn processes(device: &Handle<'_>) -> Result<Vec<GpuProcess>, NvmlError> {
    let mut found = device.running_compute_processes()?;
    // Programs that draw and compute are in both lists.
    found.extend(device.running_graphics_processes()?);
    found.sort_by_key(|process| process.pid);
    found.dedup_by_key(|process| process.pid);
    let memory_mib = |used: &UsedGpuMemory| match used {
        UsedGpuMemory::Used(bytes) => Some(bytes / BYTES_PER_MIB),
        UsedGpuMemory::Unavailable => None,
    };
    let process =
        |p: &ProcessInfo| GpuProcess { pid: p.pid, memory_mib: memory_mib(&p.used_gpu_memory) };
    Ok(found.iter().map(process).collect())
}

fn cuda_version(number: i32) -> String {
    format!("{}.{}", cuda_driver_version_major(number), cuda_driver_version_minor(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A driver of three GPUs, of which the test determines the second.
    struct Three(fn() -> Result<Memory, NvmlError>);

    impl Driver for Three {
        fn device_count(&self) -> Result<u32, NvmlError> {
            Ok(3)
        }

        fn read(&self, index: u32) -> Result<DeviceReport, NvmlError> {
            let memory = match index {
                1 => (self.0)()?,
                _ => Memory::Own { total_mib: 24564, free_mib: Some(24000) },
            };
            Ok(DeviceReport {
                uuid: Some(format!("GPU-{index}")),
                model: "NVIDIA RTX A5000".into(),
                memory,
                utilization: None,
                slices: Vec::new(),
                processes: None,
            })
        }

        fn driver_version(&self) -> Option<String> {
            Some("580.173.02".into())
        }

        fn cuda_version(&self) -> Option<String> {
            None
        }
    }

    #[test]
    fn a_lost_gpu_does_not_affect_the_others() {
        let found = list(&Three(|| Err(NvmlError::GpuLost))).unwrap();
        let memory = |device: &Device| device.health.gpu().map(|gpu| gpu.memory_mib);
        let seen: Vec<_> = found.devices.iter().map(memory).collect();
        assert_eq!(seen, [Some(24564), None, Some(24564)]);
        let GpuHealth::Lost(words) = &found.devices[1].health else { panic!("{found:?}") };
        assert!(words.contains("bus") || words.contains("lost"), "{words}");
        assert_eq!(found.driver_version.as_deref(), Some("580.173.02"));
    }

    #[test]
    fn a_gpu_that_shares_the_machines_memory_has_it() {
        let found = list(&Three(|| Ok(Memory::Unified))).unwrap();
        let shared = found.devices[1].health.gpu().unwrap();
        assert!(shared.memory_mib > 0 && shared.memory_free_mib.is_none(), "{shared:?}");
    }

    #[test]
    fn cuda_versions_read_as_people_write_them() {
        assert_eq!(cuda_version(12040), "12.4");
        assert_eq!(cuda_version(11000), "11.0");
    }
}
