//! `bench links`: measures TCP over each emulated link, and over a link without a limit, which shows what
//! the emulation itself can carry on this machine.

use crate::link::{EmulatedLink, Shape};
use crate::tcp;
use anyhow::Result;
use std::time::Duration;

/// `bench links`.
#[derive(clap::Args)]
pub struct LinksOptions {
    /// How long to send over each link, in seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// The seed that decides which packets are lost.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Name, Mbit/s, round trip in ms, loss in percent.
const LINKS: [(&str, u32, u64, f64); 6] = [
    ("no limit", 100_000, 0, 0.0),
    ("20 ms, 100 Mbit", 100, 20, 0.0),
    ("80 ms, 100 Mbit", 100, 80, 0.0),
    ("20 ms, 1 Gbit", 1_000, 20, 0.0),
    ("20 ms, 100 Mbit, 0.1 % lost", 100, 20, 0.1),
    ("80 ms, 100 Mbit, 0.1 % lost", 100, 80, 0.1),
];

/// Prints MB/s of one TCP connection over each link.
pub fn run(options: &LinksOptions) -> Result<()> {
    println!("{:<30} {:>10}", "link", "TCP MB/s");
    for (name, rate_mbit, round_trip_ms, loss_percent) in LINKS {
        let round_trip = Duration::from_millis(round_trip_ms);
        let loss = loss_percent / 100.0;
        let shape = Shape::new(rate_mbit, round_trip, loss, options.seed);
        let rate =
            tcp::rate(Some(&EmulatedLink::open(shape)?), Duration::from_secs(options.seconds))?;
        println!("{name:<30} {:>10.1}", rate / 1e6);
    }
    Ok(())
}
