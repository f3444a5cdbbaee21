//! Kinds of connections between peers.

use std::str::FromStr;

/// The kinds of connections that a peer opens and accepts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Transport {
    /// iroh if both peers support it, otherwise WebRTC.
    #[default]
    Auto,
    /// Only WebRTC.
    Webrtc,
    /// Only iroh. Peers without it are refused.
    Iroh,
}

impl Transport {
    /// Whether connections over iroh are allowed.
    pub fn has_iroh(self) -> bool {
        self != Self::Webrtc
    }

    /// Whether connections over WebRTC are allowed.
    pub fn has_webrtc(self) -> bool {
        self != Self::Iroh
    }
}

impl FromStr for Transport {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "webrtc" => Ok(Self::Webrtc),
            "iroh" => Ok(Self::Iroh),
            _ => Err("expects auto, webrtc or iroh"),
        }
    }
}
