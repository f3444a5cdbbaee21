//! The sockets of multicast DNS.

use sleap_rtc_base::os::interfaces;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use tokio::net::UdpSocket;

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
/// The port of the group, at which nearly everything on it listens.
pub(super) const PORT: u16 = 5353;
/// Packets do not leave the local network: routers drop them. 255 is what the standard wants to see.
const HOPS: u32 = 255;

/// This machine's addresses on networks.
fn addresses() -> impl Iterator<Item = Ipv4Addr> {
    interfaces().into_iter().filter_map(|interface| match interface.address {
        IpAddr::V4(ip) if !ip.is_loopback() => Some(ip),
        _ => None,
    })
}

/// A socket at `port`, which other programs may share. It is not in the group yet.
pub(super) fn socket(port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.set_multicast_ttl_v4(HOPS)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    UdpSocket::from_std(socket.into())
}

/// Joins the group on all networks on which the socket has not joined it yet.
pub(super) fn join(socket: &UdpSocket) {
    for address in addresses() {
        // Fails where it has joined before, and on interfaces without multicast.
        let _ = socket.join_multicast_v4(GROUP, address);
    }
}

/// Sends a message to the group on each network.
pub(super) async fn send_to_all(socket: &UdpSocket, message: &[u8]) {
    for address in addresses() {
        let _ = send(socket, message, address).await;
    }
}

/// Sends a message to the group, on the network where this machine has the address `from`.
pub(super) async fn send(socket: &UdpSocket, message: &[u8], from: Ipv4Addr) -> io::Result<()> {
    SockRef::from(socket).set_multicast_if_v4(&from)?;
    socket.send_to(message, SocketAddrV4::new(GROUP, PORT)).await?;
    Ok(())
}

/// This machine's address on the network that leads to `other`. Nothing is sent.
#[cfg(all(feature = "worker", feature = "signaling"))]
pub(super) async fn towards(other: SocketAddr) -> io::Result<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(other).await?;
    match socket.local_addr()?.ip() {
        IpAddr::V4(ip) => Ok(ip),
        IpAddr::V6(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}
