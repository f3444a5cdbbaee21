//! Whether this machine should have an NVIDIA driver at all.

use std::path::Path;

/// The files on this machine that belong to an NVIDIA driver, GPUs first.
pub(crate) fn driver_files() -> Vec<String> {
    let mut driver_files: Vec<String> = std::fs::read_dir("/dev")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(format!("/dev/{}", entry.ok()?.file_name().to_str()?)))
        .filter(|path| is_device(path))
        .collect();
    driver_files.sort();
    let others = ["/dev/nvidiactl", "/proc/driver/nvidia/version"];
    driver_files
        .extend(others.into_iter().filter(|path| Path::new(path).exists()).map(str::to_owned));
    driver_files
}

/// Whether the path is that of a GPU, such as `/dev/nvidia0`.
pub(crate) fn is_device(path: &str) -> bool {
    path.strip_prefix("/dev/nvidia")
        .is_some_and(|number| !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_numbered_devices_are_gpus() {
        assert!(super::is_device("/dev/nvidia0") && super::is_device("/dev/nvidia12"));
        for other in ["/dev/nvidia", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia0x"] {
            assert!(!super::is_device(other), "{other}");
        }
    }
}
