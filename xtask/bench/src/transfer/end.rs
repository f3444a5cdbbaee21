//! `bench end`: one end of a transfer without files and hashes, as a process of its own, so that
//! what it costs can be told from the other end's.
//!
//! Ends talk with the measurement in lines of JSON on standard output, and hear from it on standard
//! input: an address or a description of the other end, then `go`. After the transfer they wait
//! until their input ends, so that what they cost can still be read. The aiortc end
//! (`aiortc_end.py`) does the same.

use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use sleap_rtc_base::ice::IceConfig;
use sleap_rtc_net::rtc::{self, Channel, Message, RtcOptions};
use sleap_rtc_protocol::signaling::{IceServers, Sdp};
use std::io::{BufRead, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// What one TCP write takes.
const TCP_BLOCK: usize = 256 << 10;
/// How long everything but the transfer may take.
const LIMIT: Duration = Duration::from_secs(20);
/// The last word of a sender, and what a receiver says to it.
const END: &str = "END_OF_FILE";
const RECEIVED: &str = "RECEIVED";

/// `bench end`.
#[derive(clap::Args)]
pub struct EndOptions {
    what: Carrier,
    /// The end's own address.
    #[arg(long)]
    address: Ipv4Addr,
    /// How many bytes are sent.
    #[arg(long)]
    bytes: u64,
    /// Bytes of one message of the original's.
    #[arg(long, default_value_t = 65_536)]
    chunk: usize,
    /// TCP's congestion control, as the kernel calls it.
    #[arg(long)]
    congestion: Option<String>,
}

/// What carries the bytes, and which end of it this is.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Carrier {
    TcpSend,
    TcpReceive,
    OriginalSend,
    OriginalReceive,
}

/// What an end says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Said {
    /// Where it is to be found: an address, or a session description.
    Here { to: String },
    /// The ends have each other; it took the one that came second so long.
    Connected { ms: f64 },
    /// All bytes have gone across, and the sender knows.
    Done { bytes: u64, seconds: f64 },
}

/// Runs one end.
pub fn run(options: &EndOptions) -> Result<()> {
    match options.what {
        Carrier::TcpSend => tcp_send(options),
        Carrier::TcpReceive => tcp_receive(options),
        Carrier::OriginalSend => runtime()?.block_on(rtc_send(options)),
        Carrier::OriginalReceive => runtime()?.block_on(rtc_receive(options)),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

fn say(said: &Said) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}", serde_json::to_string(said)?)?;
    Ok(stdout.flush()?)
}

fn hear() -> Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    ensure!(!line.is_empty(), "nobody wants this end any more");
    Ok(line.trim().to_owned())
}

/// Both ends start when they are told.
fn await_go() -> Result<()> {
    let word = hear()?;
    ensure!(word == "go", "instead of `go` came {word:?}");
    Ok(())
}

fn linger() -> Result<()> {
    std::io::stdin().lock().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn done(bytes: u64, start: Instant) -> Result<()> {
    say(&Said::Done { bytes, seconds: start.elapsed().as_secs_f64() })?;
    linger()
}

fn tcp_send(options: &EndOptions) -> Result<()> {
    let to: SocketAddr = hear()?.parse()?;
    let start = Instant::now();
    let mut stream = TcpStream::connect(to)?;
    if let Some(name) = &options.congestion {
        let set = rustix::net::sockopt::set_tcp_congestion(&stream, name);
        set.with_context(|| format!("this kernel has no TCP {name}"))?;
    }
    say(&Said::Connected { ms: start.elapsed().as_secs_f64() * 1e3 })?;
    await_go()?;
    let (start, block) = (Instant::now(), vec![7; TCP_BLOCK]);
    let mut left = options.bytes;
    while left > 0 {
        let some = left.min(TCP_BLOCK as u64);
        stream.write_all(&block[..some as usize])?;
        left -= some;
    }
    stream.shutdown(Shutdown::Write)?;
    // The other end says that it has everything.
    stream.read_exact(&mut [0])?;
    done(options.bytes, start)
}

fn tcp_receive(options: &EndOptions) -> Result<()> {
    let listener = TcpListener::bind((options.address, 0))?;
    say(&Said::Here { to: listener.local_addr()?.to_string() })?;
    let mut stream = listener.accept()?.0;
    say(&Said::Connected { ms: 0.0 })?;
    await_go()?;
    let (start, mut block, mut bytes) = (Instant::now(), vec![0; TCP_BLOCK], 0);
    loop {
        match stream.read(&mut block)? {
            0 => break,
            more => bytes += more as u64,
        }
    }
    ensure!(bytes == options.bytes, "{bytes} bytes came of {}", options.bytes);
    stream.write_all(&[1])?;
    done(bytes, start)
}

fn rtc_options(options: &EndOptions) -> RtcOptions {
    let bind = vec![options.address.into()];
    let config = IceConfig { servers: Vec::new(), bind, ..IceConfig::default() };
    RtcOptions::new(&config, &IceServers::default())
}

async fn rtc_send(options: &EndOptions) -> Result<()> {
    let (rtc, start) = (rtc_options(options), Instant::now());
    let (offering, Sdp(sdp)) = rtc::offer(&rtc).await?;
    say(&Said::Here { to: sdp })?;
    let answer: String = serde_json::from_str(&hear()?)?;
    let (connection, channel) = offering.accept(&Sdp(answer)).await?;
    say(&Said::Connected { ms: start.elapsed().as_secs_f64() * 1e3 })?;
    await_go()?;
    let start = Instant::now();
    original_send(&channel, options).await?;
    done(options.bytes, start)?;
    connection.close().await;
    Ok(())
}

async fn rtc_receive(options: &EndOptions) -> Result<()> {
    let rtc = rtc_options(options);
    let offer: String = serde_json::from_str(&hear()?)?;
    let (connection, Sdp(sdp)) = rtc::answer(&rtc, &Sdp(offer)).await?;
    say(&Said::Here { to: sdp })?;
    let opening = tokio::time::timeout(LIMIT, connection.next_channel());
    let channel = opening.await.context("no channel was opened")?.context("no connection")?;
    say(&Said::Connected { ms: 0.0 })?;
    await_go()?;
    let start = Instant::now();
    let bytes = original_receive(&channel).await?;
    ensure!(bytes == options.bytes, "{bytes} bytes came of {}", options.bytes);
    done(bytes, start)?;
    connection.close().await;
    Ok(())
}

/// As the original's client does.
async fn original_send(channel: &Channel, options: &EndOptions) -> Result<()> {
    let mut left = options.bytes;
    channel.send_text(format!("FILE_META::bench:{left}:False")).await?;
    while left > 0 {
        let some = left.min(options.chunk as u64);
        channel.send_binary(BytesMut::zeroed(some as usize)).await?;
        left -= some;
    }
    channel.send_text(END.to_owned()).await?;
    match channel.recv().await {
        Some(Message::Text(text)) if text == RECEIVED => Ok(()),
        other => bail!("the receiver said {other:?}"),
    }
}

async fn original_receive(channel: &Channel) -> Result<u64> {
    let mut bytes = 0;
    loop {
        match channel.recv().await.context("the connection is over")? {
            Message::Binary(chunk) => bytes += chunk.len() as u64,
            Message::Text(text) if text == END => break,
            Message::Text(_) => {}
        }
    }
    channel.send_text(RECEIVED.to_owned()).await?;
    channel.flush(LIMIT).await?;
    Ok(bytes)
}
