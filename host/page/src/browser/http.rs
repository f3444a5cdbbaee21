//! The calls to the signaling server.

use serde_json::Value;
use sleap_rtc_protocol::ids::{IdToken, PeerId};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{RequestInit, Response};

/// Who this page is for the server.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The peer id.
    pub peer: PeerId,
    /// Its proof.
    pub token: IdToken,
}

/// The server's WebSocket.
pub fn websocket_url() -> Result<String, JsValue> {
    let location = web_sys::window().ok_or(JsValue::NULL)?.location();
    let scheme = if location.protocol()? == "https:" { "wss" } else { "ws" };
    Ok(format!("{scheme}://{}/", location.host()?))
}

/// Signs in: as before, or anew.
///
/// # Errors
/// The server is not there, or refuses.
pub async fn sign_in(before: Option<&Identity>) -> Result<Identity, JsValue> {
    let window = web_sys::window().ok_or(JsValue::NULL)?;
    let init = RequestInit::new();
    init.set_method("POST");
    if let Some(before) = before {
        let headers = web_sys::Headers::new()?;
        headers.set("Authorization", &format!("Bearer {}", before.token.as_str()))?;
        init.set_headers(&headers);
    }
    let sent = window.fetch_with_str_and_init("/anonymous-signin", &init);
    let response: Response = JsFuture::from(sent).await?.dyn_into()?;
    let text = JsFuture::from(response.text()?).await?.as_string().unwrap_or_default();
    let answer: Value = serde_json::from_str(&text).unwrap_or_default();
    let field = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    if !response.ok() {
        return Err(field("message").into());
    }
    let peer = PeerId::new(field("username")).map_err(|error| error.to_string())?;
    let token = IdToken::new(field("id_token")).map_err(|error| error.to_string())?;
    Ok(Identity { peer, token })
}
