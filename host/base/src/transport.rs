//! What connections between peers are made of.

use std::str::FromStr;

/// Which kind of connection a peer makes and takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Transport {
    /// iroh where both sides have it, else WebRTC.
    #[default]
    Auto,
    /// WebRTC alone.
    Webrtc,
    /// iroh alone: peers that do not have it are refused.
    Iroh,
}

impl Transport {
    /// Whether connections over iroh may be made.
    pub fn has_iroh(self) -> bool {
        self != Self::Webrtc
    }

    /// Whether connections over WebRTC may be made.
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
