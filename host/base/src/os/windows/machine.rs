//! The machine: its name, its limits and its sockets.

use crate::os::PortHolder;
use std::io;
use std::net::UdpSocket;
use winapi_util::sysinfo::{ComputerNameKind, get_computer_name};
use windows_sys::Win32::Foundation::{ERROR_INVALID_FUNCTION, ERROR_NOT_SUPPORTED};

/// The name of this machine.
pub fn host_name() -> String {
    let name = get_computer_name(ComputerNameKind::PhysicalDnsHostname);
    name.map_or_else(|_| String::new(), |name| name.to_string_lossy().into_owned())
}

/// The name of a user for whom no variable gives one.
pub fn user_name() -> String {
    "user".to_owned()
}

/// The process that listens on a port. Not implemented on this system.
pub fn port_holder(_port: u16) -> Option<PortHolder> {
    None
}

/// An identifier that changes whenever the machine starts: the system has none.
pub fn boot_id() -> Option<String> {
    None
}

/// The limit of open files: there is none.
pub fn raise_descriptor_limit() -> Option<u64> {
    None
}

/// Whether the address space of this process is limited: it never is.
pub fn is_address_space_limited() -> bool {
    false
}

/// Asks for a receive buffer beyond what other users may have.
///
/// # Errors
/// Always: the system has no such buffers.
pub fn force_receive_buffer(_: &UdpSocket, _bytes: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Routers may always cut packets here.
///
/// # Errors
/// None.
pub fn allow_cutting(_: &UdpSocket) -> io::Result<()> {
    Ok(())
}

/// Whether an error means that the file system has no locks.
pub fn has_no_locks(error: &io::Error) -> bool {
    let number = error.raw_os_error().map(i32::cast_unsigned);
    matches!(number, Some(ERROR_NOT_SUPPORTED | ERROR_INVALID_FUNCTION))
}
