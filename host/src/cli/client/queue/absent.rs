//! Programs without the worker have none on this machine.

use crate::cli::exit::{Exit, Failure};
use crate::config::Config;
use sleap_rtc_protocol::queue_report::Decision;

fn no_worker() -> Failure {
    Failure::usage("this program was built without the worker")
}

/// Fails.
pub(crate) async fn list(_: &Config) -> Result<Exit, Failure> {
    Err(no_worker())
}

/// Fails.
pub(crate) async fn decide(_: &Config, _: &str, _: Decision) -> Result<Exit, Failure> {
    Err(no_worker())
}
