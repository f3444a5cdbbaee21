//! Checks the owner of `sleap-rtc.toml` in the working directory. Anyone may leave such a file in a shared
//! folder, and it could name another signaling server.

use sleap_rtc_base::os::written_by_others;
use std::io;
use std::path::Path;

/// Why to ignore the file at `path`: others could have written it. `None` if it can be trusted.
pub(crate) fn distrust(path: &Path) -> io::Result<Option<String>> {
    let why = written_by_others(path)?;
    Ok(why.map(|why| format!("{} is ignored: {why}, or name it with --config", path.display())))
}
