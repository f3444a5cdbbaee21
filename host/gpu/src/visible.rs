//! `CUDA_VISIBLE_DEVICES`: the GPUs that a scheduler or the operator gives to this process.

use super::inventory::{Device, Inventory, Slice};

/// How one GPU is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// By its number.
    Index(u32),
    /// By its UUID, or the beginning of one.
    Uuid(String),
    /// By the UUID of a MIG slice, or the beginning of one.
    Mig(String),
}

/// Reads the variable as CUDA does: everything after a word that names no device is ignored.
pub fn visible_devices(text: &str) -> Vec<Selector> {
    let mut found: Vec<Selector> = Vec::new();
    for word in text.split(',').map(str::trim) {
        let selector = match word.parse() {
            Ok(index) => Selector::Index(index),
            Err(_) if starts_with(word, "MIG-") => Selector::Mig(word.to_owned()),
            Err(_) if starts_with(word, "GPU-") => Selector::Uuid(word.to_owned()),
            Err(_) => break,
        };
        if !found.contains(&selector) {
            found.push(selector);
        }
    }
    found
}

impl Selector {
    /// The device that it names, and the MIG device in it if it names one.
    pub fn find<'a>(&self, inventory: &'a Inventory) -> Option<(&'a Device, Option<&'a Slice>)> {
        let mut devices = inventory.devices.iter();
        match self {
            Self::Index(index) => {
                devices.find(|device| device.index == *index).map(|device| (device, None))
            }
            Self::Uuid(uuid) => devices
                .find(|device| device.uuid.as_deref().is_some_and(|full| starts_with(full, uuid)))
                .map(|device| (device, None)),
            Self::Mig(uuid) => devices.find_map(|device| {
                let slice = device.slices.iter().find(|slice| starts_with(&slice.uuid, uuid))?;
                Some((device, Some(slice)))
            }),
        }
    }
}

impl std::fmt::Display for Selector {
    /// In the form that CUDA reads.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Index(index) => write!(f, "{index}"),
            Self::Uuid(uuid) | Self::Mig(uuid) => f.write_str(uuid),
        }
    }
}

fn starts_with(text: &str, start: &str) -> bool {
    text.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
}

#[cfg(test)]
mod tests {
    use super::super::GpuHealth;
    use super::*;
    use sleap_rtc_protocol::capabilities::Gpu;

    #[test]
    fn the_variable_is_read_as_cuda_does() {
        use Selector::{Index, Mig, Uuid};
        let uuid = |text: &str| Uuid(text.into());
        assert_eq!(visible_devices("2, 3"), [Index(2), Index(3)]);
        assert_eq!(visible_devices("3,3"), [Index(3)]);
        assert_eq!(visible_devices("GPU-cc,1,GPU-dd"), [uuid("GPU-cc"), Index(1), uuid("GPU-dd")]);
        assert_eq!(visible_devices("MIG-ff"), [Mig("MIG-ff".into())]);
        assert_eq!(visible_devices("0,-1,1"), [Index(0)]);
        for nothing in ["", "-1", "NoDevFiles", " "] {
            assert_eq!(visible_devices(nothing), [], "{nothing:?}");
        }
    }

    #[test]
    fn a_name_leads_to_its_device() {
        let device = |index, uuid: &str, slices| Device {
            index,
            uuid: Some(uuid.into()),
            health: GpuHealth::Lost(String::new()),
            slices,
            processes: None,
        };
        let slice = Slice { uuid: "MIG-ffff-1".into(), gpu: Gpu::default() };
        let devices = vec![device(0, "GPU-aaaa-1", vec![slice]), device(2, "GPU-bbbb-1", vec![])];
        let inventory = Inventory { devices, ..Inventory::default() };
        let find = |text: &str| {
            let found = visible_devices(text).pop()?.find(&inventory)?;
            Some((found.0.index, found.1.map(|slice| slice.uuid.as_str())))
        };
        assert_eq!(find("2"), Some((2, None)));
        assert_eq!(find("1"), None);
        assert_eq!(find("gpu-BBBB"), Some((2, None)));
        assert_eq!(find("GPU-cccc"), None);
        assert_eq!(find("MIG-ffff"), Some((0, Some("MIG-ffff-1"))));
    }
}
