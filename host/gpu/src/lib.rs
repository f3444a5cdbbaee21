//! Finds this machine's GPUs, and checks that their driver answers.
//!
//! | module | what it does |
//! |---|---|
//! | `survey` | the driver's answer at one moment |
//! | `inventory` | devices, their memory and their processes |
//! | `child` | asks the driver in a process of its own, in case it hangs |
//! | `nvml` | asks the driver's library |
//! | `nvidia_smi` | asks the program `nvidia-smi`, in case the library fails |
//! | `presence` | whether this machine should have an NVIDIA driver at all |
//! | `visible` | reads `CUDA_VISIBLE_DEVICES` |
//!
//! If one device does not answer, the others keep their numbers. A driver that does not answer is not the
//! same as a machine without GPUs.
//!
//! ```
//! use sleap_rtc_gpu::{Selector, visible_devices};
//!
//! // As CUDA reads it: everything after a word that names no device is ignored.
//! assert_eq!(visible_devices("1,0,all,2"), [Selector::Index(1), Selector::Index(0)]);
//! ```

mod child;
mod inventory;
mod nvidia_smi;
mod nvml;
mod presence;
mod survey;
mod visible;

pub use child::{SUBCOMMAND, survey_in_child};
pub use inventory::{Device, GpuHealth, GpuProcess, Inventory, Slice};
pub use survey::{Survey, survey};
pub use visible::{Selector, visible_devices};

const BYTES_PER_MIB: u64 = 1 << 20;
