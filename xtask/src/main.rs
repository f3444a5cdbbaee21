//! Tasks of the workspace: `cargo xtask demo`, `test`, `lint`, `bench`.
//!
//! Needs only cargo. A task installs what else it needs: into `target/`, with rustup, or with apt-get for
//! root and for users whose sudo needs no password. For others it prints the command to run.

mod arm;
mod bench;
mod builds;
mod check;
mod demo;
mod early_end;
mod estimates;
mod lighthouse;
mod loopback;
mod old_system;
mod picture;
mod pictures;
mod prerequisites;
mod programs;
mod python;
mod step;
mod torture;
mod trainers;
mod wheel;
mod windows;
mod zig;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask demo [--stand-in | --early-end]
    Train and track once, with real processes on this machine and real sleap-nn, and draw a
    picture of what the model found. --stand-in uses the stand-in trainer: seconds, no picture.
    --early-end stops one training after two epochs, and cancels another.
cargo xtask test [--no-real]
    Everything that CI runs: formatting, lints, every test, then the demo with real sleap-nn, and
    stop and cancel with it (--no-real leaves those out).
cargo xtask lint
    Formatting, lints and the structure of the code, also of the client for Windows and macOS.
cargo xtask structure
    The structure of the code alone: circles of modules, long files and functions, and type names
    that occur twice in a crate.
cargo xtask bench NAME [OPTIONS]
    Measures the real programs, beside a peer in the same run; `bench --help` lists the names.
cargo xtask estimates
    Trains ten times with real sleap-nn on this machine's CPU, and says what the worker's estimates
    were worth.
cargo xtask torture [--slurm] [--seed N] [--rounds N] [--round K] [--rooms N]
    Kills, freezes, disconnects and fills up everything that takes part in a job, and checks that
    nothing is lost. As root it also uses networks and disks of its own. With --slurm the jobs run in
    a Slurm, which is killed as well.
cargo xtask trainers [VERSION ...]
    Runs the oldest supported, the pinned and the newest sleap-nn (or these): its options, training,
    inference script, tracking, videos elsewhere, stop and cancel, failures and what they leave.
cargo xtask wheel [--try | --in SYSTEM]
    A wheel and an archive for Linux in target/dist, which need glibc 2.28 and nothing else. --try
    installs the wheel into an empty environment, trains once with the stand-in trainer, and says how
    long that took. --in does so in the folder of another Linux, as debootstrap makes it.
cargo xtask windows
    Builds everything but the worker for Windows, and runs the tests of the Windows client with Wine.
cargo xtask arm
    Builds the program for Linux on ARM by zig, and runs with qemu the unit tests of what decides and
    computes, and the main tests from outside.
cargo xtask lighthouse
    Has Lighthouse judge the page: accessibility and best practices. Needs Node 20 and Chromium.
cargo xtask pictures
    Draws the pictures in docs/pictures anew: the page, the view of a training, `top` and a report.
    Names machines as the pictures show them, which needs root.
cargo xtask man [DIR]
    Writes the manual pages, by default into target/man.
cargo xtask python-peers
    Installs what the independent Python peers of the tests need, into target/.

Tasks install what the machine lacks: into target/, with rustup, and with apt-get if that needs no
password. Otherwise they print the command.
";

#[derive(Default)]
struct Options {
    stand_in: bool,
    early_end: bool,
    no_real: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let Some((task, rest)) = arguments.split_first() else { return Ok(usage()) };
    if task == "bench" {
        return bench::run(rest);
    }
    if task == "torture" {
        return torture::run(rest);
    }
    if task == "trainers" {
        return trainers::run(rest);
    }
    if task == "wheel" {
        return wheel::run(rest);
    }
    if task == "man" {
        return wheel::man(rest);
    }
    let mut options = Options::default();
    for argument in rest {
        match (task.as_str(), argument.as_str()) {
            ("demo", "--early-end") => options.early_end = true,
            ("demo", "--stand-in") => options.stand_in = true,
            ("test", "--no-real") => options.no_real = true,
            _ => return Ok(usage()),
        }
    }
    match task.as_str() {
        "demo" => demo::run(&options),
        "test" => check::test(&options),
        "lint" => check::lint(),
        "estimates" => estimates::run(),
        "arm" => arm::run(),
        "windows" => windows::run(),
        "pictures" => pictures::run(),
        "lighthouse" => lighthouse::run(),
        "structure" => check::structure().map(|()| ExitCode::SUCCESS),
        "python-peers" => {
            prerequisites::python()?;
            python::peers()?;
            Ok(ExitCode::SUCCESS)
        }
        _ => Ok(usage()),
    }
}

fn usage() -> ExitCode {
    eprint!("{USAGE}");
    ExitCode::from(2)
}
