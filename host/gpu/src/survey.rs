//! Asks the driver for all devices.

use super::inventory::Inventory;
use super::nvidia_smi::NvidiaSmi;
use super::{nvml, presence};
use serde::{Deserialize, Serialize};

/// The driver's answer at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Survey {
    /// Nothing on this machine belongs to an NVIDIA driver.
    NoDriver,
    /// The driver answers.
    Answered(Inventory),
    /// A driver should be present but does not answer. The text is its error message.
    Unavailable(String),
}

/// Asks the driver's library, and `nvidia-smi` if that fails. Blocks, and hangs if the driver does: see
/// [`survey_in_child`](super::survey_in_child).
pub fn survey() -> Survey {
    let by_library = nvml::inventory();
    let by_program = match &by_library {
        Ok(_) => None,
        Err(_) => NvidiaSmi::inventory(),
    };
    let driver_files = presence::driver_files();
    decide(by_library.map_err(|failure| failure.message()), by_program, &driver_files)
}

/// Combines both answers. `by_library` fails without a message if the library is not installed. `by_program`
/// is absent if `nvidia-smi` was not asked or is not installed.
/// `driver_files` are the files on this machine that belong to a driver.
fn decide(
    by_library: Result<Inventory, Option<String>>,
    by_program: Option<Result<Inventory, String>>,
    driver_files: &[String],
) -> Survey {
    let words = match (by_library, by_program) {
        (Ok(inventory), _) | (Err(_), Some(Ok(inventory))) => {
            return listed(inventory, driver_files);
        }
        (Err(Some(library)), Some(Err(program))) => format!("{program} (NVML: {library})"),
        (Err(Some(words)), None) | (Err(None), Some(Err(words))) => words,
        (Err(None), None) => match driver_files.first() {
            None => return Survey::NoDriver,
            Some(sign) => format!(
                "{sign} exists, but neither the library libnvidia-ml.so.1 nor the program \
                 nvidia-smi was found"
            ),
        },
    };
    Survey::Unavailable(words)
}

/// An empty list is believed unless the machine has a device file of a GPU.
fn listed(inventory: Inventory, driver_files: &[String]) -> Survey {
    let device = driver_files.iter().find(|sign| presence::is_device(sign));
    match device {
        Some(device) if inventory.devices.is_empty() => {
            Survey::Unavailable(format!("the driver lists no GPU, although {device} exists"))
        }
        _ => Survey::Answered(inventory),
    }
}

#[cfg(test)]
mod tests {
    use super::super::inventory::{Device, GpuHealth};
    use super::*;
    use sleap_rtc_protocol::capabilities::Gpu;

    fn one_gpu() -> Inventory {
        let gpu = Gpu { model: "A".into(), memory_mib: 1, ..Gpu::default() };
        let (uuid, slices, processes) = (None, vec![], None);
        let device = Device { index: 0, uuid, health: GpuHealth::Working(gpu), slices, processes };
        Inventory { devices: vec![device], ..Inventory::default() }
    }

    #[test]
    fn a_driver_in_trouble_is_not_a_machine_without_one() {
        let none: &[String] = &[];
        assert_eq!(decide(Err(None), None, none), Survey::NoDriver);
        let driver_files = ["/proc/driver/nvidia".to_owned(), "/dev/nvidia0".to_owned()];
        let words = |survey| match survey {
            Survey::Unavailable(words) => words,
            other => panic!("{other:?}"),
        };
        assert!(
            words(decide(Err(None), None, &driver_files)).starts_with("/proc/driver/nvidia exists")
        );
        let mismatch = || Some(Err("Driver/library version mismatch".to_owned()));
        assert_eq!(words(decide(Err(None), mismatch(), none)), "Driver/library version mismatch");
        let both = words(decide(Err(Some("code 18".into())), mismatch(), none));
        assert_eq!(both, "Driver/library version mismatch (NVML: code 18)");
        assert_eq!(words(decide(Err(Some("code 18".into())), None, none)), "code 18");
        let empty = words(decide(Ok(Inventory::default()), None, &driver_files));
        assert!(empty.contains("/dev/nvidia0"), "{empty}");
    }

    #[test]
    fn one_answer_is_enough() {
        let answered = Survey::Answered(one_gpu());
        assert_eq!(decide(Ok(one_gpu()), None, &[]), answered);
        assert_eq!(decide(Err(Some("code 9".into())), Some(Ok(one_gpu())), &[]), answered);
        let empty = Survey::Answered(Inventory::default());
        assert_eq!(decide(Ok(Inventory::default()), None, &["/usr/bin/nvidia-smi".into()]), empty);
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
