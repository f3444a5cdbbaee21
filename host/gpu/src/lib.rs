//! Which GPUs this machine has, and whether their driver answers.
//!
//! | module | what it does |
//! |---|---|
//! | `survey` | what the driver says at one moment, device by device |
//! | `child` | asks in a process of its own, which a driver that hangs cannot take along |
//! | `nvml` | asks the driver's library |
//! | `nvidia_smi` | asks the program `nvidia-smi`, where the library is of no use |
//! | `command` | runs a program for a limited time |
//! | `presence` | whether this machine should have an NVIDIA driver at all |
//! | `visible` | reads `CUDA_VISIBLE_DEVICES` |
//!
//! A device that cannot be asked is lost by itself: the others keep their numbers. A driver that
//! cannot be asked is not the same as a machine without GPUs.
//!
//! ```
//! use sleap_rtc_gpu::{Selector, visible_devices};
//!
//! // As CUDA reads it: what follows a word that names no device does not count.
//! assert_eq!(visible_devices("1,0,all,2"), [Selector::Index(1), Selector::Index(0)]);
//! ```

mod child;
mod command;
mod nvidia_smi;
mod nvml;
mod presence;
mod survey;
mod visible;

pub use child::{SUBCOMMAND, survey_in_child};
pub use survey::{Device, GpuProcess, Health, Inventory, Slice, Survey, survey};
pub use visible::{Selector, visible_devices};

const BYTES_PER_MIB: u64 = 1 << 20;
