//! The machine: its name, its limits, its sockets, and when it started.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::net::UdpSocket;

/// The name of this machine.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The name of the user that runs this process. A user without an entry in `/etc/passwd` is called by the
/// number.
pub fn user_name() -> String {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let users = std::fs::read("/etc/passwd").unwrap_or_default();
    name_of(&uid, &String::from_utf8_lossy(&users)).unwrap_or_else(|| format!("uid-{uid}"))
}

/// The name of a user in a file like `/etc/passwd`.
fn name_of(uid: &str, users: &str) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1) == Some(uid)).then(|| name.to_owned())
    })
}

/// An identifier that changes whenever the machine starts, where the system has one.
pub fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

/// Raises the soft limit of open files to the hard one. Returns the limit; `None` means that there is none.
pub fn raise_descriptor_limit() -> Option<u64> {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    getrlimit(Resource::Nofile).current
}

/// Whether the address space of this process is limited (`ulimit -v`, `h_vmem`).
pub fn is_address_space_limited() -> bool {
    getrlimit(Resource::As).current.is_some()
}

/// Asks for a receive buffer beyond what other users may have.
///
/// # Errors
/// The system's: this user is not allowed to, or the system has no such buffers.
#[cfg(target_os = "linux")]
pub fn force_receive_buffer(socket: &UdpSocket, bytes: usize) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_socket_recv_buffer_size_force(socket, bytes)?)
}

/// Asks for a receive buffer beyond what other users may have.
///
/// # Errors
/// Always: the system has no such buffers.
#[cfg(not(target_os = "linux"))]
pub fn force_receive_buffer(_: &UdpSocket, _bytes: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Lets routers cut packets over IPv4 (over IPv6 none does), so that a way that carries little is
/// slow, and not dead. What the kernel knows of the way does not count: it would refuse several
/// datagrams at once, each of which it would have to cut.
///
/// # Errors
/// The system's.
#[cfg(target_os = "linux")]
pub fn allow_cutting(socket: &UdpSocket) -> io::Result<()> {
    use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};
    if socket.local_addr()?.is_ipv4() {
        set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::OMIT)?;
    }
    Ok(())
}

/// Routers may always cut packets here.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
pub fn allow_cutting(_: &UdpSocket) -> io::Result<()> {
    Ok(())
}

/// Whether an error means that the file system has no locks: ENOLCK, ENOSYS, EOPNOTSUPP, and a number of
/// the kernel's own that NFS returns.
pub fn has_no_locks(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let numbers = [Errno::NOLCK, Errno::NOSYS, Errno::OPNOTSUPP, Errno::NOTSUP];
    let number = error.raw_os_error();
    number == Some(524) || numbers.iter().any(|one| number == Some(one.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_called_by_the_name_of_its_number() {
        let users = "root:x:0:0::/root:/bin/sh\n:x:7:7::/:\nada:x:1000:7:Ada:/home/ada:/bin/bash\n";
        assert_eq!(name_of("1000", users).as_deref(), Some("ada"));
        assert_eq!(name_of("0", users).as_deref(), Some("root"));
        assert_eq!(name_of("7", users), None);
        assert!(!user_name().is_empty());
    }
}
