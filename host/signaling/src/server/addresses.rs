//! The resources of the server that each address uses, and the delay for its guesses at tokens.
//! Time is an argument.
//!
//! Loopback addresses have no limits: all peers of this machine share one, and so do the clients of a
//! proxy on it when `--trust-proxy` is not set. Their guesses are slowed like everybody's.

use super::Limits;
use hmac::{Hmac, Mac};
use hyper::header::HeaderMap;
use parking_lot::{Mutex, MutexGuard};
use sha2::Sha256;
use sleap_rtc_base::rate_limit::RateLimit;
use sleap_rtc_protocol::ids::{AddressTag, RoomId};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The number of wrong tokens that are answered at once.
const FREE_FAILURES: u32 = 8;
/// How long each further wrong token waits after the previous one.
const PER_FAILURE: Duration = Duration::from_millis(250);
/// An answer that would wait longer than this is not sent at all.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The window in which new rooms, identities and pairings of an address are counted.
const WINDOW: Duration = Duration::from_secs(3600);
/// The log mentions an address that asks for accounts at most once in this time.
const LOG_WINDOW: Duration = Duration::from_secs(3600);
/// Beyond this many addresses, those without an open socket are dropped.
const MAX_ADDRESSES: usize = 64 * 1024;

#[derive(Debug)]
struct Usage {
    sockets: usize,
    rooms: RateLimit,
    sign_ins: RateLimit,
    pairings: RateLimit,
    failures: RateLimit,
    accounts_logged: RateLimit,
}

impl Usage {
    fn new(now: Instant) -> Self {
        Self {
            sockets: 0,
            rooms: RateLimit::new(now),
            sign_ins: RateLimit::new(now),
            pairings: RateLimit::new(now),
            failures: RateLimit::new(now),
            accounts_logged: RateLimit::new(now),
        }
    }

    fn is_unused(&self, now: Instant) -> bool {
        let limits =
            [self.rooms, self.sign_ins, self.pairings, self.failures, self.accounts_logged];
        self.sockets == 0 && limits.iter().all(|limit| limit.is_unused(now))
    }
}

type UsageByAddress = HashMap<IpAddr, Usage>;

/// The usage of all addresses that have any.
#[derive(Debug)]
pub(crate) struct Addresses {
    usage: Mutex<UsageByAddress>,
    sockets: usize,
    per_room: Duration,
    per_sign_in: Duration,
    /// The key of the names of addresses: new with each start, or that of the cluster.
    tag_key: [u8; 32],
    per_pairing: Duration,
}

/// An open socket of an address. Dropping it releases its share.
#[derive(Debug)]
pub(crate) struct OpenSocket {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    pub(crate) fn new(limits: &Limits, tag_key: [u8; 32]) -> Self {
        Self {
            usage: Mutex::default(),
            sockets: limits.sockets_per_address,
            per_room: WINDOW / limits.rooms_per_address,
            per_sign_in: WINDOW / limits.sign_ins_per_address,
            tag_key,
            per_pairing: WINDOW / limits.pairings_per_address,
        }
    }

    /// The pseudonym of an address for the workers of a room. It shows whether two peers share an
    /// address, and nothing else.
    pub(crate) fn tag(&self, address: IpAddr, room: &RoomId) -> Option<AddressTag> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.tag_key).ok()?;
        mac.update(room.as_str().as_bytes());
        mac.update(&[0]);
        mac.update(network(address).to_string().as_bytes());
        let bytes = mac.finalize().into_bytes();
        AddressTag::new(hex::encode(&bytes[..8])).ok()
    }

    fn usage(&self) -> MutexGuard<'_, UsageByAddress> {
        self.usage.lock()
    }

    fn with<T>(&self, address: IpAddr, now: Instant, work: impl FnOnce(&mut Usage) -> T) -> T {
        let mut by_address = self.usage();
        if by_address.len() >= MAX_ADDRESSES {
            by_address.retain(|_, usage| !usage.is_unused(now));
        }
        if by_address.len() >= MAX_ADDRESSES {
            by_address.retain(|_, usage| usage.sockets > 0);
        }
        work(by_address.entry(network(address)).or_insert_with(|| Usage::new(now)))
    }

    /// A socket of this address, unless it has too many.
    pub(crate) fn open(self: &Arc<Self>, address: IpAddr, now: Instant) -> Option<OpenSocket> {
        let limit = if address.is_loopback() { usize::MAX } else { self.sockets };
        let fits = self.with(address, now, |usage| {
            let fits = usage.sockets < limit;
            usage.sockets += usize::from(fits);
            fits
        });
        fits.then(|| OpenSocket { addresses: Arc::clone(self), address: network(address) })
    }

    /// Counts a new room of this address. Returns whether it may create one.
    pub(crate) fn try_count_room(&self, address: IpAddr, now: Instant) -> bool {
        self.try_count(address, now, self.per_room, |usage| &mut usage.rooms)
    }

    /// Counts a new identity for this address. Returns whether it may have one.
    pub(crate) fn try_count_sign_in(&self, address: IpAddr, now: Instant) -> bool {
        self.try_count(address, now, self.per_sign_in, |usage| &mut usage.sign_ins)
    }

    /// Counts a mailbox that this address opens or joins. Returns whether it may.
    pub(crate) fn try_count_pairing(&self, address: IpAddr, now: Instant) -> bool {
        self.try_count(address, now, self.per_pairing, |usage| &mut usage.pairings)
    }

    fn try_count(
        &self,
        address: IpAddr,
        now: Instant,
        cost: Duration,
        limit: impl FnOnce(&mut Usage) -> &mut RateLimit,
    ) -> bool {
        address.is_loopback()
            || self.with(address, now, |usage| limit(usage).try_charge(cost, WINDOW, now).is_some())
    }

    /// Whether the log should mention now that this address asked for accounts.
    pub(crate) fn should_log_accounts(&self, address: IpAddr, now: Instant) -> bool {
        self.with(address, now, |usage| {
            usage.accounts_logged.try_charge(LOG_WINDOW, LOG_WINDOW, now).is_some()
        })
    }

    /// Counts a wrong token from this address. Returns how long its answer must wait, or `None` if
    /// it gets no answer. A correct token never waits.
    pub(crate) fn failed(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        self.with(address, now, |usage| {
            let free = PER_FAILURE * FREE_FAILURES;
            let debt = usage.failures.try_charge(PER_FAILURE, LONGEST_WAIT + free, now)?;
            Some(debt.saturating_sub(free))
        })
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut by_address = self.addresses.usage();
        let Some(usage) = by_address.get_mut(&self.address) else { return };
        usage.sockets -= 1;
        if usage.is_unused(now) {
            by_address.remove(&self.address);
        }
    }
}

/// The unit that counts as one address: an IPv4 address, or the /64 of an IPv6 subscriber.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        other => other,
    }
}

/// The client's address behind a trusted proxy: the last entry of `X-Forwarded-For` that is not a
/// loopback address, since the client may have written the entries before it. When the header cannot be
/// read, it is the socket's address.
pub(crate) fn behind_proxy(headers: &HeaderMap, socket: IpAddr) -> IpAddr {
    let values = headers.get_all("x-forwarded-for");
    let texts: Option<Vec<&str>> = values.iter().map(|value| value.to_str().ok()).collect();
    let Some(texts) = texts else { return socket };
    let mut nearest = socket;
    for hop in texts.iter().rev().flat_map(|text| text.rsplit(',')) {
        let Some(address) = hop_address(hop.trim()) else { return socket };
        nearest = address;
        if !address.is_loopback() {
            break;
        }
    }
    nearest
}

/// An address as proxies write it, some of them with a port or in brackets.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    let with_port = || hop.parse::<SocketAddr>().ok().map(|address| address.ip());
    bare.parse::<IpAddr>().ok().or_else(with_port).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(sockets: usize, rooms: u32) -> Arc<Addresses> {
        let limits = Limits {
            sockets_per_address: sockets,
            rooms_per_address: rooms,
            sign_ins_per_address: rooms,
            pairings_per_address: rooms,
            ..Limits::default()
        };
        Arc::new(Addresses::new(&limits, rand::random()))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn sockets_are_counted_by_subscriber_and_given_back() {
        let (addresses, now) = (addresses(2, 1), Instant::now());
        let one = addresses.open(ip("2001:db8::1"), now).unwrap();
        let _two = addresses.open(ip("2001:db8::2"), now).unwrap();
        assert!(addresses.open(ip("2001:db8::3"), now).is_none());
        assert!(addresses.open(ip("2001:db8:0:1::3"), now).is_some());
        drop(one);
        assert!(addresses.open(ip("2001:db8::3"), now).is_some());
        let local: Vec<_> = (0..9).map(|_| addresses.open(ip("127.0.0.1"), now)).collect();
        assert!(local.iter().all(Option::is_some));
        drop((local, _two));
        assert!(addresses.usage().is_empty());
    }

    #[test]
    fn a_tag_tells_whether_two_peers_share_an_address_and_nothing_else() {
        let (addresses, other) = (addresses(1, 1), self::addresses(1, 1));
        let room = |name: &str| RoomId::new(name).unwrap();
        let tag = |address| addresses.tag(ip(address), &room("r")).unwrap();
        assert_eq!(tag("2001:db8::1"), tag("2001:db8::2"));
        assert_ne!(tag("192.0.2.1"), tag("192.0.2.2"));
        assert_ne!(Some(tag("192.0.2.1")), addresses.tag(ip("192.0.2.1"), &room("s")));
        assert_ne!(Some(tag("192.0.2.1")), other.tag(ip("192.0.2.1"), &room("r")));
    }

    #[test]
    fn rooms_and_sign_ins_come_back_with_time() {
        let (addresses, now) = (addresses(1, 4), Instant::now());
        let made = |now| (0..9).filter(|_| addresses.try_count_room(ip("192.0.2.1"), now)).count();
        assert_eq!(made(now), 4);
        assert_eq!(made(now + WINDOW / 4), 1);
        assert!(addresses.try_count_room(ip("192.0.2.2"), now));
        // New identities are counted apart.
        let signed_in =
            (0..9).filter(|_| addresses.try_count_sign_in(ip("192.0.2.1"), now)).count();
        assert_eq!(signed_in, 4);
        let paired = (0..9).filter(|_| addresses.try_count_pairing(ip("192.0.2.1"), now)).count();
        assert_eq!(paired, 4);
        assert!((0..9).all(|_| addresses.try_count_sign_in(ip("127.0.0.1"), now)));
    }

    #[test]
    fn failures_wait_behind_each_other_and_then_are_not_answered() {
        let (addresses, now) = (addresses(1, 1), Instant::now());
        let guess = |now| addresses.failed(ip("127.0.0.1"), now);
        assert!((0..FREE_FAILURES).all(|_| guess(now) == Some(Duration::ZERO)));
        assert_eq!(guess(now), Some(PER_FAILURE));
        assert_eq!(guess(now), Some(2 * PER_FAILURE));
        let answered = (0..10_000).filter(|_| guess(now).is_some()).count();
        assert_eq!(answered + 2, (LONGEST_WAIT.as_millis() / PER_FAILURE.as_millis()) as usize);
        assert_eq!(addresses.failed(ip("192.0.2.1"), now), Some(Duration::ZERO));
        assert_eq!(guess(now + 2 * LONGEST_WAIT), Some(Duration::ZERO));
    }

    #[test]
    fn the_number_of_addresses_is_bounded() {
        let (addresses, now) = (addresses(1, 1), Instant::now());
        for n in 0..200_000u32 {
            addresses.failed(IpAddr::from(n.to_be_bytes()), now);
        }
        assert!(addresses.usage().len() <= MAX_ADDRESSES);
    }

    #[test]
    fn a_proxy_is_believed_about_the_last_hop_only() {
        let socket = ip("127.0.0.1");
        for (headers, wanted) in [
            (vec![], "127.0.0.1"),
            (vec!["192.0.2.7"], "192.0.2.7"),
            (vec!["203.0.113.9, 192.0.2.7"], "192.0.2.7"),
            (vec!["203.0.113.9", "192.0.2.7, 127.0.0.1"], "192.0.2.7"),
            (vec!["192.0.2.7:4711"], "192.0.2.7"),
            (vec!["[2001:db8::1]:80"], "2001:db8::1"),
            (vec!["[2001:db8::1]"], "2001:db8::1"),
            (vec!["nonsense, 192.0.2.7"], "192.0.2.7"),
            (vec!["192.0.2.7, nonsense"], "127.0.0.1"),
            (vec!["192.0.2.7", ""], "127.0.0.1"),
        ] {
            let mut map = HeaderMap::new();
            for header in &headers {
                map.append("x-forwarded-for", header.parse().unwrap());
            }
            assert_eq!(behind_proxy(&map, socket), ip(wanted), "{headers:?}");
        }
    }
}
