//! Guests that only tests load.

use std::path::Path;

/// A folder with `hostile-guest.wasm`, `mirror-guest.wasm` and `custom-policy.wasm` as components and as
/// core modules (`.core.wasm`), a component for each contract of `altered.rs`, and one for each text in `wat/`.
pub fn dir() -> &'static Path {
    Path::new(env!("OUT_DIR"))
}
