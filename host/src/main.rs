//! The `sleap-rtc` binary.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The allocator's options: few arenas, and freed memory returns to the system within half a second, so
/// that transfers of any length stay below 64 MiB. They are here and not in cargo's configuration, which
/// depends on the working directory: a build from another folder would lose them.
// SAFETY: jemalloc declares this symbol weakly as a pointer to a C string that lives forever, and reads
// it once, before `main`. A reference to a static array that ends in NUL is such a pointer.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
#[used]
#[unsafe(export_name = "_rjem_malloc_conf")]
static MALLOC_CONF: &[u8; 29] = b"narenas:2,dirty_decay_ms:500\0";

fn main() -> ExitCode {
    sleap_rtc::cli::main(std::env::args_os())
}
