//! One of the two processes that `bench lanes` starts: connects by what it reads and prints, one
//! description each, then sends or receives, and prints what that cost.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sleap_rtc_base::ice::IceConfig;
use sleap_rtc_net::bare::{self, LaneCount};
use sleap_rtc_net::rtc::{self, RtcOptions};
use sleap_rtc_protocol::DIALECT;
use sleap_rtc_protocol::signaling::{IceServers, Sdp};
use std::io::Write;
use std::net::IpAddr;
use std::time::Instant;

/// `bench lane-end`.
#[derive(clap::Args)]
pub struct End {
    /// What it does.
    #[arg(value_enum)]
    role: Role,
    /// Where it is.
    #[arg(long)]
    address: IpAddr,
    /// How much is sent.
    #[arg(long, default_value_t = 0)]
    bytes: u64,
    /// Over how many lanes; as many as pay, where it is not said.
    #[arg(long)]
    lanes: Option<usize>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Role {
    Send,
    Receive,
}

/// What one end says when it is done.
#[derive(Debug, Serialize, Deserialize)]
pub struct EndReport {
    pub bytes: u64,
    pub seconds: f64,
    pub connect_ms: f64,
    pub cpu_s: f64,
    pub peak_mib: f64,
}

/// Runs to its end.
pub fn run(end: &End) -> Result<()> {
    if let Ok(filter) = std::env::var("SLEAP_RTC_LOG") {
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(carry(end))?;
    say(&report)?;
    runtime.shutdown_background();
    Ok(())
}

async fn carry(end: &End) -> Result<EndReport> {
    let ice = IceConfig { servers: Vec::new(), bind: vec![end.address], ..IceConfig::default() };
    let options = RtcOptions::new(&ice, &IceServers::default());
    let (connection, channel, connect_ms) = match end.role {
        Role::Send => offer(&options).await?,
        Role::Receive => answer(&options).await?,
    };
    let (started, cpu_before) = (Instant::now(), cpu_s());
    let bytes = match end.role {
        Role::Send => {
            let lanes = end.lanes.map_or(LaneCount::Adaptive, LaneCount::Fixed);
            bare::send(channel, &options, end.bytes, lanes).await?;
            end.bytes
        }
        Role::Receive => bare::receive(channel, &options).await?,
    };
    let (seconds, cpu_s) = (started.elapsed().as_secs_f64(), cpu_s() - cpu_before);
    if let Role::Send = end.role {
        // The other side says goodbye first.
        let mut state = connection.state();
        let over = state.wait_for(|state| state.is_over());
        let _ = tokio::time::timeout(std::time::Duration::from_secs(5), over).await;
    }
    connection.close().await;
    Ok(EndReport { bytes, seconds, connect_ms, cpu_s, peak_mib: peak_mib()? })
}

async fn offer(options: &RtcOptions) -> Result<(rtc::Connection, rtc::Channel, f64)> {
    let (offering, sdp) = rtc::offer_channel(options, "bench", DIALECT).await?;
    say(&sdp)?;
    let answer = hear()?;
    let started = Instant::now();
    let (connection, channel) = offering.accept(&answer).await?;
    Ok((connection, channel, started.elapsed().as_secs_f64() * 1e3))
}

async fn answer(options: &RtcOptions) -> Result<(rtc::Connection, rtc::Channel, f64)> {
    let (connection, sdp) = rtc::answer(options, &hear()?).await?;
    say(&sdp)?;
    let started = Instant::now();
    let channel = connection.next_channel().await.context("no channel came")?;
    Ok((connection, channel, started.elapsed().as_secs_f64() * 1e3))
}

fn say(what: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(what)?)?;
    Ok(out.flush()?)
}

fn hear() -> Result<Sdp> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

/// Of this process, user and system.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    let ticks = ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0);
    ticks / rustix::param::clock_ticks_per_second() as f64
}

fn peak_mib() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("no VmHWM")?;
    Ok(kib.parse::<f64>()? / 1024.0)
}
