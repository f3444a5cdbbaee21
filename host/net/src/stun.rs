//! Asks STUN servers for this machine's public address, with a single binding request (RFC 8489).
//! Connections gather their candidates in [`rtc`](crate::rtc).

use crate::rtc::is_own_address;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::net::{UdpSocket, lookup_host};
use tokio::time::{sleep_until, timeout_at};

/// After how long the request is sent again.
const REPEATED_AFTER: [Duration; 3] =
    [Duration::ZERO, Duration::from_millis(500), Duration::from_millis(1500)];
/// How long an answer may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(3);
/// How long resolving a name may take.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(3);
/// The most addresses of one name that are asked.
const MAX_ADDRESSES: usize = 4;
const DEFAULT_PORT: u16 = 3478;

const REQUEST: u16 = 0x0001;
const SUCCESS: u16 = 0x0101;
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const HEADER_BYTES: usize = 20;
const MAPPED_ADDRESS: u16 = 0x0001;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;

type Transaction = [u8; 12];

/// The answer of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// The server.
    pub server: SocketAddr,
    /// This machine's address, as the server sees it. `None` without an answer.
    pub address: Option<SocketAddr>,
    /// How long the answer took.
    pub took: Duration,
}

/// The address translation between this machine and the servers' network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nat {
    /// None: the address is this machine's own.
    None,
    /// The machine has the same outside address for every destination, so direct paths are
    /// possible.
    OneAddress,
    /// Each destination sees another address. A direct path needs a peer without such a
    /// translation.
    ManyAddresses,
    /// There is a translation. A single server cannot show which kind.
    Unknown,
}

impl Nat {
    /// Judges by the addresses that the servers saw for one socket. `None` without an answer.
    pub fn judge(seen: &[Sighting]) -> Option<Self> {
        Self::of(seen, is_own_address)
    }

    fn of(seen: &[Sighting], own: impl Fn(IpAddr) -> bool) -> Option<Self> {
        let mut addresses = seen.iter().filter_map(|seen| seen.address);
        let first = addresses.next()?;
        let others: Vec<SocketAddr> = addresses.collect();
        Some(match others.as_slice() {
            _ if own(first.ip()) => Self::None,
            [] => Self::Unknown,
            others if others.iter().all(|other| *other == first) => Self::OneAddress,
            _ => Self::ManyAddresses,
        })
    }
}

/// The addresses of a server, of both families, from its `stun:` or `turn:` URL. Empty if the name
/// cannot be resolved in time.
pub async fn resolve(url: &str) -> Vec<SocketAddr> {
    let Some((_, host_and_port)) = url.split_once(':') else { return Vec::new() };
    let host_and_port = host_and_port.split('?').next().unwrap_or_default();
    let target = match host_and_port.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => host_and_port.to_owned(),
        _ => format!("{host_and_port}:{DEFAULT_PORT}"),
    };
    let looked_up = tokio::time::timeout(RESOLVE_DEADLINE, lookup_host(target)).await;
    looked_up.into_iter().flatten().flatten().take(MAX_ADDRESSES).collect()
}

/// Asks all `servers` of one family at once from one socket, within three seconds. Skips servers of
/// the other family.
///
/// # Errors
/// No socket can be opened.
pub async fn ask(family: IpAddr, servers: &[SocketAddr]) -> std::io::Result<Vec<Sighting>> {
    let servers: Vec<SocketAddr> =
        servers.iter().copied().filter(|server| server.is_ipv4() == family.is_ipv4()).collect();
    if servers.is_empty() {
        return Ok(Vec::new());
    }
    let socket = UdpSocket::bind((family, 0)).await?;
    let asked: HashMap<Transaction, SocketAddr> =
        servers.iter().map(|server| (rand::random(), *server)).collect();
    let start = Instant::now();
    let mut answers: HashMap<SocketAddr, Sighting> = HashMap::new();
    let listening = listen(&socket, &asked, start, &mut answers);
    let sending = async {
        for wait in REPEATED_AFTER {
            sleep_until((start + wait).into()).await;
            for (transaction, server) in &asked {
                // An unreachable network counts as no answer.
                let _ = socket.send_to(&request(transaction), server).await;
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = sending => {}
        _ = timeout_at((start + ANSWER_DEADLINE).into(), listening) => {}
    }
    let silent = |server| Sighting { server, address: None, took: ANSWER_DEADLINE };
    let of = |server: SocketAddr| answers.get(&server).copied().unwrap_or(silent(server));
    Ok(servers.into_iter().map(of).collect())
}

/// Collects answers until all have arrived.
async fn listen(
    socket: &UdpSocket,
    asked: &HashMap<Transaction, SocketAddr>,
    start: Instant,
    answers: &mut HashMap<SocketAddr, Sighting>,
) {
    let mut buffer = [0; 1500];
    while answers.len() < asked.len() {
        // An error here answers an earlier request to a closed port.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        let Some((transaction, address)) = parse(&buffer[..length]) else { continue };
        if let Some(server) = asked.get(&transaction).filter(|server| **server == from) {
            let seen = Sighting { server: *server, address: Some(address), took: start.elapsed() };
            answers.entry(*server).or_insert(seen);
        }
    }
}

fn request(transaction: &Transaction) -> [u8; HEADER_BYTES] {
    let mut message = [0; HEADER_BYTES];
    message[..2].copy_from_slice(&REQUEST.to_be_bytes());
    message[4..8].copy_from_slice(&COOKIE);
    message[8..].copy_from_slice(transaction);
    message
}

/// The transaction and the address in an answer.
fn parse(message: &[u8]) -> Option<(Transaction, SocketAddr)> {
    let (header, mut rest) = message.split_at_checked(HEADER_BYTES)?;
    if word(header)? != SUCCESS || header[4..8] != COOKIE {
        return None;
    }
    let transaction: Transaction = header[8..].try_into().ok()?;
    let mut plain = None;
    while let Some((kind, length)) = word(rest).zip(rest.get(2..).and_then(word)) {
        let length = usize::from(length);
        let value = rest.get(4..4 + length)?;
        match kind {
            XOR_MAPPED_ADDRESS => return Some((transaction, address(value, Some(&transaction))?)),
            MAPPED_ADDRESS => plain = address(value, None),
            _ => {}
        }
        rest = rest.get(4 + length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some((transaction, plain?))
}

fn word(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?))
}

/// An address attribute, which may be masked with the cookie and the transaction.
fn address(value: &[u8], transaction: Option<&Transaction>) -> Option<SocketAddr> {
    let mut mask = [0; 16];
    if let Some(transaction) = transaction {
        mask[..4].copy_from_slice(&COOKIE);
        mask[4..].copy_from_slice(transaction);
    }
    let port = word(value.get(2..)?)? ^ word(&mask)?;
    let unmasked = value.get(4..)?.iter().zip(mask).map(|(byte, mask)| byte ^ mask);
    let unmasked: Vec<u8> = unmasked.collect();
    let ip: IpAddr = match value.get(1)? {
        1 => Ipv4Addr::from(<[u8; 4]>::try_from(unmasked).ok()?).into(),
        2 => Ipv6Addr::from(<[u8; 16]>::try_from(unmasked).ok()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hostile_input::{damaged_bytes, each};
    use proptest::sample::select;

    const TRANSACTION: Transaction = *b"transaction!";

    /// An answer of this server with one attribute.
    fn answer(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut message = SUCCESS.to_be_bytes().to_vec();
        message.extend((value.len() as u16 + 4).to_be_bytes());
        message.extend(COOKIE);
        message.extend(TRANSACTION);
        message.extend(kind.to_be_bytes());
        message.extend((value.len() as u16).to_be_bytes());
        message.extend(value);
        message
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// RFC 5769, section 2.2: 192.0.2.1, port 32853.
    const OF_RFC_5769: [u8; 8] = [0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43];

    #[test]
    fn the_address_of_the_rfcs_example_is_read() {
        let read = parse(&answer(XOR_MAPPED_ADDRESS, &OF_RFC_5769)).unwrap();
        assert_eq!(read, (TRANSACTION, at("192.0.2.1:32853")));
        let plain = answer(MAPPED_ADDRESS, &[0, 1, 0, 80, 10, 0, 0, 1]);
        assert_eq!(parse(&plain).unwrap().1, at("10.0.0.1:80"));
    }

    #[test]
    fn the_decoder_of_stun() {
        let v6 = [&[0, 2, 1, 2][..], &[7; 16]].concat();
        let whole = [
            answer(XOR_MAPPED_ADDRESS, &OF_RFC_5769),
            answer(XOR_MAPPED_ADDRESS, &v6),
            answer(0x8022, b"a server's name, with more"),
        ];
        each("answers of STUN servers", damaged_bytes(select(whole.to_vec())), |message| {
            // Any input is either read or refused.
            let _ = parse(&message);
            Ok(())
        });
    }

    #[test]
    fn the_kind_of_nat_is_seen_from_two_places() {
        let seen = |addresses: &[Option<SocketAddr>]| -> Vec<Sighting> {
            let server = at("192.0.2.9:3478");
            let took = Duration::ZERO;
            addresses.iter().map(|address| Sighting { server, address: *address, took }).collect()
        };
        let own = |ip: IpAddr| ip == IpAddr::from([10, 0, 0, 1]);
        let (one, other) = (Some(at("192.0.2.1:1000")), Some(at("192.0.2.1:1001")));
        for (addresses, expected) in [
            (vec![], None),
            (vec![None], None),
            (vec![one], Some(Nat::Unknown)),
            (vec![one, None, one], Some(Nat::OneAddress)),
            (vec![one, other], Some(Nat::ManyAddresses)),
            (vec![Some(at("10.0.0.1:5")), None], Some(Nat::None)),
        ] {
            assert_eq!(Nat::of(&seen(&addresses), own), expected, "{addresses:?}");
        }
    }

    #[tokio::test]
    async fn a_server_that_answers_and_one_that_does_not() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (there, silent) = (server.local_addr().unwrap(), UdpSocket::bind("127.0.0.1:0").await);
        let silent = silent.unwrap();
        let answering = async {
            let mut buffer = [0; 100];
            loop {
                let (length, from) = server.recv_from(&mut buffer).await.unwrap();
                assert_eq!(length, HEADER_BYTES);
                let mut message = answer(MAPPED_ADDRESS, &[0, 1, 0, 80, 10, 0, 0, 1]);
                message[8..20].copy_from_slice(&buffer[8..20]);
                server.send_to(&message, from).await.unwrap();
            }
        };
        let servers = [there, silent.local_addr().unwrap(), at("[::1]:1")];
        let asking = ask(Ipv4Addr::LOCALHOST.into(), &servers);
        let seen = tokio::select! {
            seen = asking => seen.unwrap(),
            () = answering => unreachable!(),
        };
        let addresses: Vec<_> = seen.iter().map(|seen| seen.address).collect();
        assert_eq!(addresses, [Some(at("10.0.0.1:80")), None]);
        assert_eq!(resolve("stun:127.0.0.1").await, [at("127.0.0.1:3478")]);
        assert_eq!(resolve("stun:[::1]:99").await, [at("[::1]:99")]);
    }
}
