//! GPUs through NVML, the driver's own library, loaded when asked.

use super::{BYTES_PER_MIB, GpuProcess, Probe};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml as Library};
use nvml_wrapper::{cuda_driver_version_major, cuda_driver_version_minor};
use sleap_rtc_protocol::capabilities::{Accelerators, Gpu};

/// The driver's library.
pub(super) struct Nvml;

impl Probe for Nvml {
    fn probe(&self) -> Option<Accelerators> {
        let answer = open().and_then(|library| ask(&library));
        answer.inspect_err(|error| tracing::debug!(%error, "NVML is of no use")).ok()
    }
}

/// Containers and plain driver packages have the library under its versioned name only; the other
/// name comes with development packages.
fn open() -> Result<Library, NvmlError> {
    let versioned = Library::builder().lib_path("libnvidia-ml.so.1".as_ref()).init();
    versioned.or_else(|_| Library::init())
}

fn ask(library: &Library) -> Result<Accelerators, NvmlError> {
    let count = library.device_count()?;
    let gpus: Result<Vec<Gpu>, NvmlError> =
        (0..count).map(|index| gpu(&library.device_by_index(index)?)).collect();
    Ok(Accelerators {
        gpus: gpus?,
        driver_version: library.sys_driver_version().ok(),
        cuda_version: library.sys_cuda_driver_version().ok().map(cuda_version),
    })
}

/// The processes that use each GPU, in the driver's order.
pub(super) fn processes() -> Option<Vec<Vec<GpuProcess>>> {
    let library = open().ok()?;
    let count = library.device_count().ok()?;
    let of = |index| {
        let device = library.device_by_index(index)?;
        let mut found = device.running_compute_processes()?;
        // Programs that draw and compute are in both lists.
        found.extend(device.running_graphics_processes()?);
        found.sort_by_key(|process| process.pid);
        found.dedup_by_key(|process| process.pid);
        let memory_mib = |used: &UsedGpuMemory| match used {
            UsedGpuMemory::Used(bytes) => Some(bytes / BYTES_PER_MIB),
            UsedGpuMemory::Unavailable => None,
        };
        let process = |p: &nvml_wrapper::struct_wrappers::device::ProcessInfo| GpuProcess {
            pid: p.pid,
            memory_mib: memory_mib(&p.used_gpu_memory),
        };
        Ok(found.iter().map(process).collect())
    };
    let all: Result<Vec<Vec<GpuProcess>>, NvmlError> = (0..count).map(of).collect();
    all.inspect_err(|error| tracing::debug!(%error, "who uses the GPUs is not told")).ok()
}

/// Model and memory must be known; the rest may be absent.
fn gpu(device: &Device<'_>) -> Result<Gpu, NvmlError> {
    let memory = device.memory_info()?;
    let utilization = device.utilization_rates().ok();
    Ok(Gpu {
        model: device.name()?,
        memory_mib: memory.total / BYTES_PER_MIB,
        memory_free_mib: Some(memory.free / BYTES_PER_MIB),
        utilization: utilization.map(|rates| f64::from(rates.gpu.min(100)) / 100.0),
        memory_others_mib: None,
        taken: None,
    })
}

fn cuda_version(number: i32) -> String {
    format!("{}.{}", cuda_driver_version_major(number), cuda_driver_version_minor(number))
}

#[cfg(test)]
mod tests {
    #[test]
    fn cuda_versions_read_as_people_write_them() {
        assert_eq!(super::cuda_version(12040), "12.4");
        assert_eq!(super::cuda_version(11000), "11.0");
    }
}
