//! The policy host and its plugins, from outside: real components, real limits.

#![allow(clippy::unwrap_used, reason = "tests")]

mod deadlines;
mod defaults;
mod hostile;
mod loading;
mod locked;
mod memory;
mod mutated;
mod support;
mod watching;
