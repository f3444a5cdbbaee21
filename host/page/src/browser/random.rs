//! Random bytes of the browser.

use rand_core::{CryptoRng, TryCryptoRng, TryRng, UnwrapErr};
use wasm_bindgen::JsValue;

/// Fresh random bytes.
///
/// # Errors
/// The browser has none.
pub fn bytes<const N: usize>() -> Result<[u8; N], JsValue> {
    let mut bytes = [0; N];
    fill(&mut bytes)?;
    Ok(bytes)
}

fn fill(bytes: &mut [u8]) -> Result<(), JsValue> {
    let window = web_sys::window().ok_or(JsValue::NULL)?;
    window.crypto()?.get_random_values_with_u8_array(bytes)?;
    Ok(())
}

/// The browser's random numbers, for who needs many. A browser without any ends the page: nothing else
/// may take their place.
pub fn generator() -> impl CryptoRng {
    UnwrapErr(Browser)
}

struct Browser;

/// The browser has no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("the browser has no random numbers")]
struct NoRandom;

impl TryRng for Browser {
    type Error = NoRandom;

    fn try_next_u32(&mut self) -> Result<u32, NoRandom> {
        bytes().map(u32::from_le_bytes).map_err(|_| NoRandom)
    }

    fn try_next_u64(&mut self) -> Result<u64, NoRandom> {
        bytes().map(u64::from_le_bytes).map_err(|_| NoRandom)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), NoRandom> {
        fill(bytes).map_err(|_| NoRandom)
    }
}

impl TryCryptoRng for Browser {}
