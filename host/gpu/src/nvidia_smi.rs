//! GPUs through the program `nvidia-smi`, for drivers whose library is not where we look, or too
//! old for what we ask.

use super::Probe;
use sleap_rtc_protocol::capabilities::{Accelerators, Gpu};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// A driver in trouble makes the program hang.
const LIMIT: Duration = Duration::from_secs(5);
const MAX_OUTPUT_BYTES: u64 = 64 * 1024;
/// The name comes last: it is the one field that may hold a comma.
const FIELDS: &str = "memory.total,memory.free,utilization.gpu,driver_version,name";

/// The program on `PATH`.
pub(super) struct NvidiaSmi;

impl Probe for NvidiaSmi {
    fn probe(&self) -> Option<Accelerators> {
        let mut query = Command::new("nvidia-smi");
        query.args([&format!("--query-gpu={FIELDS}"), "--format=csv,noheader,nounits"]);
        let mut found = read_rows(&output(query, LIMIT)?);
        if !found.gpus.is_empty() {
            // No field tells the CUDA version; the plain report's head does.
            found.cuda_version =
                output(Command::new("nvidia-smi"), LIMIT).and_then(|text| read_cuda(&text));
        }
        Some(found)
    }
}

/// What the command prints, if it ends well within `limit`.
fn output(mut command: Command, limit: Duration) -> Option<String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
    let mut child = command.spawn().ok()?;
    let stdout = child.stdout.take()?;
    let (done, outcome) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.take(MAX_OUTPUT_BYTES).read_to_string(&mut text);
        // Nobody listens any more when the limit has passed.
        let _ = done.send(read.ok().map(|_| text));
    });
    let text = outcome.recv_timeout(limit).ok().flatten();
    if text.is_none() {
        let group = rustix::process::Pid::from_child(&child);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let status = child.wait().ok()?;
    text.filter(|_| status.success())
}

fn read_rows(text: &str) -> Accelerators {
    let rows = text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.splitn(5, ',').map(str::trim).collect();
        <[&str; 5]>::try_from(fields).ok()
    });
    let mut found = Accelerators::default();
    for [total, free, utilization, driver, model] in rows.filter(|row| !row[4].is_empty()) {
        let percent = utilization.parse::<f64>().ok().filter(|share| (0.0..=100.0).contains(share));
        found.gpus.push(Gpu {
            model: model.to_owned(),
            memory_mib: total.parse().unwrap_or(0),
            memory_free_mib: free.parse().ok(),
            utilization: percent.map(|percent| percent / 100.0),
            memory_others_mib: None,
            taken: None,
        });
        if driver.starts_with(|c: char| c.is_ascii_digit()) {
            found.driver_version = Some(driver.to_owned());
        }
    }
    found
}

/// The version after `CUDA Version:`, if there is one.
fn read_cuda(text: &str) -> Option<String> {
    let (_, after) = text.split_once("CUDA Version")?;
    let version = after.trim_start_matches([' ', ':']);
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len());
    (end > 0).then(|| version[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_and_gaps_stay_gaps() {
        let found = read_rows(
            "24564, 20000, 37, 550.54.14, NVIDIA RTX A5000\n\
             [N/A], [N/A], [Not Supported], 550.54.14, NVIDIA GB10, rev. 2\n\
             No devices were found\n1,2,3,4,\n",
        );
        assert_eq!(found.gpus.len(), 2);
        let a5000 = &found.gpus[0];
        assert_eq!((a5000.memory_mib, a5000.memory_free_mib), (24564, Some(20000)));
        assert_eq!((a5000.utilization, a5000.model.as_str()), (Some(0.37), "NVIDIA RTX A5000"));
        let other = &found.gpus[1];
        assert_eq!((other.memory_mib, other.memory_free_mib, other.utilization), (0, None, None));
        assert_eq!(other.model, "NVIDIA GB10, rev. 2");
        assert_eq!(found.driver_version.as_deref(), Some("550.54.14"));
    }

    #[test]
    fn the_reports_head_has_the_cuda_version() {
        let head =
            "| NVIDIA-SMI 550.54.14    Driver Version: 550.54.14    CUDA Version: 12.4     |";
        assert_eq!(read_cuda(head).as_deref(), Some("12.4"));
        assert_eq!(read_cuda("CUDA Version        : 12.4\n").as_deref(), Some("12.4"));
        assert_eq!(read_cuda("CUDA Version: N/A"), None);
        assert_eq!(read_cuda(""), None);
    }

    fn shell(script: &str, limit: Duration) -> Option<String> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        output(command, limit)
    }

    #[test]
    fn a_program_that_hangs_fails_or_is_absent_says_nothing() {
        let long = Duration::from_secs(60);
        assert_eq!(shell("echo hello", long).as_deref(), Some("hello\n"));
        assert_eq!(shell("echo hello; exit 9", long), None);
        assert_eq!(shell("sleep 600 & sleep 600", Duration::from_millis(50)), None);
        assert_eq!(output(Command::new("/nonexistent/nvidia-smi"), long), None);
    }
}
