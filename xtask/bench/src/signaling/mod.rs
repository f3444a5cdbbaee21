//! `bench signaling`: runs a load generator against the real `sleap-rtc signaling`, each on its own core,
//! so that the figures are those of the server.

mod cluster;
pub mod idle;
mod load;
mod peer;
mod process;
mod relay;
mod table;

use anyhow::{Context, Result};
use cluster::ClusterProcesses;
use load::Load;
use process::{Cores, ServerProcess};
use table::Table;

/// `bench signaling`.
#[derive(clap::Args)]
pub struct SignalingOptions {
    /// Number of peers that register and then stay idle
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    /// Number of messages between peers, back and forth between a hundred pairs
    #[arg(long, default_value_t = 100_000)]
    messages: usize,
    /// Number of workers in the room that is listed
    #[arg(long, default_value_t = 1_000)]
    workers: usize,
    /// Number of clients that ask for the list at the same time
    #[arg(long, default_value_t = 10)]
    askers: usize,
    /// Number of times that each of them asks
    #[arg(long, default_value_t = 100)]
    rounds: usize,
    /// Number of peers that return after a restart of the server
    #[arg(long, default_value_t = 1_000)]
    returning: usize,
    /// Number of peers that are relayed at the same time, in pairs
    #[arg(long, default_value_t = 200)]
    relayed: usize,
    /// Bytes per second that each pair sends
    #[arg(long, default_value_t = 50_000)]
    relay_bytes_per_s: usize,
    /// Measure the relay alone
    #[arg(long)]
    relay: bool,
    /// Measure what it costs to be this many servers with a NATS broker, and nothing else
    #[arg(long, value_name = "N", conflicts_with = "relay")]
    servers: Option<usize>,
}

/// Runs every measurement and prints one table.
pub fn run(options: &SignalingOptions) -> Result<()> {
    // The idle peers of several servers have processes of their own.
    process::raise_file_limit(options.servers.map_or(options.idle, |_| options.returning))?;
    let cores = Cores::find()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut table = Table::new(cores);
    if let Some(servers) = options.servers {
        let cluster = ClusterProcesses::start(servers, cores)?;
        cores.take_generators()?;
        runtime.block_on(cluster::measure(options, cluster, &mut table))?;
    } else {
        let program = ServerProcess::start(cores)?;
        cores.take_generators()?;
        runtime.block_on(measure(options, program, &mut table))?;
    }
    print!("{table}");
    Ok(())
}

async fn measure(
    options: &SignalingOptions,
    program: ServerProcess,
    table: &mut Table,
) -> Result<()> {
    let load = Load::new(program.address());
    if options.relay {
        let (peers, rate) = (options.relayed, options.relay_bytes_per_s);
        return load.relayed(peers, rate, &program, table).await.context("relay");
    }
    load.idle(options.idle, &program, table).await.context("idle peers")?;
    load.messages(options.messages, &program, table).await.context("messages")?;
    load.discovery(options, &program, table).await.context("discovery")?;
    let (peers, rate) = (options.relayed, options.relay_bytes_per_s);
    load.relayed(peers, rate, &program, table).await.context("relay")?;
    load.restart(options.returning, program, table).await.context("restart")
}
