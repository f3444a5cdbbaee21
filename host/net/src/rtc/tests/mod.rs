//! Two peers on loopback.

mod sdp_decoder;

use super::*;
use bytes::BytesMut;
use sleap_rtc_base::ice::IceConfig;
use sleap_rtc_protocol::DIALECT;
use sleap_rtc_protocol::connection::ConnectionState;
use sleap_rtc_protocol::signaling::{IceServers, Sdp};
use std::time::Instant;

/// Generous: only a hang reaches it.
const LIMIT: Duration = Duration::from_secs(40);

fn loopback() -> RtcOptions {
    let bind = vec![IpAddr::from([127, 0, 0, 1])];
    RtcOptions::new(
        &IceConfig { servers: Vec::new(), bind, ..IceConfig::default() },
        &IceServers::default(),
    )
}

struct Pair {
    offerer: Connection,
    answerer: Connection,
    near: Channel,
    far: Channel,
}

async fn connect() -> Pair {
    let started = Instant::now();
    let (offering, sdp) = offer(&loopback()).await.unwrap();
    let (answerer, sdp) = answer(&loopback(), &sdp).await.unwrap();
    let (accepted, far) = tokio::join!(offering.accept(&sdp), answerer.next_channel());
    let (offerer, near) = accepted.unwrap();
    println!("connected in {} ms", started.elapsed().as_millis());
    Pair { offerer, answerer, near, far: far.unwrap() }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_directions_and_a_second_channel_with_a_protocol() {
    let pair = within(connect()).await;
    assert_eq!((pair.far.label(), pair.far.protocol()), ("my-data-channel", ""));
    pair.near.send_text("hello".into()).await.unwrap();
    assert_eq!(within(pair.far.recv()).await, Some(Message::Text("hello".into())));
    pair.far.send_binary(b"\x00\xff"[..].into()).await.unwrap();
    let received = within(pair.near.recv()).await;
    assert_eq!(received, Some(Message::Binary(b"\x00\xff"[..].into())));

    let (native, seen) = within(async {
        tokio::join!(pair.offerer.open_channel("x", DIALECT), pair.answerer.next_channel())
    })
    .await;
    assert_eq!(native.unwrap().protocol(), DIALECT);
    assert_eq!(seen.unwrap().protocol(), DIALECT);
}

/// Sends `chunks` of 64 KiB and checks every byte. Returns MB/s.
async fn push(pair: &Pair, chunks: usize, pause_at: Option<usize>) -> f64 {
    const CHUNK: usize = 64 * 1024;
    let started = Instant::now();
    let send = async {
        for number in 0..chunks {
            let chunk = vec![number as u8; CHUNK];
            pair.near.send_binary(chunk.as_slice().into()).await.unwrap();
        }
        pair.near.flush(LIMIT).await.unwrap();
    };
    let receive = async {
        for number in 0..chunks {
            if pause_at == Some(number) {
                // While the reader stalls, the sender must not push an unbounded amount.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            let Some(Message::Binary(chunk)) = pair.far.recv().await else { panic!("{number}") };
            assert!(chunk == [number as u8; CHUNK].as_slice(), "chunk {number} differs");
        }
    };
    within(async { tokio::join!(send, receive) }).await;
    (chunks * CHUNK) as f64 / 1e6 / started.elapsed().as_secs_f64()
}

/// Connected by an offer that leaves the choice to the answer, as those of other programs do.
async fn connect_foreign() -> Pair {
    let (offering, Sdp(sdp)) = offer(&loopback()).await.unwrap();
    let sdp = Sdp(sdp.replace("a=setup:active", "a=setup:actpass"));
    let (answerer, sdp) = answer(&loopback(), &sdp).await.unwrap();
    let (accepted, far) = tokio::join!(offering.accept(&sdp), answerer.next_channel());
    let (offerer, near) = accepted.unwrap();
    Pair { offerer, answerer, near, far: far.unwrap() }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_programs_socket_holds_one_large_message_at_most() {
    let pair = within(connect_foreign()).await;
    let send = async {
        // After that, the path of a busy machine may count as long.
        for _ in 0..8 {
            pair.far.send_binary(BytesMut::zeroed(64 << 10)).await.unwrap();
            let outstanding = pair.far.outstanding_bytes().await.unwrap();
            assert!(outstanding <= (64 + 8) << 10, "{outstanding} bytes are under way");
        }
    };
    let receive = async {
        for _ in 0..8 {
            pair.near.recv().await.unwrap();
        }
    };
    within(async { tokio::join!(send, receive) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_transfer_arrives_whole() {
    let pair = within(connect()).await;
    println!("{:.0} MB/s", push(&pair, 4096, None).await);
}

/// The kernel accepts 65,507 bytes at once. The datagrams of some of these messages add up to
/// slightly more.
#[tokio::test(flavor = "multi_thread")]
async fn messages_of_every_length_are_acknowledged() {
    let pair = within(connect()).await;
    push(&pair, 256, None).await;
    let send = async {
        for bytes in 61_940..62_080 {
            pair.near.send_binary(BytesMut::zeroed(bytes)).await.unwrap();
            // A lost packet is sent again after a second or two.
            pair.near.flush(Duration::from_millis(900)).await.unwrap();
        }
    };
    let read = async { while pair.far.recv().await.is_some() {} };
    within(async { tokio::select!(() = send => {}, () = read => panic!("the channel closed")) })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_holds_the_sender_back() {
    let pair = within(connect()).await;
    push(&pair, 1024, Some(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connecting_is_quick() {
    let mut times = Vec::new();
    for _ in 0..5 {
        let started = Instant::now();
        within(connect()).await;
        times.push(started.elapsed());
    }
    println!("connected in {times:?}");
    assert!(times.iter().min().unwrap() < &Duration::from_millis(300), "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_reader_stops_the_sender() {
    let pair = within(connect()).await;
    let mut sent_mib = 0;
    // 16 messages of 64 KiB are 1 MiB.
    'stalled: for _ in 0..100 {
        for _ in 0..16 {
            let sending = pair.near.send_binary(vec![0; 1 << 16].as_slice().into());
            if tokio::time::timeout(Duration::from_secs(2), sending).await.is_err() {
                break 'stalled;
            }
        }
        sent_mib += 1;
    }
    println!("the sender stopped after {sent_mib} MiB");
    assert!(sent_mib < 40, "nothing holds the sender back");
    // The other direction works, and the reader gets everything.
    pair.far.send_text("still here".into()).await.unwrap();
    assert_eq!(within(pair.near.recv()).await, Some(Message::Text("still here".into())));
    for _ in 0..sent_mib * 16 {
        assert!(within(pair.far.recv()).await.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_flushed_before_closing_is_read() {
    let pair = within(connect()).await;
    for number in 0..64_u8 {
        pair.near.send_binary(vec![number; 1 << 16].as_slice().into()).await.unwrap();
    }
    pair.near.flush(LIMIT).await.unwrap();
    pair.offerer.close().await;
    for number in 0..64_u8 {
        let Some(Message::Binary(chunk)) = within(pair.far.recv()).await else {
            panic!("{number}")
        };
        assert_eq!(chunk[0], number);
    }
    assert_eq!(within(pair.far.recv()).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_channel_delivers_what_it_holds_and_leaves_the_others() {
    let pair = within(connect()).await;
    let opening =
        async { tokio::join!(pair.offerer.open_channel("x", ""), pair.answerer.next_channel()) };
    let (other, seen) = within(opening).await;
    let (other, seen) = (other.unwrap(), seen.unwrap());
    for number in 0..64_u8 {
        pair.near.send_binary(vec![number; 1 << 16].as_slice().into()).await.unwrap();
    }
    pair.near.close().await;
    for number in 0..64_u8 {
        let Some(Message::Binary(chunk)) = within(pair.far.recv()).await else {
            panic!("{number}")
        };
        assert_eq!(chunk[0], number);
    }
    assert_eq!(within(pair.far.recv()).await, None);
    assert!(matches!(pair.far.send_text("x".into()).await, Err(ChannelError::Closed)));
    other.send_text("alive".into()).await.unwrap();
    assert_eq!(within(seen.recv()).await, Some(Message::Text("alive".into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_the_limit_is_refused_and_harms_nothing() {
    let pair = within(connect()).await;
    let large = vec![0; MAX_MESSAGE_BYTES as usize + 1];
    assert!(matches!(
        pair.near.send_binary(large.as_slice().into()).await,
        Err(ChannelError::Webrtc(_))
    ));
    let largest = vec![7; MAX_MESSAGE_BYTES as usize];
    pair.near.send_binary(largest.as_slice().into()).await.unwrap();
    assert_eq!(within(pair.far.recv()).await, Some(Message::Binary(largest.into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_closes_is_noticed_at_once() {
    let pair = within(connect()).await;
    let mut state = pair.offerer.state();
    let started = Instant::now();
    pair.answerer.close().await;
    assert_eq!(within(pair.near.recv()).await, None);
    println!("end of the channel after {:?}", started.elapsed());
    assert!(matches!(pair.near.send_text("x".into()).await, Err(ChannelError::Closed)));
    within(state.wait_for(|state| state.is_over())).await.unwrap();
    println!("end of the connection after {:?}", started.elapsed());
    assert_eq!(within(pair.offerer.next_channel()).await.map(|_| ()), None);
}

#[test]
fn a_connection_dropped_outside_the_runtime_closes() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let pair = runtime.block_on(within(connect()));
    drop((pair.near, pair.offerer));
    assert_eq!(runtime.block_on(within(pair.far.recv())), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_servers_delay_and_do_no_more() {
    // This socket is bound but never answers.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let silent = format!("stun:{}", silent.local_addr().unwrap());
    for url in [silent, "stun:nowhere.invalid:3478".into()] {
        let server = IceServer { urls: vec![url], username: None, credential: None };
        let options = RtcOptions {
            servers: vec![server],
            gather_limit: Duration::from_millis(300),
            ..loopback()
        };
        let started = Instant::now();
        let (offering, sdp) = within(offer(&options)).await.unwrap();
        println!("gathered in {:?}", started.elapsed());
        assert!(sdp.0.contains("127.0.0.1"));
        let (answerer, sdp) = within(answer(&options, &sdp)).await.unwrap();
        let (accepted, far) =
            within(async { tokio::join!(offering.accept(&sdp), answerer.next_channel()) }).await;
        assert!(accepted.is_ok() && far.is_some());
        println!("connected in {:?}", started.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_interfaces_and_loopback_by_default() {
    let options = RtcOptions { bind: Vec::new(), ..loopback() };
    let (offering, sdp) = within(offer(&options)).await.unwrap();
    let candidates = sdp.0.lines().filter(|line| line.starts_with("a=candidate:"));
    let addresses: Vec<_> = candidates.filter_map(|line| line.split(' ').nth(4)).collect();
    assert!(addresses.contains(&"127.0.0.1") && !addresses.contains(&"::"), "{addresses:?}");
    assert!(!sdp.0.contains(".local"), "no names of mDNS");
    let (answerer, sdp) = within(answer(&options, &sdp)).await.unwrap();
    let (accepted, far) =
        within(async { tokio::join!(offering.accept(&sdp), answerer.next_channel()) }).await;
    assert!(accepted.is_ok() && far.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_vanishes_is_noticed() {
    // The far side has its own runtime, which stops as abruptly as a killed process.
    let (sdp_out, sdp_in) = std::sync::mpsc::channel::<Sdp>();
    let (answer_out, answer_in) = tokio::sync::oneshot::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let far = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let offer = sdp_in.recv().unwrap();
        let connection = runtime.block_on(async {
            let (connection, sdp) = answer(&loopback(), &offer).await.unwrap();
            answer_out.send(sdp).unwrap();
            let channel = connection.next_channel().await.unwrap();
            let _ = stopped.await;
            (connection, channel)
        });
        runtime.shutdown_timeout(LIMIT);
        // No goodbye is sent.
        std::mem::forget(connection);
    });
    let (offering, sdp) = offer(&loopback()).await.unwrap();
    sdp_out.send(sdp).unwrap();
    let answer = within(answer_in).await.unwrap();
    let (connection, channel) = within(offering.accept(&answer)).await.unwrap();
    stop.send(()).unwrap();
    far.join().unwrap();
    let gone = Instant::now();
    channel.send_text("nobody acknowledges this".into()).await.unwrap();
    let (received, flushed) =
        within(async { tokio::join!(channel.recv(), channel.flush(2 * LIMIT)) }).await;
    println!("noticed after {:.1} s", gone.elapsed().as_secs_f64());
    assert_eq!(received, None);
    assert!(matches!(flushed, Err(ChannelError::Closed)), "{flushed:?}");
    assert_eq!(*connection.state().borrow(), ConnectionState::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_a_typed_error() {
    let nonsense = Sdp("v=0\r\nnonsense".into());
    assert!(matches!(answer(&loopback(), &nonsense).await, Err(RtcError::BadDescription(_))));
    let (offering, _) = offer(&loopback()).await.unwrap();
    assert!(matches!(offering.accept(&nonsense).await, Err(RtcError::BadDescription(_))));

    let refused = answer(&loopback(), &Sdp("x".repeat(64 * 1024 + 1))).await;
    assert!(matches!(refused, Err(RtcError::DescriptionTooLarge)));
}

/// Run by hand: `cargo test -p sleap-rtc-net rtc -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures, and takes seconds"]
async fn throughput_of_500_mb() {
    let pair = within(connect()).await;
    let before = cpu_seconds();
    let rate = push(&pair, 500_000_000 >> 16, None).await;
    println!("{rate:.0} MB/s, {:.1} s of CPU for both sides", cpu_seconds() - before);
}

/// The CPU time of this process, user and system.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / rustix::param::clock_ticks_per_second() as f64
}
