//! QUIC address discovery: shows a peer its address as seen from outside, which two peers behind
//! address translators need to find a direct path. It needs the server's certificate, and one UDP port.

use crate::server::Tls;
use iroh_relay::server::{QuicConfig, Server, ServerConfig};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The UDP sockets that are served, each on the port number of a TCP listener. Dropping them closes
/// them.
pub(crate) struct AddressDiscovery(Vec<Server>);

impl AddressDiscovery {
    /// Serves beside each listener. `None` when one of the ports cannot be had: a peer would be sent
    /// to a port that does not answer.
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

    /// Addresses that were shown.
    pub(crate) fn shown(&self) -> u64 {
        self.0.iter().map(|server| server.metrics().server.qad_connections.get()).sum()
    }
}

/// A UDP socket on `[::]` hears IPv4 too, unlike the TCP listener of the same address beside one on
/// `0.0.0.0`.
fn is_served_by_ipv6(address: SocketAddr, all: &[SocketAddr]) -> bool {
    let both = SocketAddr::from(([0u16; 8], address.port()));
    address.ip() == IpAddr::V4(Ipv4Addr::UNSPECIFIED) && all.contains(&both)
}
