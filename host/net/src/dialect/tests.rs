//! Transfers between two ends on loopback, over real connections.

use super::*;
use crate::quic::{Endpoint, EndpointKey, EndpointOptions};
use crate::rtc::{self, RtcOptions};
use rand::{Rng, SeedableRng, rngs::StdRng};
use sleap_rtc_base::ice::IceConfig;
use sleap_rtc_protocol::signaling::IceServers;
use sleap_rtc_transfer::{self as transfer, Hashes, Limits, Pace, Package};
use std::net::IpAddr;

/// Generous: only a hang reaches it.
const LIMIT: Duration = Duration::from_secs(60);
const OFFER: u64 = 1;

fn loopback() -> RtcOptions {
    let bind = vec![IpAddr::from([127, 0, 0, 1])];
    let ice = IceConfig { servers: Vec::new(), bind, ..IceConfig::default() };
    RtcOptions::new(&ice, &IceServers::default())
}

/// Both ends over WebRTC.
async fn webrtc_ends() -> (ClientEnd, WorkerEnd, Vec<Endpoint>) {
    let options = loopback();
    let (offering, sdp) = rtc::offer(&options).await.unwrap();
    let (answerer, sdp) = rtc::answer(&options, &sdp).await.unwrap();
    let (accepted, far) = tokio::join!(offering.accept(&sdp), answerer.next_channel());
    let (offerer, near) = accepted.unwrap();
    let there = WorkerEnd::on_channel(answerer, far.unwrap());
    (ClientEnd::on_channel(offerer, near), there, Vec::new())
}

/// Both ends over QUIC, and the endpoints under them.
async fn quic_ends() -> (ClientEnd, WorkerEnd, Vec<Endpoint>) {
    let endpoint = || async {
        let bind = vec![IpAddr::from([127, 0, 0, 1])];
        Endpoint::bind(EndpointOptions::new(EndpointKey::fresh(), bind)).await.unwrap()
    };
    let (from, to) = (endpoint().await, endpoint().await);
    let expected = to.expect(&from.address(), Some(OFFER)).unwrap();
    let calling =
        async { from.call(&to.address(), OFFER, LIMIT).await.unwrap().session().await.unwrap() };
    let (here, there) = tokio::join!(calling, expected.session());
    (ClientEnd::on_session(here), WorkerEnd::on_session(there.unwrap()), vec![from, to])
}

/// Bytes that cannot be compressed.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    StdRng::seed_from_u64(1).fill_bytes(&mut bytes);
    bytes
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_on_the_rate_is_kept_by_either_end() {
    const BYTES: usize = 12 << 20;
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(from.path().join("x"), noise(BYTES)).unwrap();
    let package = Package::open_tree(from.path(), &Hashes::none()).unwrap();
    let slow = Limits { pace: Some(Pace::new(6 << 20)), ..Limits::default() };
    let fast = Limits::default();
    for (name, sender, receiver, quic) in [
        ("sender", &slow, &fast, false),
        ("receiver", &fast, &slow, false),
        ("sender over QUIC", &slow, &fast, true),
        ("receiver over QUIC", &fast, &slow, true),
    ] {
        let (mut here, mut there, _endpoints) = match quic {
            false => webrtc_ends().await,
            true => quic_ends().await,
        };
        let into = to.path().join(name);
        let started = Instant::now();
        let sending = transfer::send(&mut here, &package, sender, |_| {});
        let receiving = transfer::receive(&mut there, &into, receiver, |_| {});
        let (sent, received) = within(async { tokio::join!(sending, receiving) }).await;
        sent.unwrap();
        received.unwrap();
        let took_s = started.elapsed().as_secs_f64();
        println!("limited by the {name}: {took_s:.2} s instead of 2");
        assert!((1.7..6.0).contains(&took_s), "{took_s}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_both_ways_over_quic_and_the_conversation_goes_on() {
    files_go_both_ways(quic_ends().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_both_ways_over_one_data_channel_and_the_conversation_goes_on() {
    files_go_both_ways(webrtc_ends().await).await;
}

async fn files_go_both_ways(
    (mut here, mut there, endpoints): (ClientEnd, WorkerEnd, Vec<Endpoint>),
) {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bytes = noise(24 << 20);
    std::fs::write(from.path().join("large"), &bytes).unwrap();
    let package = Package::open_tree(from.path(), &Hashes::none()).unwrap();
    let limits = Limits::default();
    let (up, down) = (to.path().join("up"), to.path().join("down"));
    let sending = transfer::send(&mut here, &package, &limits, |_| {});
    let receiving = transfer::receive(&mut there, &up, &limits, |_| {});
    let (sent, received) = within(async { tokio::join!(sending, receiving) }).await;
    sent.unwrap();
    received.unwrap();
    let sending = transfer::send(&mut there, &package, &limits, |_| {});
    let receiving = transfer::receive(&mut here, &down, &limits, |_| {});
    let (sent, received) = within(async { tokio::join!(sending, receiving) }).await;
    sent.unwrap();
    received.unwrap();
    for folder in [up, down] {
        assert!(std::fs::read(folder.join("large")).unwrap() == bytes);
    }
    here.send(&ClientFrame::Stop { all: true }).await.unwrap();
    assert_eq!(within(there.recv()).await.unwrap(), ClientFrame::Stop { all: true });
    here.close().await;
    assert!(matches!(within(there.recv()).await, Err(DialectError::Gone)));
    for endpoint in endpoints {
        endpoint.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_over_quic_ends_with_its_connection() {
    let from = tempfile::tempdir().unwrap();
    std::fs::write(from.path().join("large"), noise(24 << 20)).unwrap();
    let package = Package::open_tree(from.path(), &Hashes::none()).unwrap();
    let (mut here, mut there, endpoints) = quic_ends().await;
    let (limits, to) = (Limits::default(), tempfile::tempdir().unwrap());
    let cut = there.cut();
    let sending = transfer::send(&mut here, &package, &limits, |progress| {
        if progress.done_bytes > 8 << 20 {
            cut.cancel();
        }
    });
    let receiving = async {
        let received = transfer::receive(&mut there, to.path(), &limits, |_| {}).await;
        there.close().await;
        received
    };
    let (sent, received) = within(async { tokio::join!(sending, receiving) }).await;
    assert!(sent.is_err() && received.is_err());
    for endpoint in endpoints {
        endpoint.close().await;
    }
}
