//! Finds GPUs through the program `nvidia-smi`, in case the driver's library is not found, or is too old.

use super::inventory::{Device, GpuHealth, Inventory, Memory, Slice, gpu};
use sleap_rtc_base::program::{ProgramError, ProgramOutput, run};
use sleap_rtc_protocol::capabilities::Gpu;
use sleap_rtc_protocol::text::Printable;
use std::process::Command;
use std::time::Duration;

/// Without persistence mode, the driver initializes each GPU for every query.
const LIMIT: Duration = Duration::from_secs(10);
/// The name comes last, because it is the only field that may contain a comma.
const FIELDS: &str = "index,uuid,memory.total,memory.free,utilization.gpu,driver_version,name";
const FIELD_COUNT: usize = 7;
const MAX_MESSAGE_CHARS: usize = 300;

/// The program on `PATH`.
pub(crate) struct NvidiaSmi;

impl NvidiaSmi {
    /// The devices that it lists, or `None` if it is not installed. The error is its error message.
    pub(crate) fn inventory() -> Option<Result<Inventory, String>> {
        let query = [&format!("--query-gpu={FIELDS}"), "--format=csv,noheader,nounits"];
        let ended = match ask(&query) {
            Ok(ended) => ended,
            Err(ProgramError::Missing) => return None,
            Err(error) => return Some(Err(format!("nvidia-smi: {error}"))),
        };
        Some(read_query(&ended).map(|mut inventory| {
            if !inventory.devices.is_empty() {
                // No field contains the CUDA version, but the head of the plain report does.
                inventory.cuda_version = ask(&[]).ok().and_then(|report| read_cuda(&report.stdout));
                if let Ok(list) = ask(&["-L"]) {
                    add_slices(&mut inventory.devices, &list.stdout);
                }
            }
            inventory
        }))
    }
}

fn ask(arguments: &[&str]) -> Result<ProgramOutput, ProgramError> {
    let mut command = Command::new("nvidia-smi");
    command.args(arguments);
    run(command, LIMIT)
}

/// Reads the rows of a query. Each GPU that does not answer adds an error message between the rows
/// and makes the exit code nonzero, but the other rows are still valid.
fn read_query(ended: &ProgramOutput) -> Result<Inventory, String> {
    let mut inventory = Inventory::default();
    let mut messages = Vec::new();
    for line in ended.stdout.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match read_row(line) {
            Some((device, driver)) => {
                inventory.devices.push(device);
                inventory.driver_version = driver.or(inventory.driver_version);
            }
            None => messages.push(line),
        }
    }
    let has_no_gpu = messages.iter().any(|line| line.starts_with("No devices were found"));
    if inventory.devices.is_empty() && !ended.status.success() && !has_no_gpu {
        messages.extend(ended.stderr.lines().map(str::trim));
        messages.retain(|line| !line.is_empty());
        let words = match messages.is_empty() {
            true => "nvidia-smi failed without an error message".to_owned(),
            false => messages.join(" "),
        };
        return Err(Printable::line(&words, MAX_MESSAGE_CHARS).into());
    }
    if !inventory.devices.is_empty() {
        add_lost(&mut inventory.devices, &messages);
    }
    Ok(inventory)
}

/// One GPU, and the driver's version.
fn read_row(line: &str) -> Option<(Device, Option<String>)> {
    let fields: Vec<&str> = line.splitn(FIELD_COUNT, ',').map(str::trim).collect();
    let [index, uuid, total, free, utilization, driver, model] = fields.try_into().ok()?;
    if model.is_empty() {
        return None;
    }
    let health = match read_memory(total, free) {
        Ok(memory) => GpuHealth::Working(gpu(model.to_owned(), memory, read_share(utilization))),
        Err(words) => GpuHealth::Lost(format!("{model}: {words}")),
    };
    let device = Device {
        index: index.parse().ok()?,
        uuid: uuid.starts_with("GPU-").then(|| uuid.to_owned()),
        health,
        slices: Vec::new(),
        processes: None,
    };
    let driver = driver.starts_with(|c: char| c.is_ascii_digit()).then(|| driver.to_owned());
    Some((device, driver))
}

/// Reads the memory, or the error message of a device in an error state.
fn read_memory(total: &str, free: &str) -> Result<Memory, String> {
    match total.trim_matches(['[', ']']) {
        "N/A" | "Not Supported" => Ok(Memory::Unified),
        words => words
            .parse()
            .map(|total_mib| Memory::Own { total_mib, free_mib: free.parse().ok() })
            .map_err(|_| words.to_owned()),
    }
}

fn read_share(percent: &str) -> Option<f64> {
    let percent = percent.parse::<f64>().ok().filter(|share| (0.0..=100.0).contains(share))?;
    Some(percent / 100.0)
}

/// Adds a lost device for each error message about a device: in a gap of the numbers, or else at
/// the end.
fn add_lost(devices: &mut Vec<Device>, messages: &[&str]) {
    let about_a_device = messages.iter().filter(|line| {
        let line = line.to_ascii_lowercase();
        // A warning is about a device that works: `WARNING: infoROM is corrupted at gpu …`.
        !line.starts_with("warning") && (line.contains("gpu") || line.contains("device"))
    });
    let mut numbers = (0u32..).filter(|index| devices.iter().all(|d| d.index != *index));
    let lost = about_a_device.map_while(|words| {
        let (uuid, health) = (None, GpuHealth::Lost((*words).to_owned()));
        let index = numbers.next()?;
        Some(Device { index, uuid, health, slices: Vec::new(), processes: None })
    });
    let lost: Vec<Device> = lost.collect();
    devices.extend(lost);
    devices.sort_by_key(|device| device.index);
}

/// Adds the devices that `nvidia-smi -L` lists below each GPU: `MIG 1g.10gb     Device  0: (UUID:
/// MIG-…)`.
fn add_slices(devices: &mut [Device], list: &str) {
    let mut current: Option<u32> = None;
    for line in list.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("GPU ") {
            current = rest.split(':').next().and_then(|number| number.parse().ok());
        } else if let Some(rest) = line.strip_prefix("MIG ")
            && let Some(device) = devices.iter_mut().find(|device| Some(device.index) == current)
            && let Some(slice) = read_slice(rest, &device.health)
        {
            device.slices.push(slice);
        }
    }
}

/// Reads one MIG device. Its memory is part of its profile's name.
fn read_slice(text: &str, parent: &GpuHealth) -> Option<Slice> {
    let profile = text.split_whitespace().next()?;
    let uuid = text.split_once("(UUID:")?.1.trim().trim_end_matches(')').trim();
    let memory = profile.split('.').find_map(|part| part.split_once("gb").map(|(gb, _)| gb))?;
    let model = parent.gpu().map_or("NVIDIA GPU", |gpu| gpu.model.as_str());
    let gpu = Gpu {
        model: format!("{model} MIG {profile}"),
        memory_mib: memory.parse::<u64>().ok()?.saturating_mul(1024),
        ..Gpu::default()
    };
    Some(Slice { uuid: uuid.to_owned(), gpu })
}

/// The version after `CUDA Version:`, if there is one.
fn read_cuda(text: &str) -> Option<String> {
    let (_, after) = text.split_once("CUDA Version")?;
    let version = after.trim_start_matches([' ', ':']);
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len());
    (end > 0).then(|| version[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    fn read(success: bool, stdout: &str) -> Result<Inventory, String> {
        let status = ExitStatus::from_raw(i32::from(!success) << 8);
        read_query(&ProgramOutput { status, stdout: stdout.into(), stderr: String::new() })
    }

    /// The number of each device, and its memory or error message.
    fn seen(inventory: &Inventory) -> Vec<(u32, Result<u64, &str>)> {
        let health = |device: &'_ Device| match &device.health {
            GpuHealth::Working(gpu) => Ok(gpu.memory_mib),
            GpuHealth::Lost(_) => Err(()),
        };
        let words = |device: &'_ Device| match &device.health {
            GpuHealth::Lost(words) => words.clone().leak() as &str,
            GpuHealth::Working(_) => "",
        };
        let devices = inventory.devices.iter();
        devices.map(|d| (d.index, health(d).map_err(|()| words(d)))).collect()
    }

    #[test]
    fn a_warning_names_no_lost_device() {
        let warning = "WARNING: infoROM is corrupted at gpu 0000:0B:00.0\n";
        let found = read(true, &format!("{warning}0, GPU-0a, {A5000}\n")).unwrap();
        assert_eq!(seen(&found), [(0, Ok(24564))]);
    }

    const A5000: &str = "24564, 20000, 37, 550.54.14, NVIDIA RTX A5000";

    #[test]
    fn rows_are_read_and_gaps_stay_gaps() {
        let text = format!(
            "0, GPU-0a, {A5000}\n\
             1, [N/A], [N/A], [N/A], [Not Supported], 550.54.14, NVIDIA GB10, rev. 2\n"
        );
        let found = read(true, &text).unwrap();
        let a5000 = found.devices[0].health.gpu().unwrap();
        assert_eq!((a5000.memory_mib, a5000.memory_free_mib), (24564, Some(20000)));
        assert_eq!((a5000.utilization, a5000.model.as_str()), (Some(0.37), "NVIDIA RTX A5000"));
        assert_eq!(found.devices[0].uuid.as_deref(), Some("GPU-0a"));
        let gb10 = found.devices[1].health.gpu().unwrap();
        assert_eq!(gb10.model, "NVIDIA GB10, rev. 2");
        assert!(gb10.memory_mib > 0, "the machine's memory is the GPU's");
        assert_eq!((gb10.memory_free_mib, gb10.utilization), (None, None));
        assert_eq!(found.devices[1].uuid, None);
        assert_eq!(found.driver_version.as_deref(), Some("550.54.14"));
    }

    #[test]
    fn a_lost_gpu_is_named_and_the_others_keep_their_numbers() {
        let words = "Unable to determine the device handle for GPU0000:0B:00.0: Unknown Error";
        let text = format!("0, GPU-0a, {A5000}\n{words}\n2, GPU-2c, {A5000}\n");
        let found = read(false, &text).unwrap();
        assert_eq!(seen(&found), [(0, Ok(24564)), (1, Err(words)), (2, Ok(24564))]);
        let text = format!("0, GPU-0a, {A5000}\n{words}\n");
        assert_eq!(seen(&read(false, &text).unwrap())[1], (1, Err(words)));
        let text = "0, GPU-0a, [GPU is lost], [GPU is lost], [GPU is lost], 550, NVIDIA RTX A5000";
        let lost = Err("NVIDIA RTX A5000: GPU is lost");
        assert_eq!(seen(&read(true, text).unwrap()), [(0, lost)]);
    }

    #[test]
    fn a_driver_that_does_not_answer_says_why() {
        let words = "Failed to initialize NVML: Driver/library version mismatch\nNVML library \
                     version: 580.95";
        assert_eq!(read(false, words).unwrap_err(), words.replace('\n', " "));
        assert_eq!(read(false, "").unwrap_err(), "nvidia-smi failed without an error message");
        assert_eq!(read(false, "No devices were found\n"), Ok(Inventory::default()));
    }

    #[test]
    fn slices_are_listed_below_their_gpu() {
        let row = "0, GPU-0a, 81920, 81000, [N/A], 550, NVIDIA A100 80GB";
        let mut devices = read(true, row).unwrap().devices;
        let list = "GPU 0: NVIDIA A100 80GB (UUID: GPU-0a)\n  \
            MIG 3g.40gb     Device  0: (UUID: MIG-aa)\n  \
            MIG 1c.2g.20gb+me  Device  1: (UUID: MIG-bb)\n\
            GPU 1: NVIDIA A40 (UUID: GPU-1b)\n  MIG 1g.5gb Device 0: (UUID: MIG-cc)\n";
        add_slices(&mut devices, list);
        let seen = |slice: &Slice| (slice.uuid.clone(), slice.gpu.memory_mib);
        let slices: Vec<_> = devices[0].slices.iter().map(seen).collect();
        assert_eq!(slices, [("MIG-aa".to_owned(), 40 * 1024), ("MIG-bb".to_owned(), 20 * 1024)]);
        assert_eq!(devices[0].slices[0].gpu.model, "NVIDIA A100 80GB MIG 3g.40gb");
    }

    #[test]
    fn the_reports_head_has_the_cuda_version() {
        let head =
            "| NVIDIA-SMI 550.54.14    Driver Version: 550.54.14    CUDA Version: 12.4     |";
        assert_eq!(read_cuda(head).as_deref(), Some("12.4"));
        assert_eq!(read_cuda("CUDA Version        : 12.4\n").as_deref(), Some("12.4"));
        assert_eq!(read_cuda("CUDA Version: N/A"), None);
        assert_eq!(read_cuda(""), None);
    }
}
