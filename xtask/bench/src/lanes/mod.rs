//! `bench lanes`: the lanes without files and hashes, between two processes, beside TCP on the same
//! path.

mod end;
mod tcp;

pub use end::{End, run as run_end};
pub use tcp::rate as tcp_rate;

use crate::link::{LEFT, Link, Namespace, RIGHT, Shape};
use anyhow::{Context, Result, anyhow, ensure};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// `bench lanes`.
#[derive(clap::Args)]
pub struct LanesOptions {
    /// How long a path is kept busy, in seconds: the amount sent follows from what it can carry.
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
    /// Which packets are lost.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Numbers of lanes besides the adaptive one.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8")]
    lanes: Vec<usize>,
    /// Only the paths whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// How often each is measured; the median counts.
    #[arg(long, default_value_t = 1)]
    repeat: usize,
}

/// Name, Mbit/s, round trip in ms, loss in percent. The first is loopback itself.
const PATHS: [(&str, u32, u64, f64); 7] = [
    ("loopback", 4_000, 0, 0.0),
    ("20 ms, 100 Mbit", 100, 20, 0.0),
    ("80 ms, 100 Mbit", 100, 80, 0.0),
    ("20 ms, 1 Gbit", 1_000, 20, 0.0),
    ("20 ms, 100 Mbit, 0.1 %", 100, 20, 0.1),
    ("80 ms, 100 Mbit, 0.1 %", 100, 80, 0.1),
    ("20 ms, 1 Gbit, 0.1 %", 1_000, 20, 0.1),
];

/// What one transfer cost.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct LaneRun {
    /// From the first to the last byte, confirmed by the other side.
    pub seconds: f64,
    /// Of the sender.
    pub connect_ms: f64,
    /// Of both processes.
    pub bytes: u64,
    /// Of the sender, user and system.
    pub sender_cpu_s: f64,
    /// Of the receiver.
    pub receiver_cpu_s: f64,
    /// The most memory that the sender held.
    pub sender_peak_mib: f64,
    /// The most memory that the receiver held.
    pub receiver_peak_mib: f64,
}

impl LaneRun {
    /// Millions of bytes per second.
    pub fn mb_per_s(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.seconds
    }
}

/// Where the two ends are.
pub enum Location<'a> {
    /// Both on this machine's loopback.
    Loopback,
    /// On the two ends of an emulated link.
    Link(&'a Link),
}

impl Location<'_> {
    fn addresses(&self) -> (IpAddr, IpAddr) {
        match self {
            Self::Loopback => (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()),
            Self::Link(_) => (LEFT.into(), RIGHT.into()),
        }
    }

    fn namespaces(&self) -> (Option<&Namespace>, Option<&Namespace>) {
        match self {
            Self::Loopback => (None, None),
            Self::Link(link) => (Some(&link.left), Some(&link.right)),
        }
    }
}

/// Sends `bytes` from one process to another over so many lanes; none: as many as pay.
pub fn measure(place: &Location<'_>, bytes: u64, lanes: Option<usize>) -> Result<LaneRun> {
    let ((left, right), (here, there)) = (place.addresses(), place.namespaces());
    let mut arguments = vec!["--bytes".to_owned(), bytes.to_string()];
    if let Some(lanes) = lanes {
        arguments.extend(["--lanes".to_owned(), lanes.to_string()]);
    }
    let mut sender = EndProcess::start("send", left, &arguments, here)?;
    let mut receiver = EndProcess::start("receive", right, &[], there)?;
    receiver.tell(&sender.hear()?)?;
    sender.tell(&receiver.hear()?)?;
    let sent: end::EndReport = serde_json::from_str(&sender.hear()?)?;
    let received: end::EndReport = serde_json::from_str(&receiver.hear()?)?;
    ensure!(sent.bytes == received.bytes, "{} of {} bytes arrived", received.bytes, sent.bytes);
    Ok(LaneRun {
        seconds: sent.seconds,
        connect_ms: sent.connect_ms,
        bytes,
        sender_cpu_s: sent.cpu_s,
        receiver_cpu_s: received.cpu_s,
        sender_peak_mib: sent.peak_mib,
        receiver_peak_mib: received.peak_mib,
    })
}

/// One of the two processes.
struct EndProcess {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl EndProcess {
    fn start(
        role: &str,
        address: IpAddr,
        more: &[String],
        namespace: Option<&Namespace>,
    ) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["lane-end", role, "--address", &address.to_string()]).args(more);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = match namespace {
            None => command.spawn(),
            Some(namespace) => namespace.run(move || command.spawn())?,
        }?;
        let said = child.stdout.take().context("no standard output")?;
        Ok(Self { child, said: BufReader::new(said) })
    }

    fn hear(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.said.read_line(&mut line)? > 0, "an end of the lanes ended without a word");
        Ok(line)
    }

    fn tell(&mut self, line: &str) -> Result<()> {
        let stdin = self.child.stdin.as_mut().ok_or_else(|| anyhow!("no standard input"))?;
        Ok(stdin.write_all(line.as_bytes())?)
    }
}

impl Drop for EndProcess {
    fn drop(&mut self) {
        // It has ended by itself, or is not wanted any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Prints MB/s, and what it cost.
pub fn run(options: &LanesOptions) -> Result<()> {
    println!(
        "{:<24} {:>9} {:>8} {:>6} {:>12} {:>9} {:>11}",
        "path", "lanes", "MB/s", "of TCP", "CPU s/GB", "connected", "peak MiB"
    );
    let wanted = |name: &str| options.only.as_ref().is_none_or(|only| name.contains(only));
    for (name, rate_mbit, round_trip_ms, loss_percent) in PATHS {
        if !wanted(name) {
            continue;
        }
        let round_trip = Duration::from_millis(round_trip_ms);
        let shape = Shape::new(rate_mbit, round_trip, loss_percent / 100.0, options.seed);
        let link = (name != "loopback").then(|| Link::open(shape)).transpose()?;
        let place = link.as_ref().map_or(Location::Loopback, Location::Link);
        let bytes = (f64::from(rate_mbit) * 125e3 * options.seconds) as u64;
        let bytes = if loss_percent > 0.0 { bytes / 4 } else { bytes };
        let tcp = tcp::rate(link.as_ref(), Duration::from_secs_f64(options.seconds / 2.0))? / 1e6;
        println!("{name:<24} {:>9} {tcp:>8.1}", "TCP");
        for lanes in options.lanes.iter().copied().map(Some).chain([None]) {
            let mut costs = (0..options.repeat.max(1))
                .map(|_| measure(&place, bytes, lanes))
                .collect::<Result<Vec<_>>>()?;
            costs.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
            print_cost(name, lanes, &costs[costs.len() / 2], tcp);
        }
    }
    Ok(())
}

fn print_cost(name: &str, lanes: Option<usize>, cost: &LaneRun, tcp: f64) {
    let gigabytes = cost.bytes as f64 / 1e9;
    println!(
        "{name:<24} {:>9} {:>8.1} {:>5.0}% {:>5.1} /{:>5.1} {:>6.0} ms {:>5.0} /{:>4.0}",
        lanes.map_or("adaptive".to_owned(), |lanes| lanes.to_string()),
        cost.mb_per_s(),
        100.0 * cost.mb_per_s() / tcp,
        cost.sender_cpu_s / gigabytes,
        cost.receiver_cpu_s / gigabytes,
        cost.connect_ms,
        cost.sender_peak_mib,
        cost.receiver_peak_mib,
    );
}
