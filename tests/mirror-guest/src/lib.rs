//! A plugin that never frees memory and answers with what it was asked. Only for tests.

#[cfg(target_family = "wasm")]
#[path = "../../../plugins/largest-gpu/src/bump.rs"]
mod bump;

/// Bindings made from the WIT package.
#[allow(missing_docs, unsafe_code, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({ world: "full-plugin", path: "../../wit" });

    #[cfg(target_family = "wasm")]
    use super::Mirror;
    #[cfg(target_family = "wasm")]
    export!(Mirror);
}

use bindings::exports::sleap_rtc::policy::compatibility::{self, Verdict};
use bindings::exports::sleap_rtc::policy::estimation::{self, Duration};
use bindings::exports::sleap_rtc::policy::queueing::{self, Place, RunningJob, WaitingJob};
use bindings::exports::sleap_rtc::policy::selection::{self, Ranking};
use bindings::sleap_rtc::policy::types::{Context, Job, Worker};

/// The guest.
#[cfg_attr(not(target_family = "wasm"), allow(dead_code, reason = "exported in the guest only"))]
struct Mirror;

impl selection::Guest for Mirror {
    fn select(context: Context, job: Job, workers: Vec<Worker>) -> Result<Ranking, String> {
        Err(format!("{context:#?} {job:#?} {workers:#?}"))
    }
}

impl compatibility::Guest for Mirror {
    fn check(context: Context, job: Job, worker: Worker) -> Result<Verdict, String> {
        Err(format!("{context:#?} {job:#?} {worker:#?}"))
    }
}

impl estimation::Guest for Mirror {
    fn estimate(context: Context, job: Job, worker: Worker) -> Result<Option<Duration>, String> {
        Err(format!("{context:#?} {job:#?} {worker:#?}"))
    }
}

impl queueing::Guest for Mirror {
    fn order(
        context: Context,
        worker: Worker,
        running: Vec<RunningJob>,
        waiting: Vec<WaitingJob>,
    ) -> Result<Option<Vec<Place>>, String> {
        Err(format!("{context:#?} {worker:#?} {running:#?} {waiting:#?}"))
    }
}
