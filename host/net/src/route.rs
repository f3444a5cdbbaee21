//! Which way a connection takes.

use std::fmt;
use std::time::Duration;

/// The way that data takes now, and how long it takes there and back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Which way.
    pub way: Way,
    /// As measured last.
    pub round_trip: Duration,
}

/// From one device to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// From address to address.
    Direct,
    /// Through a server, which passes on what it cannot read.
    Relayed {
        /// The server's host.
        by: String,
    },
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("direct"),
            Self::Relayed { by } => write!(f, "relayed by {by}"),
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
        let relayed = Way::Relayed { by: "server.lab".into() };
        assert_eq!(route(relayed, 48_000), "relayed by server.lab, 48 ms");
    }
}
