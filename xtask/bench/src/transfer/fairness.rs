//! `bench fairness`: one transfer between our programs beside one TCP connection that never ends,
//! over the same line. Prints what each of them gets.

use super::files::{FileSet, Payload};
use super::ours::{RESULT, Site, Way, logged};
use super::pairs::Congestion;
use super::place::{Place, Side};
use super::running::Deadline;
use crate::link::Shape;
use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long TCP is alone before the transfer begins.
const ALONE: Duration = Duration::from_secs(3);
/// How long one transfer may take.
const LIMIT: Duration = Duration::from_secs(120);
/// What is written to a socket at a time.
const BLOCK: usize = 64 << 10;

/// `bench fairness`.
#[derive(clap::Args)]
pub struct FairnessOptions {
    /// Round trips of the lines, in ms
    #[arg(long, value_delimiter = ',', default_values_t = [20, 80])]
    round_trips: Vec<u64>,
    /// The rate of the lines, in Mbit/s
    #[arg(long, default_value_t = 100)]
    mbit: u32,
    /// Megabytes of one transfer
    #[arg(long, default_value_t = 60)]
    megabytes: u64,
    /// How client and worker are connected
    #[arg(long, value_enum, default_value_t = Way::Direct)]
    way: Way,
    /// How often each is measured
    #[arg(long, default_value_t = 3)]
    repeat: u32,
}

/// Measures, and prints a table.
pub fn run(options: &FairnessOptions) -> Result<()> {
    println!("| line | ours, MB/s | TCP CUBIC, MB/s | our share |\n|---|---|---|---|");
    for round_trip_ms in &options.round_trips {
        let round_trip = Duration::from_millis(*round_trip_ms);
        for _ in 0..options.repeat {
            let place = Place::link(Shape::new(options.mbit, round_trip, 0.0, 1))?;
            let (ours, tcp) = options.beside(&place)?;
            let share = 100.0 * ours / (ours + tcp);
            let line = format!("{round_trip_ms} ms, {} Mbit", options.mbit);
            println!("| {line} | {:.1} | {:.1} | {share:.0} % |", ours / 1e6, tcp / 1e6);
        }
    }
    Ok(())
}

impl FairnessOptions {
    /// Bytes per second of the upload, and of TCP meanwhile.
    fn beside(&self, place: &Place) -> Result<(f64, f64)> {
        let folder = tempfile::Builder::new().prefix("fairness-").tempdir_in(super::memory())?;
        let files = folder.path().join("files");
        std::fs::create_dir(&files)?;
        let payload = Payload::write(&files, FileSet::One(self.megabytes * 1_000_000))?;
        let site = Site::start(place, folder.path(), self.way)?;
        let tcp = Flow::start(place)?;
        std::thread::sleep(ALONE);
        let deadline = Deadline::after(LIMIT);
        let mut client = site.client(&payload.path, Some(&payload.models), RESULT)?;
        logged(&mut client, "the connection is open", deadline)?;
        let (start, before) = (Instant::now(), tcp.bytes());
        let sent = logged(&mut client, "the worker has the package", deadline)?;
        let seconds = start.elapsed().as_secs_f64();
        let tcp_bytes = tcp.bytes() - before;
        tcp.end()?;
        // A job whose client is killed would outlive this measurement.
        client.end(deadline)?;
        Ok((sent.bytes as f64 / sent.took().as_secs_f64(), tcp_bytes as f64 / seconds))
    }
}

/// A TCP connection from left to right that is always full.
struct Flow {
    arrived: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    threads: [JoinHandle<std::io::Result<()>>; 2],
}

impl Flow {
    fn start(place: &Place) -> Result<Self> {
        let address = place.address(Side::Right);
        let listener = place.run(Side::Right, move || TcpListener::bind((address, 0)))??;
        let to = SocketAddr::new(address.into(), listener.local_addr()?.port());
        let stream = place.run(Side::Left, move || TcpStream::connect(to))??;
        let name = Congestion::Cubic.name();
        let set = rustix::net::sockopt::set_tcp_congestion(&stream, name);
        set.with_context(|| format!("this kernel has no TCP {name}"))?;
        let (arrived, ended) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (counted, over) = (Arc::clone(&arrived), Arc::clone(&ended));
        let threads = [
            std::thread::spawn(move || send(stream, &over)),
            std::thread::spawn(move || receive(listener.accept()?.0, &counted)),
        ];
        Ok(Self { arrived, ended, threads })
    }

    fn bytes(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    fn end(self) -> Result<()> {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| anyhow::anyhow!("an end of TCP panicked"))??;
        }
        Ok(())
    }
}

fn send(mut stream: TcpStream, ended: &AtomicBool) -> std::io::Result<()> {
    let block = vec![7; BLOCK];
    while !ended.load(Ordering::Relaxed) {
        stream.write_all(&block)?;
    }
    Ok(())
}

fn receive(mut stream: TcpStream, arrived: &AtomicU64) -> std::io::Result<()> {
    let mut block = vec![0; BLOCK];
    loop {
        match stream.read(&mut block)? {
            0 => return Ok(()),
            more => arrived.fetch_add(more as u64, Ordering::Relaxed),
        };
    }
}
