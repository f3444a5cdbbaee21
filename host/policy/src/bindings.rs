//! Bindings generated from the WIT package in `wit/`.
//!
//! They are generated from the world with all extension points but used one interface at a time, so a
//! plugin needs to export only the one that it is used for.

#![allow(missing_docs, reason = "generated; the WIT holds the documentation")]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "full-plugin",
    // For records of questions.
    additional_derives: [serde::Serialize, serde::Deserialize],
});

pub use self::sleap_rtc::policy::{log, types};
pub use exports::sleap_rtc::policy::{compatibility, estimation, queueing, selection};
