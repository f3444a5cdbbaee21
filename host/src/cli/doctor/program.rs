//! Which `sleap-rtc` the shell starts.

use crate::cli::findings::Finding;
use crate::cli::on_path::OnPath;
use crate::cli::version;

/// What is checked.
const CHECK: &str = "program";

pub(crate) fn check() -> Finding {
    let version = version::text();
    let own = match std::env::current_exe() {
        Ok(own) => own,
        Err(error) => {
            return Finding::ok(CHECK, format!("version {version}, at an unknown path: {error}"));
        }
    };
    let place = own.display();
    match OnPath::find(&own) {
        OnPath::Other(other) => Finding::warn(
            CHECK,
            format!("`sleap-rtc` starts {}, not this program, {place}", other.display()),
            "put the folder of this program first on PATH, or run it by its full path",
        ),
        OnPath::This => Finding::ok(CHECK, format!("version {version}, at {place}")),
        OnPath::Nothing => {
            Finding::ok(CHECK, format!("version {version}, at {place}, which is not on PATH"))
        }
    }
}
