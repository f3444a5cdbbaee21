//! Connects to a host by name over TCP. Tries its addresses in parallel (RFC 8305), so that a dead
//! address costs a quarter of a second instead of the whole deadline.

use super::error::ConnectError;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::sleep;

/// How long an address may be silent before the next one is tried in parallel.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// The most addresses of one name that are tried. A hostile name server can return any number.
const MAX_ADDRESSES: usize = 16;

/// Connects to `host`, a name or an address, in brackets or not.
pub(crate) async fn dial(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let host = bare(host);
    let found = lookup_host((host, port)).await;
    let found = found.map_err(|source| ConnectError::Resolve { host: host.to_owned(), source })?;
    let stream = race(alternating(found)).await?;
    // Frames are small, and each awaits an answer.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// A host without the brackets that URLs put around IPv6 addresses.
pub(crate) fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

/// The addresses, alternating between IPv6 and IPv4, with the resolver's first choice first.
fn alternating(found: impl Iterator<Item = SocketAddr>) -> VecDeque<SocketAddr> {
    let found: Vec<_> = found.take(MAX_ADDRESSES).collect();
    let v6_first = found.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|address| address.is_ipv6() == v6_first);
    let mut second = second.into_iter();
    let mut order = VecDeque::new();
    for address in first {
        order.push_back(address);
        order.extend(second.next());
    }
    order.extend(second);
    order
}

/// The first connection that opens. Tries the next address as soon as one fails or is silent for
/// [`ATTEMPT_DELAY`]. If all fail, returns the first failure, because it is that of the preferred
/// address.
async fn race(mut addresses: VecDeque<SocketAddr>) -> Result<TcpStream, ConnectError> {
    let mut attempts = FuturesUnordered::new();
    let mut first_failure = None;
    loop {
        if let Some(address) = addresses.pop_front() {
            attempts.push(async move {
                let connected = TcpStream::connect(address).await;
                connected.map_err(|source| ConnectError::Tcp { address, source })
            });
        } else if attempts.is_empty() {
            return Err(first_failure.unwrap_or(ConnectError::NoAddress));
        }
        tokio::select! {
            Some(attempt) = attempts.next() => match attempt {
                Ok(stream) => return Ok(stream),
                Err(failure) => drop(first_failure.get_or_insert(failure)),
            },
            () = sleep(ATTEMPT_DELAY), if !addresses.is_empty() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;
    use tokio::net::TcpListener;

    fn addresses(texts: &[&str]) -> VecDeque<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_and_the_first_stays_first() {
        let found =
            addresses(&["[2001:db8::1]:1", "[2001:db8::2]:1", "192.0.2.1:1", "192.0.2.2:1"]);
        let expected =
            addresses(&["[2001:db8::1]:1", "192.0.2.1:1", "[2001:db8::2]:1", "192.0.2.2:1"]);
        assert_eq!(alternating(found.into_iter()), expected);
        assert_eq!(alternating(std::iter::repeat_n(expected[0], 500)).len(), MAX_ADDRESSES);
    }

    #[tokio::test]
    async fn an_address_that_refuses_costs_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        // Port 1 of loopback refuses.
        let start = Instant::now();
        let stream = race([SocketAddr::from(([127, 0, 0, 1], 1)), good].into()).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        assert!(start.elapsed() < ATTEMPT_DELAY);
        let refused = race(addresses(&["127.0.0.1:1", "127.0.0.2:1"])).await.unwrap_err();
        let ConnectError::Tcp { address, source } = refused else { panic!("{refused:?}") };
        assert_eq!(address.to_string(), "127.0.0.1:1");
        assert_eq!(source.kind(), std::io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn an_address_that_keeps_silent_costs_a_quarter_of_a_second() {
        // A listener whose queue is full answers no SYN: the same silence as a dead route.
        let silent = socket_that_accepts_nobody();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let start = Instant::now();
        let stream = race([silent.address, good].into()).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        let waited = start.elapsed();
        assert!(waited >= ATTEMPT_DELAY && waited < 4 * ATTEMPT_DELAY, "{waited:?}");
    }

    struct Silent {
        address: SocketAddr,
        _listener: rustix::fd::OwnedFd,
        _queue: Vec<TcpStream>,
    }

    fn socket_that_accepts_nobody() -> Silent {
        use rustix::net::{AddressFamily, SocketType, bind, connect, getsockname, listen, socket};
        let listener = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        listen(&listener, 0).unwrap();
        let address = SocketAddr::try_from(getsockname(&listener).unwrap()).unwrap();
        let queue = (0..2).map(|_| {
            let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
            rustix::io::ioctl_fionbio(&socket, true).unwrap();
            let _ = connect(&socket, &address);
            TcpStream::from_std(socket.into()).unwrap()
        });
        Silent { address, _queue: queue.collect(), _listener: listener }
    }
}
