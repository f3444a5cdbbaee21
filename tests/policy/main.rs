//! The policy host and its plugins, from outside: real components, real limits.

mod defaults;
mod hostile;
mod loading;
mod support;
