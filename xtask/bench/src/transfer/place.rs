//! The places of a transfer's two ends: on this machine, or at the ends of an emulated link.

use crate::link::{EmulatedLink, LEFT, Namespace, RIGHT, Shape};
use anyhow::{Context, Result, ensure};
use std::io;
use std::net::Ipv4Addr;
use std::process::{Child, Command};

/// An end of the transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The client, which uploads files.
    Left,
    /// The worker, with the signaling server.
    Right,
}

/// Both ends.
pub enum Place {
    /// This machine without changes.
    Machine,
    /// A separate loopback interface, on which all bytes can be counted.
    Loopback(Namespace),
    /// Two namespaces with a link between them.
    Link(EmulatedLink),
}

impl Place {
    /// A separate loopback, or the machine's own for users other than root.
    pub fn loopback() -> Self {
        Namespace::new().map_or(Self::Machine, Self::Loopback)
    }

    /// Both ends of a link like this.
    pub fn link(shape: Shape) -> Result<Self> {
        Ok(Self::Link(EmulatedLink::open(shape)?))
    }

    /// Has the left end neither send nor get UDP while the value lives. Needs nftables.
    pub fn without_udp(&self) -> Result<WithoutUdp<'_>> {
        let left = self.namespace(Side::Left);
        let left =
            left.context("UDP can only be blocked in a network namespace, which root makes")?;
        nft(
            left,
            "table inet blocked {\n\
             chain out { type filter hook output priority 0;\nmeta l4proto udp drop\n}\n\
             chain in { type filter hook input priority 0;\nmeta l4proto udp drop\n}\n}",
        )?;
        Ok(WithoutUdp(left))
    }

    /// The address of an end.
    pub fn address(&self, side: Side) -> Ipv4Addr {
        match (self, side) {
            (Self::Machine | Self::Loopback(_), _) => Ipv4Addr::LOCALHOST,
            (Self::Link(_), Side::Left) => LEFT,
            (Self::Link(_), Side::Right) => RIGHT,
        }
    }

    /// Runs `work` at an end. The sockets that it opens stay there.
    pub fn run<T: Send + 'static>(
        &self,
        side: Side,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        match self.namespace(side) {
            Some(namespace) => namespace.run(work),
            None => Ok(work()),
        }
    }

    /// Starts a process at an end.
    pub fn spawn(&self, side: Side, mut command: Command) -> Result<Child> {
        let child: io::Result<Child> = match self.namespace(side) {
            Some(namespace) => namespace.run(move || command.spawn())?,
            None => command.spawn(),
        };
        Ok(child?)
    }

    /// The bytes that have crossed between the ends in both directions, with headers. `None` if
    /// other programs send there, too.
    pub fn wire_bytes(&self) -> Option<u64> {
        let (interface, both_ways) = match self {
            Self::Machine => return None,
            // Everything sent there is also received there, so count it once.
            Self::Loopback(_) => ("lo:", false),
            Self::Link(_) => ("tun0:", true),
        };
        let read = || std::fs::read_to_string("/proc/thread-self/net/dev");
        let counters = self.namespace(Side::Left)?.run(read).ok()?.ok()?;
        let line = counters.lines().find_map(|line| line.trim().strip_prefix(interface))?;
        let numbers: Vec<u64> = line.split_whitespace().map_while(|n| n.parse().ok()).collect();
        Some(numbers.first()? + if both_ways { *numbers.get(8)? } else { 0 })
    }

    fn namespace(&self, side: Side) -> Option<&Namespace> {
        match (self, side) {
            (Self::Machine, _) => None,
            (Self::Loopback(namespace), _) => Some(namespace),
            (Self::Link(link), Side::Left) => Some(&link.left),
            (Self::Link(link), Side::Right) => Some(&link.right),
        }
    }
}

/// UDP is blocked; see [`Place::without_udp`].
pub struct WithoutUdp<'a>(&'a Namespace);

impl Drop for WithoutUdp<'_> {
    fn drop(&mut self) {
        if let Err(error) = nft(self.0, "delete table inet blocked") {
            eprintln!("warning: UDP stays blocked: {error:#}");
        }
    }
}

fn nft(namespace: &Namespace, commands: &'static str) -> Result<()> {
    let done = namespace.run(move || Command::new("nft").arg(commands).output())?;
    let done = done.context("nftables is not installed")?;
    ensure!(done.status.success(), "nft: {}", String::from_utf8_lossy(&done.stderr).trim());
    Ok(())
}
