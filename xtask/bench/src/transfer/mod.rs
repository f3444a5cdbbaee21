//! `bench transfer`: files between our programs beside what else moves files, over the same links
//! in the same run.
//!
//! | module | what it does |
//! |---|---|
//! | `plan` | the rows, and who takes part in each |
//! | `measure` | runs one row |
//! | `ours` | signaling server, worker and client, as users run them |
//! | `pairs`, `end` | two ends without files and hashes: TCP, aiortc |
//! | `fairness` | one transfer beside one TCP connection (`bench fairness`) |
//! | `ssh` | `scp` and `rsync` |
//! | `place`, `running`, `meter`, `files` | where, how, at what cost, and what |
//! | `table` | medians, ratios, goals |

pub mod end;
pub mod fairness;
mod files;
mod measure;
mod meter;
mod ours;
mod pairs;
mod place;
mod plan;
mod running;
mod ssh;
mod table;

use anyhow::{Context, Result, ensure};
use measure::{Bench, Folders};
use place::Place;
use plan::{Contender, Row, What};
use std::path::{Path, PathBuf};
use table::{Report, Rows};

/// `bench transfer`.
#[derive(clap::Args)]
pub struct TransferOptions {
    /// Only the rows with these words in their names, separated by commas.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Only these peers.
    #[arg(long, value_enum, value_delimiter = ',')]
    peers: Vec<Contender>,
    /// How often each transfer is done.
    #[arg(long, default_value_t = 3)]
    repeat: u32,
    /// A tenth of every size, each once: whether everything runs.
    #[arg(long)]
    quick: bool,
    /// Which packets are lost on links that lose some.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A folder on disk, for the row from disk to disk; the others are in memory.
    #[arg(long, default_value = "target")]
    disk: PathBuf,
}

/// Runs the rows that are wanted and prints their tables.
pub fn run(options: &TransferOptions) -> Result<()> {
    let machine = table::machine();
    let folders = Folders { memory: memory(), disk: options.disk.clone() };
    let rows: Vec<Row> = plan::rows().into_iter().filter(|row| options.wants(row)).collect();
    ensure!(!rows.is_empty(), "there is no row of this name; there are {}", names());
    let mut report = Report::default();
    for row in rows {
        let row = if options.quick { row.quick() } else { row };
        eprintln!("{} ({})", row.title(), row.name);
        let measured = options.measure(row, &folders);
        let measured = measured.unwrap_or_else(|error| {
            eprintln!("  {error:#}");
            Rows::NotRun(format!("{error:#}"))
        });
        report.add(row, measured);
    }
    println!("Machine: {machine}.\n\n{}", report.markdown());
    Ok(())
}

/// A folder in memory, where there is one.
fn memory() -> PathBuf {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() }
}

fn names() -> String {
    let names: Vec<&str> = plan::rows().iter().map(|row| row.name).collect();
    names.join(", ")
}

impl TransferOptions {
    fn wants(&self, row: &Row) -> bool {
        let is_named = self.rows.iter().any(|word| row.name == word);
        is_named || (self.rows.is_empty() && !row.is_rare)
    }

    fn measure(&self, row: Row, folders: &Folders) -> Result<Rows> {
        let repeat = if self.quick { 1 } else { self.repeat };
        let place = match row.over.shape(self.seed) {
            None => Place::loopback(),
            Some(shape) => Place::link(shape).context("no emulated link")?,
        };
        let mut bench = Bench::new(row, &place, folders)?;
        match row.what {
            What::Transfer { peers, .. } => {
                let wanted = |peer: &&Contender| self.peers.is_empty() || self.peers.contains(peer);
                let peers: Vec<Contender> = peers.iter().filter(wanted).copied().collect();
                bench.transfers(&peers, repeat).map(Rows::Lines)
            }
            What::Again { .. } => bench.again(repeat).map(Rows::Again),
            What::Resume { .. } => bench.resume(repeat).map(Rows::Resumed),
        }
    }
}
