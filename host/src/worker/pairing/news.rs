//! The events of an invitation, and their texts for people.

use serde::{Deserialize, Serialize};
use sleap_rtc_protocol::ids::DeviceName;
use sleap_rtc_protocol::text::Printable;
use sleap_rtc_trust::certificate::MemberRole;
use std::time::Duration;

/// An event of an invitation. First come codes, each of which may be spoiled, then one end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "news", rename_all = "snake_case")]
pub enum InvitationNews {
    /// A new code.
    Code {
        /// The code to type on the other device.
        code: String,
        /// The role that it admits.
        role: MemberRole,
        /// How long it is valid, in seconds.
        within_s: u64,
        /// The address at which the device finds the signaling server, if this worker knows it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signaling: Option<String>,
    },
    /// The code was tried with a wrong word, or something interfered. A new one follows.
    Spoiled,
    /// A device knows the code, and wants another role than the code's. A new code follows.
    OtherRole {
        /// The name that it gives itself.
        device: DeviceName,
        /// The role that it wants.
        wanted: MemberRole,
        /// The role that the code is for.
        role: MemberRole,
    },
    /// The end: a device has joined the room.
    Paired {
        /// The name that it gives itself.
        device: DeviceName,
        /// The role that it was admitted with.
        role: MemberRole,
        /// The words that the device also shows.
        words: String,
    },
    /// The end: no device came.
    Expired,
    /// The end: too many codes were spoiled.
    Paused {
        /// How long this worker creates no codes, in seconds.
        for_s: u64,
    },
    /// The end: the signaling server cannot be used.
    NoServer {
        /// Why.
        why: String,
    },
    /// The end: too many invitations are open.
    TooMany,
}

impl InvitationNews {
    /// Whether nothing follows.
    pub fn is_end(&self) -> bool {
        !matches!(self, Self::Code { .. } | Self::Spoiled | Self::OtherRole { .. })
    }

    /// The text for people.
    pub fn line(&self) -> String {
        match self {
            Self::Code { code, role, within_s, signaling } => {
                let at = signaling.as_ref().map(|at| format!(" --signaling {at}"));
                let (within, at) = (minutes(*within_s), at.unwrap_or_default());
                match role {
                    MemberRole::Client => {
                        format!("Pair a laptop (within {within}):\n  sleap-rtc pair{at} {code}")
                    }
                    MemberRole::Worker => {
                        format!(
                            "Add a worker (within {within}):\n  sleap-rtc worker{at} --pair {code}"
                        )
                    }
                }
            }
            Self::Spoiled => {
                "Somebody tried a wrong code, or the attempt was disturbed. That code is spent."
                    .into()
            }
            Self::OtherRole { device, wanted, role } => format!(
                "{device} typed the right code, but as a {wanted}: the code is for a {role}. It is spent."
            ),
            Self::Paired { device, role, words } => {
                let words = Printable::line(words, 200);
                format!("Paired with {device} ({role}). Verify if you like: {words}")
            }
            Self::Expired => {
                "The pairing code has expired. For a new one:  sleap-rtc room invite".into()
            }
            Self::Paused { for_s } => format!(
                "Too many wrong pairing codes within an hour: this worker makes no new one for {}, or until it is \
                 restarted",
                minutes(*for_s)
            ),
            Self::NoServer { why } => {
                format!("No pairing code can be made: {}", Printable::line(why, 500))
            }
            Self::TooMany => "Other pairing codes of this worker are open; use one of them".into(),
        }
    }
}

fn minutes(seconds: u64) -> String {
    let length = Duration::from_secs(seconds);
    match length.as_secs() {
        seconds @ 0..90 => format!("{seconds} seconds"),
        seconds => format!("{} minutes", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_one_line_for_each() {
        let all = [
            InvitationNews::Code {
                code: "4-harbor-violin".into(),
                role: MemberRole::Client,
                within_s: 600,
                signaling: Some("ws://gpu1:8080".into()),
            },
            InvitationNews::Code {
                code: "12-harbor-violin".into(),
                role: MemberRole::Worker,
                within_s: 30,
                signaling: None,
            },
            InvitationNews::Spoiled,
            InvitationNews::OtherRole {
                device: DeviceName::nearest("ada@laptop"),
                wanted: MemberRole::Client,
                role: MemberRole::Worker,
            },
            InvitationNews::Paired {
                device: DeviceName::nearest("ada@laptop"),
                role: MemberRole::Client,
                words: "maple kite onion harbor violin zebra".into(),
            },
            InvitationNews::Expired,
            InvitationNews::Paused { for_s: 2_101 },
            InvitationNews::NoServer { why: "cannot reach\nit\u{1b}[2J".into() },
            InvitationNews::TooMany,
        ];
        let lines: Vec<String> = all.iter().map(InvitationNews::line).collect();
        insta::assert_snapshot!(lines.join("\n"));
        assert_eq!(all.iter().filter(|news| !news.is_end()).count(), 4);
    }
}
