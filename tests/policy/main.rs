//! Tests the policy host and its plugins from outside, with real components and real limits.

#![allow(clippy::unwrap_used, reason = "tests")]

mod cases;
mod composed;
mod contract;
mod deadlines;
mod defaults;
mod guide;
mod hostile;
mod loading;
mod locked;
mod memory;
mod mutated;
mod native;
mod replayed;
mod support;
mod watching;
