//! Torture: runs jobs while processes are killed or frozen, networks are cut and disks are full.
//! `cargo xtask torture` builds this and runs it.
//!
//! Each round has its own folder, server, worker and client, so that it can be repeated alone. [`plan`]
//! chooses the faults, [`scene`] sets up the programs, [`round`] runs the job and strikes, and [`checks`]
//! contains the rules that must hold afterwards.

// A scene that cannot be set up is a failed round, and the panic names the place.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod checks;
mod cluster;
mod deck;
mod interrupt;
mod job;
mod plan;
mod program;
mod report;
mod round;
mod scene;

use clap::Parser;
use plan::{Executor, Plan};
use report::{Line, Report};
use round::Round;
use scene::Scene;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;
use support::disk::own_mounts;
use support::{Network, Site};

/// Kills, freezes, disconnects and fills up everything that takes part in a job, and checks that
/// nothing is lost
#[derive(Parser)]
#[command(name = "cargo xtask torture", no_binary_name = true)]
struct Options {
    /// Seed for the faults of all rounds
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of rounds
    #[arg(long, default_value_t = 25)]
    rounds: u64,
    /// Run only the round with this number, and keep its folder
    #[arg(long, value_name = "K")]
    round: Option<u64>,
    /// Number of rounds at the same time
    #[arg(long, default_value_t = 4)]
    rooms: usize,
    /// The worker hands its jobs to a Slurm, which is struck as well
    #[arg(long)]
    slurm: bool,
}

/// The faults that this machine allows.
struct Rights {
    networks: Result<(), String>,
    mounts: Result<(), String>,
}

impl Rights {
    fn find() -> Self {
        let said = |error: std::io::Error| error.to_string();
        let mounts = own_mounts().map_err(said);
        Self { networks: Network::new().map(drop).map_err(said), mounts }
    }

    /// Why a round cannot run here, if it cannot.
    fn missing(&self, plan: &Plan) -> Option<String> {
        match (&self.networks, &self.mounts) {
            (Err(why), _) if plan.needs_networks() => {
                Some(format!("no network namespaces ({why})"))
            }
            (_, Err(why)) if plan.needs_mounts() => Some(format!("no mounts ({why})")),
            _ => None,
        }
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    // Test runners list or run everything in this binary. They must not run the torture.
    if arguments.next().as_deref() != Some("torture") {
        return ExitCode::SUCCESS;
    }
    let options = Options::parse_from(arguments);
    let rights = Rights::find();
    let rounds: Vec<u64> = match options.round {
        Some(round) => vec![round],
        None => (1..=options.rounds).rev().collect(),
    };
    let todo = Mutex::new(rounds);
    let executor = if options.slurm { Executor::Slurm } else { Executor::Machine };
    let report = Mutex::new(Report::begin(options.seed));
    interrupt::listen();
    std::thread::scope(|scope| {
        for _ in 0..options.rooms {
            scope.spawn(|| {
                while !interrupt::came()
                    && let Some(round) = { todo.lock().unwrap().pop() }
                {
                    let plan = Plan::draw(executor, options.seed, round);
                    let line = play(&plan, &rights, options.round.is_some());
                    report.lock().unwrap().add(line);
                }
            });
        }
    });
    report.into_inner().unwrap().finish()
}

/// Runs one round and checks it.
fn play(plan: &Plan, rights: &Rights, keep: bool) -> Line {
    if let Some(why) = rights.missing(plan) {
        return Line::skipped(plan, why);
    }
    let since = Instant::now();
    let mut site = Site::new();
    // Kept until the round has passed, so that a panic does not remove the folder.
    site.keep(true);
    let folder = site.path().to_owned();
    let mut line = Line::begin(plan, folder);
    let networks = rights.networks.is_ok();
    let played = catch_unwind(AssertUnwindSafe(|| {
        let mut scene = Scene::build(site, plan, networks);
        let played = Round::begin(&mut scene, plan).play();
        match played {
            Ok(played) => {
                line.broken = checks::violations(&mut scene, plan, &played);
                line.played = Some(played);
            }
            Err(why) => line.broken.push(why),
        }
        if line.is_good() && !keep {
            scene.forget();
        } else {
            scene.rescue();
        }
    }));
    if let Err(panic) = played {
        line.broken.push(words(panic));
    }
    line.took = since.elapsed();
    line
}

fn words(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "a panic without a message".into())
}
