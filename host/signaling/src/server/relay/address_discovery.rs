//! QUIC address discovery: tells a peer its public address. Two peers behind NAT need it to find a
//! direct path. It needs the server's certificate, and one UDP port.

use crate::server::Tls;
use iroh_relay::server::{QuicConfig, Server, ServerConfig};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The UDP sockets that are served, each on the port number of a TCP listener. Dropping them closes
/// them.
pub(crate) struct AddressDiscovery(Vec<Server>);

impl AddressDiscovery {
    /// Serves on the port number of each listener. `None` if one of the ports is taken, because a
    /// peer would be sent to a port that does not answer.
    pub(crate) async fn start(listeners: &[SocketAddr], tls: &Tls) -> Option<Self> {
        let mut servers = Vec::new();
        for address in listeners.iter().filter(|address| !is_served_by_ipv6(**address, listeners)) {
            let mut quic = QuicConfig::new(*address);
            quic.server_config = Some(tls.for_quic());
            let mut config = ServerConfig::default();
            config.quic = Some(quic);
            match Server::spawn(config).await {
                Ok(server) => servers.push(server),
                Err(error) => {
                    tracing::warn!(
                        %address, error = format!("{error:#}"),
                        "cannot listen on this UDP port: peers behind two address translators will be relayed"
                    );
                    return None;
                }
            }
        }
        Some(Self(servers))
    }

    /// How often a peer was told its address.
    pub(crate) fn shown(&self) -> u64 {
        self.0.iter().map(|server| server.metrics().server.qad_connections.get()).sum()
    }
}

/// A UDP socket on `[::]` also receives IPv4, unlike a TCP listener on `[::]` beside one on
/// `0.0.0.0`.
fn is_served_by_ipv6(address: SocketAddr, all: &[SocketAddr]) -> bool {
    let both = SocketAddr::from(([0u16; 8], address.port()));
    address.ip() == IpAddr::V4(Ipv4Addr::UNSPECIFIED) && all.contains(&both)
}
