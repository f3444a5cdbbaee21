//! Measures the real programs, compared with others in the same run. `cargo xtask bench NAME` builds this
//! with our own code optimized, and runs it.

mod estimates;
mod link;
mod links;
mod policy;
mod signaling;
mod tcp;
mod transfer;

use clap::Parser;
use std::process::ExitCode;
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// The measurements. `--help` says what each needs.
#[derive(Parser)]
enum Measurement {
    /// What the emulated links of the other measurements can carry, by TCP.
    Links(links::LinksOptions),
    /// Jobs with known durations, replayed through the default estimates.
    Estimates(estimates::EstimatesOptions),
    /// The default selector as a component, compared with the same function in native code.
    Policy(policy::PolicyOptions),
    /// The signaling server under load: rates, memory, latency, a restart.
    Signaling(signaling::SignalingOptions),
    /// Files between our programs, compared with aiortc, scp, rsync and TCP, over the same links.
    Transfer(transfer::TransferOptions),
    /// One transfer between our programs beside one TCP connection, over the same line.
    Fairness(transfer::fairness::FairnessOptions),
    /// The idle peers of one server; `signaling --servers` starts it.
    #[command(hide = true)]
    Idle(signaling::idle::IdleOptions),
    /// One end of a transfer; `transfer` starts it.
    #[command(hide = true)]
    End(transfer::end::EndOptions),
}

fn main() -> ExitCode {
    let done = match Measurement::parse() {
        Measurement::Estimates(options) => estimates::run(&options),
        Measurement::Links(options) => links::run(&options),
        Measurement::Policy(options) => policy::run(&options),
        Measurement::Signaling(options) => signaling::run(&options),
        Measurement::Transfer(options) => transfer::run(&options),
        Measurement::Fairness(options) => transfer::fairness::run(&options),
        Measurement::Idle(options) => signaling::idle::run(&options),
        Measurement::End(options) => transfer::end::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
