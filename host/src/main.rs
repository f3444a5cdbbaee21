//! The `sleap-rtc` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    sleap_rtc::cli::main(std::env::args_os())
}
