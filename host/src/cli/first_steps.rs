//! `sleap-rtc` alone: the commands of a first session instead of a page of options.

use super::exit::{Exit, ExitWith, Failure};
use super::on_path::OnPath;
use super::print;

const TITLE: &str =
    "sleap-rtc: train and track with SLEAP on another machine's GPU\n\nA first session:\n";

#[cfg(all(feature = "signaling", feature = "worker"))]
const WORKER: &str = "
  On the machine with the GPU, start a worker that is also the place to meet.
  It prints its address and a code:
    sleap-rtc worker --serve
";
#[cfg(all(not(feature = "signaling"), feature = "worker"))]
const WORKER: &str = "
  On the machine with the GPU, start a worker. It prints a code:
    sleap-rtc worker --signaling ws://SERVER:8080
";
#[cfg(all(feature = "signaling", not(feature = "worker")))]
const WORKER: &str = "
  On a machine that the others reach, start the server where they meet:
    sleap-rtc signaling
";
#[cfg(not(any(feature = "signaling", feature = "worker")))]
const WORKER: &str = "";

#[cfg(feature = "client")]
const CLIENT: &str = "
  On your laptop, join with that code, once:
    sleap-rtc pair --signaling ws://ADDRESS:8080 CODE

  Train with the package that SLEAP exports:
    sleap-rtc train --auto-select --pkg-path labels.pkg.zip
";
#[cfg(not(feature = "client"))]
const CLIENT: &str = "";

const READ_ON: &str = "
`sleap-rtc --help` lists all commands, and `sleap-rtc COMMAND --help` explains
one, with examples.
";
#[cfg(feature = "client")]
const CHECK: &str = "`sleap-rtc doctor` checks this machine before a job waits for it.\n";
#[cfg(not(feature = "client"))]
const CHECK: &str = "";

/// Prints them.
pub(crate) fn show() -> Result<Exit, Failure> {
    let text = [TITLE, WORKER, CLIENT, READ_ON, CHECK].concat();
    print::raw(&text).exit(Exit::Unexpected)?;
    if let Ok(own) = std::env::current_exe()
        && let OnPath::Other(other) = OnPath::find(&own)
    {
        print::error(&format!(
            "\n`sleap-rtc` on your PATH is another program, {}: start this one by its path, or put its \
             folder first\n",
            other.display()
        ));
    }
    Ok(Exit::Success)
}
