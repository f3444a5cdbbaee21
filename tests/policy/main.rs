//! The policy host and its plugins, from outside: real components, real limits.

#![allow(clippy::unwrap_used, reason = "tests")]

mod cases;
mod defaults;
mod guide;
mod hostile;
mod loading;
mod locked;
mod memory;
mod native;
mod random;
mod support;
mod watching;
