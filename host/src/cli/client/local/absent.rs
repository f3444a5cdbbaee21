//! Replaces `--local` in a program that was built without the worker.

use super::exit::{Exit, Failure};
use crate::config::{Config, Overrides};
use std::path::PathBuf;

/// No options.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LocalArgs {}

impl LocalArgs {
    pub(crate) fn is_meant(&self) -> bool {
        false
    }

    pub(crate) fn overrides(&self) -> Overrides {
        Overrides::default()
    }
}

pub(crate) fn list(_: &Config) -> Result<Exit, Failure> {
    Err(absent())
}

pub(crate) fn fetch(_: &str, _: Option<PathBuf>, _: &Config) -> Result<Exit, Failure> {
    Err(absent())
}

fn absent() -> Failure {
    Failure::usage("this program was built without the feature `worker`")
}
