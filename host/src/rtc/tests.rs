//! Two peers on loopback.

use super::*;
use crate::config::IceConfig;
use sleap_rtc_protocol::DIALECT;
use sleap_rtc_protocol::connection::ConnectionState;
use sleap_rtc_protocol::signaling::Sdp;
use std::time::Instant;

/// Generous: only a hang reaches it.
const LIMIT: Duration = Duration::from_secs(40);

fn loopback() -> RtcOptions {
    let bind = vec![IpAddr::from([127, 0, 0, 1])];
    RtcOptions::from(&IceConfig { servers: Vec::new(), bind })
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

    let (ours, seen) = within(async {
        tokio::join!(pair.offerer.open_channel("x", DIALECT), pair.answerer.next_channel())
    })
    .await;
    assert_eq!(ours.unwrap().protocol(), DIALECT);
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
                // The reader stalls: what the sender has pushed meanwhile must be bounded.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            let Some(Message::Binary(chunk)) = pair.far.recv().await else { panic!("{number}") };
            assert!(chunk.len() == CHUNK && chunk.iter().all(|b| *b == number as u8));
        }
    };
    within(async { tokio::join!(send, receive) }).await;
    (chunks * CHUNK) as f64 / 1e6 / started.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_transfer_arrives_whole() {
    let pair = within(connect()).await;
    println!("{:.0} MB/s", push(&pair, 4096, None).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_holds_the_sender_back() {
    let pair = within(connect()).await;
    push(&pair, 1024, Some(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_closes_is_noticed() {
    let pair = within(connect()).await;
    let state = pair.offerer.state();
    drop(pair.far);
    pair.answerer.close().await;
    assert_eq!(within(pair.near.recv()).await, None);
    assert!(pair.near.send_text("x".into()).await.is_err() || !state.borrow().is_over());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_vanishes_is_noticed() {
    // The far side lives on a runtime of its own, which stops as a killed process does.
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
        runtime.shutdown_background();
        // Nothing says goodbye.
        std::mem::forget(connection);
    });
    let (offering, sdp) = offer(&loopback()).await.unwrap();
    sdp_out.send(sdp).unwrap();
    let answer = within(answer_in).await.unwrap();
    let (connection, channel) = within(offering.accept(&answer)).await.unwrap();
    stop.send(()).unwrap();
    let gone = Instant::now();
    assert_eq!(within(channel.recv()).await, None);
    println!("noticed after {:.1} s", gone.elapsed().as_secs_f64());
    assert_eq!(*connection.state().borrow(), ConnectionState::Failed);
    far.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_a_typed_error() {
    let nonsense = Sdp("v=0\r\nnonsense".into());
    assert!(matches!(answer(&loopback(), &nonsense).await, Err(RtcError::BadDescription(_))));
    let (offering, _) = offer(&loopback()).await.unwrap();
    assert!(matches!(offering.accept(&nonsense).await, Err(RtcError::BadDescription(_))));
}
