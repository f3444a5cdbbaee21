//! Checks what the system lets a process have. A worker needs it most; its systems are those that say it.

use crate::cli::findings::Finding;
use rustix::process::{Resource, getrlimit};
use std::path::Path;

/// Each connection and each job needs several open files.
const OPEN_FILES: u64 = 1024;
const ADDRESS_SPACE_GIB: u64 = 3;
const GIB: u64 = 1 << 30;

pub(crate) fn check(for_worker: bool) -> Vec<Finding> {
    let mut findings = vec![open_files(), address_space(), file_size()];
    findings.extend(for_worker.then(proc));
    findings
}

fn open_files() -> Finding {
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < OPEN_FILES => Finding::warn(
            "open files",
            format!("this process may open {limit} files"),
            format!("raise the limit to {OPEN_FILES}: `ulimit -n`, or LimitNOFILE of the unit"),
        ),
        limit => Finding::ok("open files", limit.map_or("no limit".into(), |n| n.to_string())),
    }
}

fn address_space() -> Finding {
    match getrlimit(Resource::As).current {
        Some(limit) if limit < ADDRESS_SPACE_GIB * GIB => Finding::warn(
            "memory",
            format!("the address space is limited to {} MiB", limit >> 20),
            format!(
                "raise `ulimit -v` (h_vmem, vmem of the batch system) to {ADDRESS_SPACE_GIB} GiB; \
                 CUDA alone needs far more"
            ),
        ),
        Some(limit) => Finding::ok("memory", format!("address space of {} GiB", limit / GIB)),
        None => Finding::ok("memory", "no limit on the address space"),
    }
}

fn file_size() -> Finding {
    match getrlimit(Resource::Fsize).current {
        Some(limit) => Finding::warn(
            "file size",
            format!("a file may have at most {} MiB", limit >> 20),
            "raise `ulimit -f`, or LimitFSIZE of the unit: packages, checkpoints and logs are larger",
        ),
        None => Finding::ok("file size", "no limit"),
    }
}

fn proc() -> Finding {
    match Path::new("/proc/self/fd").exists() {
        true => Finding::ok("/proc", "is mounted"),
        false => Finding::fail("/proc", "is not mounted", "mount -t proc proc /proc"),
    }
}
