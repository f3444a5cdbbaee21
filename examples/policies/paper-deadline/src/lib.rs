//! A policy for sleap-rtc. `wit/policy.wit` is its contract.

wit_bindgen::generate!({ world: "queueing-plugin", path: "wit" });

mod queueing;

struct Plugin;

#[cfg(target_family = "wasm")]
export!(Plugin);
