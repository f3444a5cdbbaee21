//! Programs without the worker have none on this machine.

use crate::cli::client::early_end::EarlyEnd;
use crate::cli::exit::{Exit, Failure};
use crate::config::Config;

/// Fails.
pub(crate) async fn end(_: &str, _: EarlyEnd, _: &Config) -> Result<Exit, Failure> {
    Err(Failure::usage("this program was built without the feature `worker`"))
}
