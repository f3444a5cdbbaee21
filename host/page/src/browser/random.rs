//! Random bytes of the browser.

use wasm_bindgen::JsValue;

/// Fresh random bytes.
///
/// # Errors
/// The browser has none.
pub fn bytes<const N: usize>() -> Result<[u8; N], JsValue> {
    let mut bytes = [0; N];
    let window = web_sys::window().ok_or(JsValue::NULL)?;
    window.crypto()?.get_random_values_with_u8_array(&mut bytes)?;
    Ok(bytes)
}
