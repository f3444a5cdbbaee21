//! Answers questions of the network about the signaling server in this process.

use super::described::Described;
use super::{MAX_MESSAGE_BYTES, group};
use sleap_rtc_base::os::host_name;
use sleap_rtc_base::rate_limit::RateLimit;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::time::{MissedTickBehavior, interval};
use url::Url;

/// How often the group is joined on networks that were not there before.
const JOIN_EVERY: Duration = Duration::from_secs(30);
/// What one answer costs, and how many more than that may come at once: the sender of a question is easily
/// forged, and must not be flooded with answers.
const ANSWER_EVERY: Duration = Duration::from_millis(50);
const ANSWERS_AT_ONCE: u32 = 40;

/// A server that others may find.
pub(crate) struct Announcement {
    socket: UdpSocket,
    described: Described,
    /// The only address at which it listens, if there is one.
    only: Option<Ipv4Addr>,
}

impl Announcement {
    /// For the server that listens at `listen`, and that has a certificate if `tls` is its address. `None`
    /// for a server that nobody reaches over IPv4 but this machine.
    ///
    /// # Errors
    /// The system does not let this process use multicast DNS.
    pub(crate) fn new(listen: &[SocketAddr], tls: Option<&Url>) -> io::Result<Option<Self>> {
        let reached = |address: &&SocketAddr| address.is_ipv4() && !address.ip().is_loopback();
        let Some(SocketAddr::V4(first)) = listen.iter().find(reached) else { return Ok(None) };
        let certified = tls.and_then(|url| Some((url.host_str()?, url.port_or_known_default()?)));
        let port = certified.map_or(first.port(), |(_, port)| port);
        let name = certified.map(|(name, _)| name.to_owned());
        let described = Described::new(&host_name(), port, name);
        let only = Some(*first.ip()).filter(|ip| !ip.is_unspecified());
        let socket = group::socket(group::PORT)?;
        group::join(&socket);
        Ok(Some(Self { socket, described, only }))
    }

    /// Answers until it is dropped.
    pub(crate) async fn run(self) -> Infallible {
        let mut limit = RateLimit::new(Instant::now());
        let mut joining = interval(JOIN_EVERY);
        joining.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut message = [0; MAX_MESSAGE_BYTES];
        loop {
            tokio::select! {
                _ = joining.tick() => group::join(&self.socket),
                received = self.socket.recv_from(&mut message) => match received {
                    Ok((length, sender)) => self.answer(&message[..length], sender, &mut limit).await,
                    // Never seen. A socket that only fails must not keep a core busy.
                    Err(_) => tokio::time::sleep(ANSWER_EVERY).await,
                },
            }
        }
    }

    async fn answer(&self, message: &[u8], sender: SocketAddr, limit: &mut RateLimit) {
        let Ok(here) = group::towards(sender).await else { return };
        if self.only.is_some_and(|only| only != here) {
            return;
        }
        let alone = sender.port() != group::PORT;
        let Some(answer) = self.described.answer(message, here, alone) else { return };
        let burst = ANSWER_EVERY * ANSWERS_AT_ONCE;
        if limit.try_charge(ANSWER_EVERY, burst, Instant::now()).is_none() {
            return;
        }
        // Whoever asked asks again.
        let _ = match alone {
            true => self.socket.send_to(&answer, sender).await.map(|_| ()),
            false => group::send(&self.socket, &answer, here).await,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_on_loopback_alone_is_not_announced() {
        let local = ["127.0.0.1:8080", "[::1]:8080"].map(|text| text.parse().unwrap());
        assert!(Announcement::new(&local, None).unwrap().is_none());
    }
}
