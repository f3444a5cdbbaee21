//! The sockets that the server listens on.

use std::io;
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpSocket};

/// The most connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// The server cannot listen on an address.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct ListenError {
    /// Which.
    pub address: SocketAddr,
    source: io::Error,
}

/// Listens on each address. If the list has both `0.0.0.0` and `[::]` with the same port, the
/// second one accepts only IPv6, and is skipped on a machine without IPv6.
///
/// # Errors
/// When an address cannot be listened on.
pub fn listen(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, ListenError> {
    let mut listeners = Vec::new();
    for &address in addresses {
        let twin = SocketAddr::from(([0, 0, 0, 0], address.port()));
        let beside_ipv4 =
            address.is_ipv6() && address.ip().is_unspecified() && addresses.contains(&twin);
        match bind(address, beside_ipv4) {
            Ok(listener) => listeners.push(listener),
            Err(error) if beside_ipv4 && has_no_ipv6(&error) => {
                tracing::debug!(%error, "this machine has no IPv6; serving only IPv4");
            }
            Err(source) => return Err(ListenError { address, source }),
        }
    }
    Ok(listeners)
}

fn bind(address: SocketAddr, ipv6_only: bool) -> io::Result<TcpListener> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
    // A restarted server does not have to wait until the old connections time out.
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() {
        // The system's default may be either.
        rustix::net::sockopt::set_ipv6_v6only(&socket, ipv6_only)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn has_no_ipv6(error: &io::Error) -> bool {
    let unsupported = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(unsupported)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[tokio::test]
    async fn every_address_of_both_families_is_served_on_one_port() {
        let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = probe.local_addr().unwrap().port();
        drop(probe);
        let loopback = |text: &str| format!("{text}:{port}").parse::<SocketAddr>().unwrap();
        // Like the default, but on loopback addresses, because tests use no others.
        let listeners = listen(&[loopback("127.0.0.1"), loopback("[::1]")]).unwrap();
        assert_eq!(listeners.len(), 2);
        for address in ["127.0.0.1", "[::1]"] {
            TcpStream::connect(loopback(address)).unwrap();
        }
        let taken = listen(&[loopback("127.0.0.1")]).unwrap_err();
        assert_eq!(taken.to_string(), format!("cannot listen on 127.0.0.1:{port}"));
    }
}
