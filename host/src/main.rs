//! The `sleap-rtc` binary.

use std::process::ExitCode;
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    sleap_rtc::cli::main(std::env::args_os())
}
