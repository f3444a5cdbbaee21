//! The browser's WebRTC: one connection, with one channel that speaks `sleap-rtc/1`.

use super::clock::{sleep, within};
use futures_channel::mpsc::{UnboundedReceiver, unbounded};
use futures_util::StreamExt;
use js_sys::{Array, ArrayBuffer, Object, Reflect, Uint8Array};
use sleap_rtc_protocol::signaling::IceServers;
use sleap_rtc_protocol::{DIALECT, PYTHON_CHANNEL_LABEL};
use sleap_rtc_trust::handshake::certificate_hash;
use std::time::Duration;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    Event, MessageEvent, RtcConfiguration, RtcDataChannel, RtcDataChannelInit, RtcDataChannelState,
    RtcDataChannelType, RtcIceGatheringState, RtcPeerConnection, RtcPeerConnectionState,
    RtcSdpType, RtcSessionDescriptionInit,
};

/// How long candidates may take. A server that does not answer must not hold up the offer.
const GATHER_LIMIT: Duration = Duration::from_secs(2);
const GATHER_POLL: Duration = Duration::from_millis(20);
/// From the answer to an open channel.
const OPEN_LIMIT: Duration = Duration::from_secs(15);
/// How much may wait in the browser before more is sent.
const HIGH_BYTES: u32 = 2 << 20;
/// It says so when less than this waits.
const LOW_BYTES: u32 = 1 << 20;

/// What a channel brings.
pub enum Incoming {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(ArrayBuffer),
}

enum ChannelNews {
    Opened,
    Message(Incoming),
    Drained,
    Closed,
}

/// What happens next on a connection.
pub enum Step {
    /// A message arrived.
    Message(Incoming),
    /// There is room to send again.
    Drained,
    /// The connection is over.
    Over,
}

/// A connection. It closes when this is dropped.
pub struct Connection {
    peer: RtcPeerConnection,
    channel: RtcDataChannel,
    news: UnboundedReceiver<ChannelNews>,
    _message: Closure<dyn FnMut(MessageEvent)>,
    _other: [Closure<dyn FnMut(Event)>; 4],
}

impl Connection {
    /// Makes a connection, and the offer for it.
    ///
    /// # Errors
    /// The browser has no WebRTC, or does not want these servers.
    pub async fn offer(servers: &IceServers) -> Result<(Self, String), JsValue> {
        let peer = RtcPeerConnection::new_with_configuration(&configuration(servers)?)?;
        let init = RtcDataChannelInit::new();
        init.set_protocol(DIALECT);
        let channel = peer.create_data_channel_with_data_channel_dict(PYTHON_CHANNEL_LABEL, &init);
        channel.set_binary_type(RtcDataChannelType::Arraybuffer);
        let connection = Self::watch(peer, channel);
        let offer = JsFuture::from(connection.peer.create_offer()).await?;
        let offer: RtcSessionDescriptionInit = offer.unchecked_into();
        JsFuture::from(connection.peer.set_local_description(&offer)).await?;
        let complete = async {
            while connection.peer.ice_gathering_state() != RtcIceGatheringState::Complete {
                sleep(GATHER_POLL).await;
            }
        };
        // Those found so far may be enough.
        let _ = within(GATHER_LIMIT, complete).await;
        let described = connection.peer.local_description();
        let sdp = described.ok_or("the browser made no offer")?.sdp();
        Ok((connection, sdp))
    }

    fn watch(peer: RtcPeerConnection, channel: RtcDataChannel) -> Self {
        let (sender, news) = unbounded();
        // The receiver lives as long as the connection does.
        let tell = |make: fn() -> ChannelNews| {
            let sender = sender.clone();
            Closure::<dyn FnMut(Event)>::new(move |_| drop(sender.unbounded_send(make())))
        };
        let (opened, closed) = (tell(|| ChannelNews::Opened), tell(|| ChannelNews::Closed));
        let drained = tell(|| ChannelNews::Drained);
        let failed = {
            let (peer, sender) = (peer.clone(), sender.clone());
            Closure::<dyn FnMut(Event)>::new(move |_| {
                let state = peer.connection_state();
                if matches!(state, RtcPeerConnectionState::Failed | RtcPeerConnectionState::Closed)
                {
                    let _ = sender.unbounded_send(ChannelNews::Closed);
                }
            })
        };
        let message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            let incoming = match event.data().as_string() {
                Some(text) => Incoming::Text(text),
                None => match event.data().dyn_into() {
                    Ok(bytes) => Incoming::Binary(bytes),
                    Err(_) => return,
                },
            };
            let _ = sender.unbounded_send(ChannelNews::Message(incoming));
        });
        channel.set_onopen(Some(opened.as_ref().unchecked_ref()));
        channel.set_onclose(Some(closed.as_ref().unchecked_ref()));
        channel.set_onmessage(Some(message.as_ref().unchecked_ref()));
        channel.set_buffered_amount_low_threshold(LOW_BYTES);
        channel.set_onbufferedamountlow(Some(drained.as_ref().unchecked_ref()));
        peer.set_onconnectionstatechange(Some(failed.as_ref().unchecked_ref()));
        Self { peer, channel, news, _message: message, _other: [opened, closed, failed, drained] }
    }

    /// Takes the answer, and waits for the channel to open. Returns the hashes of both certificates,
    /// this side's first, if they are known.
    ///
    /// # Errors
    /// The answer makes no sense, or no path is found.
    pub async fn accept(&mut self, answer: &str) -> Result<Option<([u8; 32], [u8; 32])>, JsValue> {
        let description = RtcSessionDescriptionInit::new(RtcSdpType::Answer);
        description.set_sdp(answer);
        JsFuture::from(self.peer.set_remote_description(&description)).await?;
        match within(OPEN_LIMIT, self.news.next()).await {
            Some(Some(ChannelNews::Opened)) => {}
            _ => return Err("no path to the worker was found".into()),
        }
        let own = self.peer.local_description().map(|own| own.sdp()).unwrap_or_default();
        Ok(certificate_hash(&own).zip(certificate_hash(answer)))
    }

    /// What happens next. Cancel safe.
    pub async fn step(&mut self) -> Step {
        loop {
            match self.news.next().await {
                Some(ChannelNews::Message(message)) => return Step::Message(message),
                Some(ChannelNews::Drained) => return Step::Drained,
                Some(ChannelNews::Opened) => {}
                Some(ChannelNews::Closed) | None => return Step::Over,
            }
        }
    }

    /// Sends a text.
    ///
    /// # Errors
    /// The channel is closed.
    pub fn send_text(&self, text: &str) -> Result<(), JsValue> {
        self.channel.send_with_str(text)
    }

    /// Sends bytes, which the browser has already.
    ///
    /// # Errors
    /// The channel is closed.
    pub fn send_bytes(&self, bytes: &Uint8Array) -> Result<(), JsValue> {
        self.channel.send_with_array_buffer_view(bytes)
    }

    /// Whether more may be sent at the moment.
    pub fn has_room(&self) -> bool {
        self.channel.buffered_amount() <= HIGH_BYTES
    }

    /// Waits until everything has left the browser.
    pub async fn flush(&self, limit: Duration) {
        let gone = async {
            while self.channel.buffered_amount() > 0 && self.is_open() {
                sleep(GATHER_POLL).await;
            }
        };
        let _ = within(limit, gone).await;
    }

    fn is_open(&self) -> bool {
        self.channel.ready_state() == RtcDataChannelState::Open
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.channel.set_onopen(None);
        self.channel.set_onclose(None);
        self.channel.set_onmessage(None);
        self.channel.set_onbufferedamountlow(None);
        self.peer.set_onconnectionstatechange(None);
        self.peer.close();
    }
}

fn configuration(servers: &IceServers) -> Result<RtcConfiguration, JsValue> {
    let list = Array::new();
    for server in &servers.ice_servers {
        let entry = Object::new();
        let urls: Array = server.urls.iter().map(JsValue::from).collect();
        Reflect::set(&entry, &"urls".into(), &urls)?;
        for (name, value) in [("username", &server.username), ("credential", &server.credential)] {
            if let Some(value) = value {
                Reflect::set(&entry, &name.into(), &value.into())?;
            }
        }
        list.push(&entry);
    }
    let configuration = RtcConfiguration::new();
    configuration.set_ice_servers(&list);
    Ok(configuration)
}
