//! Where the guests are that only tests load.

use std::path::Path;

/// A folder with `hostile-guest.wasm` and `custom-policy.wasm`, and each as a core module with the
/// ending `.core.wasm`; and with `another-field.wasm`, the hostile guest built for a contract whose
/// workers have one field more.
pub fn dir() -> &'static Path {
    Path::new(env!("OUT_DIR"))
}
