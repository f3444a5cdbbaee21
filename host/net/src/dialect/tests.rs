//! Lanes of two ends on loopback, over real connections.

use super::*;
use crate::quic::{Endpoint, EndpointKey, EndpointOptions};
use crate::rtc;
use rand::{Rng, SeedableRng, rngs::StdRng};
use sleap_rtc_base::ice::IceConfig;
use sleap_rtc_protocol::DIALECT;
use sleap_rtc_protocol::signaling::{IceServers, Sdp};
use sleap_rtc_transfer::{self as transfer, Hashes, LaneCount, Limits, Pace, Package, bare};
use std::net::IpAddr;

/// Generous: only a hang reaches it.
const LIMIT: Duration = Duration::from_secs(60);

fn loopback() -> RtcOptions {
    let bind = vec![IpAddr::from([127, 0, 0, 1])];
    let ice = IceConfig { servers: Vec::new(), bind, ..IceConfig::default() };
    RtcOptions::new(&ice, &IceServers::default())
}

/// Both ends, and the connections under them.
async fn ends() -> (ClientEnd, WorkerEnd, [rtc::Connection; 2]) {
    let options = loopback();
    let (offering, sdp) = rtc::offer_channel(&options, "test", DIALECT).await.unwrap();
    let (answerer, sdp) = rtc::answer(&options, &sdp).await.unwrap();
    let (accepted, far) = tokio::join!(offering.accept(&sdp), answerer.next_channel());
    let (offerer, near) = accepted.unwrap();
    let (mut here, mut there) = (ClientEnd::new(near), WorkerEnd::new(far.unwrap()));
    here.allow_lanes(&options, None);
    there.allow_lanes(&options, None);
    (here, there, [offerer, answerer])
}

/// Both ends over QUIC, and the endpoints under them.
async fn quic_ends() -> (ClientEnd, WorkerEnd, [Endpoint; 2]) {
    let endpoint = || async {
        let bind = vec![IpAddr::from([127, 0, 0, 1])];
        Endpoint::bind(EndpointOptions::new(EndpointKey::fresh(), bind)).await.unwrap()
    };
    let (from, to) = (endpoint().await, endpoint().await);
    let expected = to.expect(&from.address()).unwrap();
    let calling = async { from.call(&to.address(), LIMIT).await.unwrap().session().await.unwrap() };
    let (here, there) = tokio::join!(calling, expected.session());
    (ClientEnd::on_session(here), WorkerEnd::on_session(there.unwrap()), [from, to])
}

/// A link whose lanes fail one after another while it sends.
struct Breaking {
    link: ClientEnd,
    lanes: Vec<Arc<dyn Lane>>,
    opened: usize,
    /// How many bytes are confirmed before each failure.
    every_bytes: u64,
    next_at: u64,
    broken: usize,
}

impl Breaking {
    fn new(link: ClientEnd, every_bytes: u64) -> Self {
        let (lanes, opened, broken) = (Vec::new(), 0, 0);
        Self { link, lanes, opened, every_bytes, next_at: every_bytes, broken }
    }
}

impl Link for Breaking {
    async fn send_control(&mut self, frame: TransferFrame) -> Result<(), LinkError> {
        self.link.send_control(frame).await
    }

    async fn next(&mut self, chunks: bool) -> Result<Incoming, LinkError> {
        let next = self.link.next(chunks).await?;
        match &next {
            Incoming::Lane(lane) => {
                self.opened += 1;
                self.lanes.push(lane.clone());
            }
            Incoming::Control(TransferFrame::Verified { bytes, .. }) if *bytes >= self.next_at => {
                self.next_at += self.every_bytes;
                if let Some(lane) = self.lanes.pop() {
                    // Everything in flight is lost with its connection.
                    lane.close();
                    self.broken += 1;
                }
            }
            _ => {}
        }
        Ok(next)
    }

    fn first_lane(&mut self) -> Arc<dyn Lane> {
        self.link.first_lane()
    }

    async fn want_lanes(&mut self, count: usize) -> Result<(), LinkError> {
        self.link.want_lanes(count).await
    }

    fn close_lanes(&mut self) {
        self.link.close_lanes();
    }
}

/// Only keeps the connections alive.
fn either<T: Send + 'static>(
    (here, there, under): (ClientEnd, WorkerEnd, T),
) -> (ClientEnd, WorkerEnd, Box<dyn std::any::Any>) {
    (here, there, Box::new(under))
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
async fn nothing_is_lost_with_the_lanes_that_break_off() {
    const BYTES: u64 = 64 << 20;
    let (here, mut there, _connections) = ends().await;
    let mut here = Breaking::new(here, BYTES / 8);
    let sending = bare::send(&mut here, BYTES, LaneCount::Fixed(3));
    let (sent, received) = within(async { tokio::join!(sending, bare::receive(&mut there)) }).await;
    sent.unwrap();
    // Repeated chunks are not counted.
    assert_eq!(received.unwrap(), BYTES);
    println!("{} lanes opened, {} broke off", here.opened, here.broken);
    assert_eq!((here.opened, here.broken), (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_whole_although_its_lanes_break_off() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bytes = noise(48 << 20);
    std::fs::write(from.path().join("large"), &bytes).unwrap();
    let package = Package::open_tree(from.path(), &Hashes::none()).unwrap();
    let (here, mut there, _connections) = ends().await;
    let mut here = Breaking::new(here, bytes.len() as u64 / 4);
    let limits = Limits::default();
    let sending = transfer::send(&mut here, &package, &limits, |_| {});
    let receiving = transfer::receive(&mut there, to.path(), &limits, |_| {});
    let (sent, received) = within(async { tokio::join!(sending, receiving) }).await;
    sent.unwrap();
    received.unwrap();
    println!("{} lanes opened, {} broke off", here.opened, here.broken);
    assert!(here.opened >= 1 && here.broken >= 1);
    assert!(std::fs::read(to.path().join("large")).unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_end_gets_lanes_too_and_all_end_with_the_transfer() {
    const BYTES: u64 = 32 << 20;
    let (mut here, mut there, _connections) = ends().await;
    let sending = bare::send(&mut there, BYTES, LaneCount::Fixed(2));
    let (sent, received) = within(async { tokio::join!(sending, bare::receive(&mut here)) }).await;
    sent.unwrap();
    assert_eq!(received.unwrap(), BYTES);
    assert!(!here.has_ways_beside() && !there.has_ways_beside());
    // The conversation continues.
    here.send(&ClientFrame::Stop { all: true }).await.unwrap();
    let heard = within(there.recv()).await.unwrap();
    assert_eq!(heard, ClientFrame::Stop { all: true });
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_are_bounded_whatever_is_asked_for() {
    let (here, mut there, _connections) = ends().await;
    let nonsense = |lane| ClientFrame::OpenLane { lane, offer: Sdp("v=0\r\n".into()) };
    let asking = async {
        for lane in 0..200 {
            here.send(&nonsense(lane)).await.unwrap();
        }
        here.send(&ClientFrame::Stop { all: false }).await.unwrap();
    };
    let (heard, ()) = within(async { tokio::join!(there.recv(), asking) }).await;
    assert_eq!(heard.unwrap(), ClientFrame::Stop { all: false });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_does_not_know_who_talks_makes_no_lane() {
    let (mut here, mut there, _connections) = ends().await;
    if let Wire::Channel(channel) = &there.wire {
        there.lanes = Some(Lanes::new(channel.clone()));
    }
    here.offer_lanes(1);
    let refused = async {
        while here.has_ways_beside() {
            // Only the refusal arrives, and it is handled here.
            let _ = here.recv_within(Duration::from_millis(50)).await;
            here.lanes.as_mut().unwrap().reap();
        }
    };
    tokio::select! {
        () = within(refused) => {}
        frame = there.recv() => panic!("{frame:?}"),
    }
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
        let (mut here, mut there, _connections) = match quic {
            false => either(ends().await),
            true => either(quic_ends().await),
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
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bytes = noise(24 << 20);
    std::fs::write(from.path().join("large"), &bytes).unwrap();
    let package = Package::open_tree(from.path(), &Hashes::none()).unwrap();
    let (mut here, mut there, endpoints) = quic_ends().await;
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
    let (heard, ()) = within(async { tokio::join!(there.recv(), here.close()) }).await;
    assert_eq!(heard.unwrap(), ClientFrame::Stop { all: true });
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
    let (mut here, mut there, [first, second]) = quic_ends().await;
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
    tokio::join!(first.close(), second.close());
}
