//! Bindings made from the WIT package in `wit/`.
//!
//! They are made from the world that joins all extension points, but used one interface at a time:
//! a plugin that exports only the one it is asked for is a whole plugin.

#![allow(missing_docs, reason = "generated; the WIT holds the documentation")]

wasmtime::component::bindgen!({ path: "../../wit", world: "policy-plugin" });

pub use self::sleap_rtc::policy::{log, types};
pub use exports::sleap_rtc::policy::{compatibility, estimation, selection};
