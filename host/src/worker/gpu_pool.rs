//! The GPUs that this worker's jobs may use, and the state of each.
//!
//! Jobs, slots and facts refer to a GPU by its position in this pool, which never changes. GPUs that are
//! found later are added at the end.

use serde::{Deserialize, Serialize};
use sleap_rtc_gpu::{Device, GpuHealth, GpuProcess, Inventory, Selector, Slice, Survey};
use sleap_rtc_protocol::capabilities::{Accelerators, Gpu};

/// All GPUs of this worker.
#[derive(Debug)]
pub(crate) struct GpuPool {
    source: Source,
    gpus: Vec<PoolGpu>,
    driver: Driver,
    driver_version: Option<String>,
    cuda_version: Option<String>,
}

/// Where the pool's GPUs come from.
#[derive(Debug, PartialEq)]
enum Source {
    /// The configuration describes them, and no survey changes them.
    Configured,
    /// The driver lists them.
    Driver,
    /// `CUDA_VISIBLE_DEVICES` or the slots of the configuration name them.
    Named,
}

/// Whether the driver answered the last survey.
#[derive(Debug, PartialEq)]
enum Driver {
    Answers,
    Absent,
    Silent(String),
}

#[derive(Debug)]
struct PoolGpu {
    name: Selector,
    /// The identity by which later surveys find it, once a survey has listed it.
    identity: Option<GpuIdentity>,
    health: GpuHealth,
    processes: Option<Vec<GpuProcess>>,
}

/// What identifies a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GpuIdentity {
    index: u32,
    uuid: Option<String>,
    /// The UUID of the MIG slice, if it is one.
    slice: Option<String>,
    model: String,
}

const NOT_SEEN: &str = "no survey has listed it yet";

impl GpuPool {
    /// The GPUs that the configuration describes, or those of them that `names` selects.
    pub(crate) fn configured(gpus: &[Gpu], names: Option<Vec<Selector>>) -> Self {
        let device = |(index, gpu): (u32, &Gpu)| Device {
            index,
            uuid: None,
            health: GpuHealth::Working(gpu.clone()),
            slices: Vec::new(),
            processes: None,
        };
        let devices = (0..).zip(gpus).map(device).collect();
        let inventory = Inventory { devices, ..Inventory::default() };
        let mut pool = Self::new(names);
        pool.apply_survey(&Survey::Answered(inventory));
        pool.merge_duplicates();
        pool.source = Source::Configured;
        pool
    }

    /// The GPUs that `names` selects, or all that the driver will list. Until the first survey, only the
    /// GPUs of the worker's last run are known.
    pub(crate) fn detected(names: Option<Vec<Selector>>, remembered: Vec<GpuIdentity>) -> Self {
        let mut pool = Self::new(names);
        if pool.source == Source::Driver {
            pool.gpus = remembered.into_iter().map(PoolGpu::remembered).collect();
        }
        pool
    }

    fn new(names: Option<Vec<Selector>>) -> Self {
        let source = if names.is_some() { Source::Named } else { Source::Driver };
        let gpus = names.into_iter().flatten().map(PoolGpu::named).collect();
        let driver = Driver::Absent;
        Self { source, gpus, driver, driver_version: None, cuda_version: None }
    }

    /// Whether a further survey can change anything.
    pub(crate) fn is_watched(&self) -> bool {
        match self.source {
            Source::Configured => false,
            Source::Named => !self.gpus.is_empty(),
            Source::Driver => !self.gpus.is_empty() || self.driver != Driver::Absent,
        }
    }

    /// Applies the result of a survey.
    pub(crate) fn apply_survey(&mut self, survey: &Survey) {
        match survey {
            Survey::NoDriver => self.lose_all(Driver::Absent),
            Survey::Unavailable(words) => self.lose_all(Driver::Silent(words.clone())),
            Survey::Answered(inventory) => {
                self.driver = Driver::Answers;
                self.driver_version = inventory.driver_version.clone();
                self.cuda_version = inventory.cuda_version.clone();
                self.gpus.iter_mut().for_each(|gpu| gpu.find_in(inventory));
                if self.source == Source::Driver {
                    self.add_new(inventory);
                }
            }
        }
    }

    fn lose_all(&mut self, driver: Driver) {
        self.driver = driver;
        for gpu in &mut self.gpus {
            gpu.health = GpuHealth::Lost("the driver is gone".to_owned());
            gpu.processes = None;
        }
    }

    /// Merges entries that are the same GPU under two names. Call it before slots are planned: it changes
    /// positions.
    pub(crate) fn merge_duplicates(&mut self) {
        let mut kept: Vec<GpuIdentity> = Vec::new();
        self.gpus.retain(|gpu| match &gpu.identity {
            Some(known) if kept.contains(known) => false,
            Some(known) => {
                kept.push(known.clone());
                true
            }
            None => true,
        });
    }

    /// Adds GPUs that no earlier survey has listed. Of a GPU with MIG slices, only the slices count.
    fn add_new(&mut self, inventory: &Inventory) {
        for device in &inventory.devices {
            let slices: Vec<Option<&Slice>> = match device.slices.is_empty() {
                true => vec![None],
                false => device.slices.iter().map(Some).collect(),
            };
            for slice in slices {
                let identity = GpuIdentity::of(device, slice);
                if self.gpus.iter().all(|gpu| !gpu.is(&identity)) {
                    let mut gpu = PoolGpu::remembered(identity);
                    gpu.update(device, slice);
                    self.gpus.push(gpu);
                }
            }
        }
    }

    /// How many GPUs there are, including lost ones.
    pub(crate) fn len(&self) -> usize {
        self.gpus.len()
    }

    /// Whether the GPU at this position can be used.
    pub(crate) fn is_working(&self, position: usize) -> bool {
        self.gpus.get(position).is_some_and(|gpu| gpu.health.gpu().is_some())
    }

    /// Whether the machine may have GPUs that the driver does not list. If so, jobs must not run on
    /// the CPU.
    pub(crate) fn is_unknown(&self) -> bool {
        self.gpus.is_empty() && matches!(self.driver, Driver::Silent(_))
    }

    /// The measurements of each GPU; `None` for one that is lost.
    pub(crate) fn gpus(&self) -> Vec<Option<Gpu>> {
        self.gpus.iter().map(|gpu| gpu.health.gpu().cloned()).collect()
    }

    /// Lets `add` complete the measurements with what the driver does not know.
    pub(crate) fn measure(&mut self, add: impl FnOnce(&Self, &mut [Option<Gpu>])) {
        let mut gpus = self.gpus();
        add(self, &mut gpus);
        for (gpu, measured) in self.gpus.iter_mut().zip(gpus) {
            if let Some(measured) = measured {
                gpu.health = GpuHealth::Working(measured);
            }
        }
    }

    /// The GPUs that can be used, for the room.
    pub(crate) fn accelerators(&self) -> Accelerators {
        Accelerators {
            gpus: self.gpus().into_iter().flatten().collect(),
            driver_version: self.driver_version.clone(),
            cuda_version: self.cuda_version.clone(),
        }
    }

    /// The processes that use the GPU at this position, if the driver reports them.
    pub(crate) fn processes(&self, position: usize) -> Option<&[GpuProcess]> {
        self.gpus.get(position)?.processes.as_deref()
    }

    /// The indices of these GPUs in `nvidia-smi`.
    pub(crate) fn indices(&self, positions: &[usize]) -> Vec<u32> {
        positions.iter().filter_map(|position| self.gpus.get(*position)?.index()).collect()
    }

    /// The positions of the GPUs with these indices.
    pub(crate) fn positions(&self, indices: &[u32]) -> Vec<usize> {
        let has = |gpu: &PoolGpu, index: &u32| gpu.index() == Some(*index);
        let position = |index| self.gpus.iter().position(|gpu| has(gpu, index));
        indices.iter().filter_map(position).collect()
    }

    /// The value of `CUDA_VISIBLE_DEVICES` for these GPUs. `None` if their indices are enough. They
    /// are not if the GPUs were named in another way, or while a GPU is lost, because CUDA may then
    /// count the others differently.
    pub(crate) fn cuda_names(&self, positions: &[usize]) -> Option<String> {
        let gpus = || positions.iter().filter_map(|position| self.gpus.get(*position));
        let is_whole = self.gpus.iter().all(|gpu| gpu.health.gpu().is_some());
        let by_number = |gpu: &PoolGpu| {
            let is_slice = gpu.identity.as_ref().is_some_and(|known| known.slice.is_some());
            matches!(gpu.name, Selector::Index(_)) && !is_slice
        };
        if self.source == Source::Configured || (is_whole && gpus().all(by_number)) {
            return None;
        }
        let names: Vec<String> = gpus().map(PoolGpu::cuda_name).collect();
        Some(names.join(","))
    }

    /// The identities of the GPUs, to keep for the next start.
    pub(crate) fn identities(&self) -> Vec<GpuIdentity> {
        self.gpus.iter().filter_map(|gpu| gpu.identity.clone()).collect()
    }

    /// The problems of the GPUs, one sentence each.
    pub(crate) fn problems(&self) -> Vec<String> {
        let problem = match &self.driver {
            _ if self.source == Source::Configured => return Vec::new(),
            Driver::Silent(words) => format!("the NVIDIA driver does not answer: {words}"),
            Driver::Absent if self.gpus.is_empty() => return Vec::new(),
            Driver::Absent => "the NVIDIA driver is gone from this machine".to_owned(),
            Driver::Answers => {
                return self.gpus.iter().filter_map(PoolGpu::problem).collect();
            }
        };
        vec![problem]
    }
}

impl GpuIdentity {
    fn of(device: &Device, slice: Option<&Slice>) -> Self {
        let own = slice.map(|slice| &slice.gpu).or(device.health.gpu());
        Self {
            index: device.index,
            uuid: device.uuid.clone(),
            slice: slice.map(|slice| slice.uuid.clone()),
            model: own.map_or_else(|| "GPU".to_owned(), |gpu| gpu.model.clone()),
        }
    }

    /// Whether both identify the same GPU: by their UUIDs if both have one.
    fn is(&self, other: &Self) -> bool {
        let same_device = match (&self.uuid, &other.uuid) {
            (Some(own), Some(other)) => own == other,
            _ => self.index == other.index,
        };
        same_device && self.slice == other.slice
    }
}

impl PoolGpu {
    fn named(name: Selector) -> Self {
        let health = GpuHealth::Lost(NOT_SEEN.to_owned());
        Self { name, identity: None, health, processes: None }
    }

    fn remembered(identity: GpuIdentity) -> Self {
        let name = match &identity.slice {
            Some(uuid) => Selector::Mig(uuid.clone()),
            None => Selector::Index(identity.index),
        };
        Self { identity: Some(identity), ..Self::named(name) }
    }

    fn is(&self, identity: &GpuIdentity) -> bool {
        self.identity.as_ref().is_some_and(|known| known.is(identity))
    }

    /// Finds this GPU in a survey and updates it; it is lost if the survey does not list it.
    fn find_in(&mut self, inventory: &Inventory) {
        let same = |device: &&Device| match &self.identity {
            Some(GpuIdentity { uuid: Some(uuid), .. }) if device.uuid.is_some() => {
                device.uuid.as_ref() == Some(uuid)
            }
            Some(known) => device.index == known.index,
            None => false,
        };
        let known = inventory.devices.iter().find(same).map(|device| {
            let own = self.identity.as_ref().and_then(|known| known.slice.as_ref());
            (device, device.slices.iter().find(|slice| Some(&slice.uuid) == own))
        });
        let found = match &self.identity {
            Some(_) => known,
            // If a GPU with MIG slices is named as a whole, CUDA uses its first slice.
            None => self.name.find(inventory).map(|(d, slice)| (d, slice.or(d.slices.first()))),
        };
        match found {
            Some((device, slice)) => self.update(device, slice),
            None => {
                self.health = GpuHealth::Lost("the driver does not list it".to_owned());
                self.processes = None;
            }
        }
    }

    /// Updates health and processes from what a survey says of this GPU.
    fn update(&mut self, device: &Device, slice: Option<&Slice>) {
        let was_slice = self.identity.as_ref().is_some_and(|known| known.slice.is_some());
        (self.health, self.processes) = match (slice, was_slice) {
            (Some(slice), _) => (GpuHealth::Working(slice.gpu.clone()), None),
            (None, true) => {
                (GpuHealth::Lost("the driver does not list its slice".to_owned()), None)
            }
            (None, false) => (device.health.clone(), device.processes.clone()),
        };
        if self.health.gpu().is_some() {
            self.identity = Some(GpuIdentity::of(device, slice));
        }
    }

    fn index(&self) -> Option<u32> {
        match (&self.identity, &self.name) {
            (Some(known), _) => Some(known.index),
            (None, Selector::Index(index)) => Some(*index),
            (None, _) => None,
        }
    }

    fn cuda_name(&self) -> String {
        let known =
            self.identity.as_ref().and_then(|known| known.slice.clone().or(known.uuid.clone()));
        known.unwrap_or_else(|| self.name.to_string())
    }

    fn problem(&self) -> Option<String> {
        let GpuHealth::Lost(words) = &self.health else { return None };
        let model =
            self.identity.as_ref().map(|known| known.model.as_str()).filter(|m| *m != "GPU");
        let model = model.map(|model| format!(" ({model})")).unwrap_or_default();
        Some(format!("GPU {}{model} is lost: {words}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sleap_rtc_gpu::visible_devices;

    fn device(index: u32, memory_mib: Option<u64>) -> Device {
        let gpu = |memory_mib| Gpu { model: "A40".into(), memory_mib, ..Gpu::default() };
        Device {
            index,
            uuid: Some(format!("GPU-{index}{index}")),
            health: memory_mib
                .map_or(GpuHealth::Lost("gone".into()), |m| GpuHealth::Working(gpu(m))),
            slices: Vec::new(),
            processes: None,
        }
    }

    fn answered(devices: Vec<Device>) -> Survey {
        Survey::Answered(Inventory { devices, ..Inventory::default() })
    }

    fn seen(names: Option<&str>, survey: &Survey) -> GpuPool {
        let mut pool = GpuPool::detected(names.map(visible_devices), Vec::new());
        pool.apply_survey(survey);
        pool.merge_duplicates();
        pool
    }

    fn memory_mib(pool: &GpuPool) -> Vec<u64> {
        pool.accelerators().gpus.iter().map(|gpu| gpu.memory_mib).collect()
    }

    #[test]
    fn the_pool_is_what_is_visible_and_nothing_else() {
        let mut divided = device(0, Some(80));
        let gpu = Gpu { memory_mib: 10, ..Gpu::default() };
        divided.slices =
            ["MIG-ff", "MIG-ee"].map(|uuid| Slice { uuid: uuid.into(), gpu: gpu.clone() }).into();
        let four =
            answered(vec![divided, device(1, Some(46)), device(2, Some(24)), device(3, Some(8))]);
        let cases: [(Option<&str>, &[u64], Option<&str>); 8] = [
            (None, &[10, 10, 46, 24, 8], Some("MIG-ff,MIG-ee,GPU-11,GPU-22,GPU-33")),
            (Some("3"), &[8], None),
            (Some("3,3,GPU-33"), &[8], None),
            (Some("GPU-22,GPU-3"), &[24, 8], Some("GPU-22,GPU-33")),
            (Some("MIG-e"), &[10], Some("MIG-ee")),
            (Some("0"), &[10], Some("MIG-ff")),
            (Some(""), &[], None),
            (Some("7"), &[], Some("7")),
        ];
        for (names, expected, cuda) in cases {
            let pool = seen(names, &four);
            assert_eq!(memory_mib(&pool), expected, "{names:?}");
            let positions: Vec<usize> = (0..pool.len()).collect();
            assert_eq!(pool.cuda_names(&positions).as_deref(), cuda, "{names:?}");
        }
        assert_eq!(
            seen(Some("7"), &four).problems(),
            ["GPU 7 is lost: the driver does not list it"]
        );
    }

    #[test]
    fn one_lost_gpu_is_named_and_comes_back() {
        let three = |lost| answered(vec![device(0, lost), device(1, Some(2)), device(2, Some(3))]);
        let mut pool = seen(None, &three(Some(1)));
        assert_eq!((memory_mib(&pool), pool.problems()), (vec![1, 2, 3], vec![]));
        assert_eq!(pool.cuda_names(&[1]), None);
        pool.apply_survey(&three(None));
        assert_eq!(memory_mib(&pool), [2, 3]);
        assert_eq!(pool.problems(), ["GPU 0 (A40) is lost: gone"]);
        assert!(!pool.is_working(0) && pool.is_working(1));
        assert_eq!(pool.cuda_names(&[1]).as_deref(), Some("GPU-11"));
        // The driver renumbers the others, which remain the same GPUs.
        let renumbered = Device { index: 0, ..device(1, Some(2)) };
        pool.apply_survey(&answered(vec![renumbered, Device { index: 1, ..device(2, Some(3)) }]));
        assert_eq!((pool.is_working(0), memory_mib(&pool)), (false, vec![2, 3]));
        pool.apply_survey(&three(Some(1)));
        assert_eq!((memory_mib(&pool), pool.problems()), (vec![1, 2, 3], vec![]));
    }

    #[test]
    fn a_driver_that_is_late_or_dies_leaves_no_cpu_worker() {
        let silent = Survey::Unavailable("version mismatch".into());
        let mut pool = seen(None, &silent);
        assert!(pool.is_unknown() && pool.is_watched());
        assert_eq!(pool.problems(), ["the NVIDIA driver does not answer: version mismatch"]);
        pool.apply_survey(&answered(vec![device(0, Some(1))]));
        assert_eq!((pool.is_unknown(), memory_mib(&pool)), (false, vec![1]));
        let remembered = pool.identities();
        pool.apply_survey(&Survey::NoDriver);
        assert_eq!((memory_mib(&pool), pool.len()), (vec![], 1));
        assert_eq!(pool.problems(), ["the NVIDIA driver is gone from this machine"]);
        // The next start knows what there was.
        let mut next = GpuPool::detected(None, remembered);
        next.apply_survey(&silent);
        assert_eq!((next.len(), next.is_working(0)), (1, false));
        let nothing = seen(None, &Survey::NoDriver);
        assert!(!nothing.is_watched() && nothing.problems().is_empty());
    }

    #[test]
    fn what_the_configuration_describes_is_never_lost() {
        let gpus = [1, 2].map(|memory_mib| Gpu { memory_mib, ..Gpu::default() });
        let pool = GpuPool::configured(&gpus, Some(visible_devices("1")));
        assert_eq!((memory_mib(&pool), pool.is_watched()), (vec![2], false));
        assert_eq!((pool.indices(&[0]), pool.positions(&[1, 0])), (vec![1], vec![0]));
    }
}
