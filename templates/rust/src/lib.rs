//! A policy for sleap-rtc. `wit/policy.wit` is its contract.

wit_bindgen::generate!({ world: "full-plugin", path: "wit" });

mod compatibility;
mod estimate;
mod queueing;
mod selection;

struct Plugin;

#[cfg(target_family = "wasm")]
export!(Plugin);
