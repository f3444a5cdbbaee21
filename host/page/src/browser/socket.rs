//! A WebSocket to the signaling server.

use super::clock::within;
use futures_channel::mpsc::{UnboundedReceiver, unbounded};
use futures_util::StreamExt;
use serde::Serialize;
use sleap_rtc_protocol::signaling::{MAX_FRAME_BYTES, ServerMessage};
use std::time::Duration;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Event, MessageEvent, WebSocket};

const OPEN_LIMIT: Duration = Duration::from_secs(10);

enum SocketNews {
    Opened,
    Text(String),
    Closed,
}

/// An open socket. It closes when this is dropped.
pub struct Socket {
    inner: WebSocket,
    news: UnboundedReceiver<SocketNews>,
    _message: Closure<dyn FnMut(MessageEvent)>,
    _other: [Closure<dyn FnMut(Event)>; 2],
}

impl Socket {
    /// Connects. `None` if the server is not there.
    pub async fn open(url: &str) -> Option<Self> {
        let inner = WebSocket::new(url).ok()?;
        let (sender, news) = unbounded();
        // Whoever sends has a socket, and the receiver lives as long as it does.
        let tell = |make: fn() -> SocketNews| {
            let sender = sender.clone();
            Closure::<dyn FnMut(Event)>::new(move |_| drop(sender.unbounded_send(make())))
        };
        let (opened, closed) = (tell(|| SocketNews::Opened), tell(|| SocketNews::Closed));
        let message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            if let Some(text) = event.data().as_string() {
                let _ = sender.unbounded_send(SocketNews::Text(text));
            }
        });
        inner.set_onopen(Some(opened.as_ref().unchecked_ref()));
        inner.set_onclose(Some(closed.as_ref().unchecked_ref()));
        inner.set_onmessage(Some(message.as_ref().unchecked_ref()));
        let mut socket = Self { inner, news, _message: message, _other: [opened, closed] };
        match within(OPEN_LIMIT, socket.news.next()).await {
            Some(Some(SocketNews::Opened)) => Some(socket),
            _ => None,
        }
    }

    /// What sends on this socket, also while somebody reads.
    pub fn sender(&self) -> SocketSender {
        SocketSender(self.inner.clone())
    }

    /// The next frame of a room. `None` when the socket is closed. Frames that make no sense are passed
    /// over.
    pub async fn next(&mut self) -> Option<ServerMessage> {
        loop {
            let text = self.text().await?;
            if text.len() <= MAX_FRAME_BYTES
                && let Ok(message) = ServerMessage::decode(&text)
            {
                return Some(message);
            }
        }
    }

    /// The next frame, as a text of any length. `None` when the socket is closed.
    pub async fn text(&mut self) -> Option<String> {
        loop {
            match self.news.next().await? {
                SocketNews::Text(text) => return Some(text),
                SocketNews::Opened => {}
                SocketNews::Closed => return None,
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.inner.set_onopen(None);
        self.inner.set_onclose(None);
        self.inner.set_onmessage(None);
        // It may be closed already.
        let _ = self.inner.close();
    }
}

/// Sends frames.
#[derive(Clone)]
pub struct SocketSender(WebSocket);

impl SocketSender {
    /// Sends a frame.
    ///
    /// # Errors
    /// The socket is closed.
    pub fn send(&self, message: &impl Serialize) -> Result<(), JsValue> {
        let text = serde_json::to_string(message).map_err(|error| error.to_string())?;
        self.0.send_with_str(&text)
    }

    /// Closes the socket. Who reads from it hears of that.
    pub fn close(&self) {
        // It may be closed already.
        let _ = self.0.close();
    }
}
