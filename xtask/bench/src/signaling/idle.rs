//! Peers that register and stay, in a process of their own: one process may not open enough sockets for all.

use super::load::{Load, ROOM};
use super::process::raise_file_limit;
use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

/// What the process says once all its peers are registered.
const REGISTERED: &str = "registered";

/// `bench idle`.
#[derive(clap::Args)]
pub struct IdleOptions {
    /// Their server
    #[arg(long)]
    server: SocketAddr,
    /// How many they are
    #[arg(long)]
    count: usize,
    /// The number of the first peer, from which the addresses follow
    #[arg(long)]
    first: usize,
}

/// Registers the peers, and keeps them until standard input ends.
pub fn run(options: &IdleOptions) -> Result<()> {
    raise_file_limit(options.count)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let load = Load::numbered(options.server, options.first);
    runtime.block_on(async {
        let mut left = options.count;
        while left > 0 {
            let room = load.room().await?;
            for peer in load.join(left.min(ROOM), &room, "worker").await? {
                drop(tokio::spawn(peer.idle()));
            }
            left -= left.min(ROOM);
        }
        println!("{REGISTERED}");
        let mut end = String::new();
        tokio::task::spawn_blocking(move || std::io::stdin().read_line(&mut end)).await??;
        Ok(())
    })
}

/// A process with idle peers. It ends with the value.
pub struct IdlePeers(Child);

impl IdlePeers {
    /// Waits until all are registered.
    pub fn start(server: SocketAddr, count: usize, first: usize) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let [count, first] = [count, first].map(|number| number.to_string());
        command.args(["idle", "--server", &server.to_string(), "--count", &count]);
        command.args(["--first", &first]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut peers = Self(command.spawn().context("cannot start the idle peers")?);
        let said = peers.0.stdout.take().context("no standard output")?;
        let line = BufReader::new(said).lines().next().transpose()?;
        ensure!(line.as_deref() == Some(REGISTERED), "the idle peers have ended");
        Ok(peers)
    }
}

impl Drop for IdlePeers {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
