//! (to come)

pub mod run_job;
