//! A policy for sleap-rtc. `wit/policy.wit` is its contract.

wit_bindgen::generate!({ world: "selection-plugin", path: "wit" });

mod selection;

struct Plugin;

#[cfg(target_family = "wasm")]
export!(Plugin);
