//! Checks folders and their locks, sockets, and plugins.

use crate::cli::findings::{Finding, with_causes};
use crate::config::Config;
use sleap_rtc_base::lock::{self, Locked};
use sleap_rtc_base::os;
use sleap_rtc_policy::Policies;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;

/// Roughly the space for a package and its results.
const FREE_GIB: u64 = 10;
const GIB: u64 = 1 << 30;
/// How much to write, because only writing reveals a quota.
const PROBE_BYTES: usize = 1 << 20;

pub(crate) fn check(config: &Config, for_worker: bool, for_client: bool) -> Vec<Finding> {
    let mut findings = vec![configuration(config)];
    #[cfg(feature = "worker")]
    findings.extend(super::limits::check(for_worker));
    if for_worker {
        findings.extend(folder("state", &config.worker.state_dir, "--state-dir"));
    }
    if for_client {
        findings.extend(folder("records", &config.client.jobs_dir, "XDG_DATA_HOME"));
    }
    findings.extend(sockets(&config.ice.bind));
    findings.push(plugins(config));
    findings
}

/// The configuration file in use. A warning has already explained why another one was ignored.
fn configuration(config: &Config) -> Finding {
    Finding::ok("config", config.source())
}

/// Checks that a folder can be written, and that its file system has locks and space.
fn folder(check: &'static str, path: &Path, setting: &str) -> Vec<Finding> {
    let place = path.display();
    let there = path.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    if !there.is_dir() {
        let says = format!("{} is a file, and {place} must be a folder", there.display());
        return vec![Finding::fail(check, says, format!("choose another with {setting}"))];
    }
    match probe(there) {
        Err(error) => {
            let full = sleap_rtc_base::disk::is_full(&error);
            let advice = match full {
                true => "free some space, or raise the quota".to_owned(),
                false => {
                    format!("make it writable for this user, or choose another with {setting}")
                }
            };
            vec![Finding::fail(check, format!("cannot write to {place}: {error}"), advice)]
        }
        Ok(Locked::Unsupported) => vec![
            Finding::warn(
                check,
                format!("{place} is on a file system without locks"),
                format!(
                    "choose a local disk with {setting}, or make sure that only one program uses it at a time"
                ),
            ),
            room(there),
        ],
        Ok(Locked::Held) => vec![Finding::ok(check, place.to_string()), room(there)],
    }
}

fn probe(folder: &Path) -> io::Result<Locked> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&vec![0x5a; PROBE_BYTES])?;
    file.as_file().sync_all()?;
    lock::exclusive(file.as_file(), file.path())
}

fn room(folder: &Path) -> Finding {
    let Ok(disk) = os::disk_space(folder) else {
        return Finding::ok("disk", "the free space is unknown");
    };
    let (free, place) = (disk.free_bytes, folder.display());
    let gib = free / GIB;
    if !disk.has_inodes {
        return Finding::fail(
            "disk",
            format!("the file system of {place} has no inodes left for new files"),
            "delete some files",
        );
    }
    match free < FREE_GIB * GIB {
        true => Finding::warn(
            "disk",
            format!("{gib} GiB are free at {place}"),
            "free some space: packages, results and the cache of a worker (`cache`) are there",
        ),
        false => Finding::ok("disk", format!("{gib} GiB are free at {place}")),
    }
}

/// Connections between clients and workers use UDP.
fn sockets(bind: &[IpAddr]) -> Vec<Finding> {
    let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
    let addresses = if bind.is_empty() { &any[..] } else { bind };
    let open = |address: &IpAddr| match UdpSocket::bind((*address, 0)) {
        Ok(_) => Finding::ok("udp", format!("sockets can be opened on {address}")),
        Err(error) => Finding::fail(
            "udp",
            format!("cannot open a socket on {address}: {error}"),
            "name addresses of this machine in `[ice] bind`",
        ),
    };
    addresses.iter().map(open).collect()
}

fn plugins(config: &Config) -> Finding {
    let dir = &config.policy.dir;
    let place = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
    match Policies::load(&config.policy) {
        Ok(_) => Finding::ok("plugins", "all can be used"),
        Err(error) => {
            Finding::fail("plugins", with_causes(&error), format!("see {}", place.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::findings::Verdict;
    use std::fs;

    #[test]
    fn a_folder_is_written_locked_and_measured() {
        let folder = tempfile::tempdir().unwrap();
        let found = super::folder("state", &folder.path().join("not/there/yet"), "--state-dir");
        assert_eq!(found[0].verdict, Verdict::Ok, "{found:?}");
        assert_eq!(found[1].check, "disk");
        let found = super::folder("state", Path::new("/proc/no/such"), "--state-dir");
        assert_eq!(found[0].verdict, Verdict::Fail);
        assert!(found[0].advice.as_ref().unwrap().contains("--state-dir"), "{found:?}");
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [&file, &file.join("below")] {
            let found = super::folder("state", path, "--state-dir");
            assert_eq!(found[0].verdict, Verdict::Fail, "{found:?}");
            assert!(found[0].says.contains("is a file"), "{found:?}");
        }
    }

    #[test]
    fn addresses_of_other_machines_cannot_be_bound() {
        let found = sockets(&["127.0.0.1".parse().unwrap(), "192.0.2.1".parse().unwrap()]);
        assert_eq!((found[0].verdict, found[1].verdict), (Verdict::Ok, Verdict::Fail));
    }
}
