//! The TCP sockets of this machine, as Linux lists them in `/proc/net/tcp` and `/proc/net/tcp6`.

use std::fmt::Display;
use std::fs;
use std::net::SocketAddrV4;
use std::path::Path;

const LISTENING: &str = "0A";
const ESTABLISHED: &str = "01";

/// A socket in such a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpSocket<'a> {
    local: &'a str,
    remote: &'a str,
    state: &'a str,
    user: u32,
    inode: u64,
}

impl<'a> TcpSocket<'a> {
    /// The sockets of a table.
    pub fn all(table: &'a str) -> impl Iterator<Item = Self> {
        table.lines().skip(1).filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, remote, state, _, _, _, user, _, inode, ..] = fields[..] else {
                return None;
            };
            Some(Self {
                local,
                remote,
                state,
                user: user.parse().ok()?,
                inode: inode.parse().ok()?,
            })
        })
    }

    /// Whether it listens on this port.
    pub fn listens_on(&self, port: u16) -> bool {
        let own = self.local.rsplit_once(':').map(|(_, port)| u16::from_str_radix(port, 16));
        self.state == LISTENING && own == Some(Ok(port))
    }

    /// Whether it connects one address to another.
    pub fn connects(&self, from: SocketAddrV4, to: SocketAddrV4) -> bool {
        self.state == ESTABLISHED && self.local == in_table(from) && self.remote == in_table(to)
    }

    /// The id of the user that owns it.
    pub fn user(&self) -> u32 {
        self.user
    }

    /// Whether the process with this id has it open. Only processes of this user can be looked at.
    pub fn is_open_in(&self, pid: impl Display) -> bool {
        let name = format!("socket:[{}]", self.inode);
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut open = files.filter_map(|file| fs::read_link(file.path()).ok());
        open.any(|target| target == Path::new(&name))
    }
}

/// An address as it stands in the table, with the bytes of the IP address in the machine's order.
fn in_table(address: SocketAddrV4) -> String {
    format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_connection_is_found_in_the_table() {
        let own = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0x1F90);
        let peer = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0xC350);
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 11 1 0\n\
            1: 0100007F:C350 0100007F:1F90 06 00000000:00000000 00:00000000 00000000     0        0 0 1 0\n\
            2: 0100007F:C350 0100007F:1F90 01 00000000:00000000 00:00000000 00000000 65534        0 4711 1 0\n";
        let listening: Vec<u64> = TcpSocket::all(table)
            .filter(|socket| socket.listens_on(0x1F90))
            .map(|socket| socket.inode)
            .collect();
        assert_eq!(listening, [11]);
        if cfg!(target_endian = "little") {
            let found = TcpSocket::all(table).find(|socket| socket.connects(peer, own)).unwrap();
            assert_eq!((found.user(), found.inode), (65534, 4711));
        }
        assert_eq!(TcpSocket::all(table).find(|socket| socket.connects(own, peer)), None);
        assert_eq!(TcpSocket::all("").next(), None);
    }
}
