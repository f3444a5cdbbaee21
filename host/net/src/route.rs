//! The route of a connection: direct or relayed, and why.

use std::fmt;
use std::time::Duration;

/// A connection's current route and round-trip time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The route.
    pub way: Way,
    /// The latest round-trip time.
    pub round_trip: Duration,
}

/// How data travels between the two devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Directly between two addresses.
    Direct,
    /// Through a server, which cannot read what it relays.
    Relayed {
        /// The server's host.
        by: String,
        /// Why there is no direct path, once that is known.
        why: Option<NoDirectPath>,
    },
}

/// Why a connection is relayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoDirectPath {
    /// No UDP packet leaves this machine's network, or none comes back.
    UdpBlocked,
    /// UDP works here, but no packet reaches the other side.
    NoneFound,
    /// No packet reaches the other side, and no server can tell whether UDP works here.
    NoUdpAnswer,
    /// There was a direct path, but nothing arrives on it any more.
    Lost,
}

impl fmt::Display for NoDirectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UdpBlocked => "UDP is blocked here",
            Self::NoneFound => "no direct path between the networks",
            Self::NoUdpAnswer => "no answer over UDP",
            Self::Lost => "the direct path fell silent",
        })
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("direct"),
            Self::Relayed { by, why: None } => write!(f, "relayed by {by}"),
            Self::Relayed { by, why: Some(why) } => write!(f, "relayed by {by} ({why})"),
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.round_trip.as_secs_f64() * 1e3 {
            ms if ms < 1.0 => write!(f, "{}, under 1 ms", self.way),
            ms => write!(f, "{}, {ms:.0} ms", self.way),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_reads_as_people_say_it() {
        let route = |way, ms| Route { way, round_trip: Duration::from_micros(ms) }.to_string();
        assert_eq!(route(Way::Direct, 12_400), "direct, 12 ms");
        assert_eq!(route(Way::Direct, 300), "direct, under 1 ms");
        let relayed = |why| Way::Relayed { by: "server.lab".into(), why };
        assert_eq!(route(relayed(None), 48_000), "relayed by server.lab, 48 ms");
        let blocked = relayed(Some(NoDirectPath::UdpBlocked));
        assert_eq!(route(blocked, 48_000), "relayed by server.lab (UDP is blocked here), 48 ms");
    }
}
