//! Two endpoints on loopback.

use super::*;
use crate::route::Way;
use bytes::Bytes;
use sleap_rtc_protocol::connection::ConnectionState;
use sleap_rtc_protocol::signaling::EndpointAddress;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

/// Generous: only a hang reaches it.
const LIMIT: Duration = Duration::from_secs(20);

async fn endpoint() -> Endpoint {
    let options = EndpointOptions::new(EndpointKey::fresh(), vec!["127.0.0.1".parse().unwrap()]);
    Endpoint::bind(options).await.unwrap()
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.unwrap()
}

/// The session that called, and the one that was called.
async fn sessions(from: &Endpoint, to: &Endpoint) -> (Session, Session) {
    let expected = to.expect(&from.address()).unwrap();
    let calling = async { from.call(&to.address(), LIMIT).await.unwrap().session().await.unwrap() };
    let (here, there) = within(async { tokio::join!(calling, expected.session()) }).await;
    (here, there.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_arrives_although_the_sender_closes_at_once() {
    let (from, to) = (endpoint().await, endpoint().await);
    let (here, there) = sessions(&from, &to).await;
    here.send("hello").await.unwrap();
    there.send(&"x".repeat(60_000)).await.unwrap();
    assert_eq!(within(here.recv()).await.unwrap().len(), 60_000);
    let closing = here.close(LIMIT);
    let (heard, ()) = within(async { tokio::join!(there.recv(), closing) }).await;
    assert_eq!(heard.as_deref(), Some("hello"));
    assert_eq!(within(there.recv()).await, None);
    let mut state = there.state();
    within(state.wait_for(|state| *state == ConnectionState::Closed)).await.unwrap();
    tokio::join!(from.close(), to.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn content_arrives_in_order_over_many_streams() {
    const CHUNKS: u32 = 300;
    let (from, to) = (endpoint().await, endpoint().await);
    let (here, there) = sessions(&from, &to).await;
    let sending = async {
        for number in 0..CHUNKS {
            let mut chunk = vec![number as u8; 65_000 - number as usize];
            chunk[..4].copy_from_slice(&number.to_be_bytes());
            here.chunks().send(Bytes::from(chunk)).await.unwrap();
        }
        here.chunks().finish().await;
    };
    let receiving = async {
        for number in 0..CHUNKS {
            let chunk = there.chunks().next().await.unwrap();
            assert_eq!(chunk.len(), 65_000 - number as usize);
            assert_eq!(chunk[..4], number.to_be_bytes());
        }
    };
    within(async { tokio::join!(sending, receiving) }).await;
    let route = here.route().borrow().clone().unwrap();
    assert_eq!(route.way, Way::Direct, "{route}");
    tokio::join!(from.close(), to.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_was_not_announced_is_told_so_at_once() {
    let (from, to) = (endpoint().await, endpoint().await);
    drop(to.expect(&from.address()).unwrap());
    let called = within(from.call(&to.address(), LIMIT)).await;
    let refused = async {
        let session = called.ok()?.session().await.ok()?;
        session.recv().await
    };
    assert_eq!(within(refused).await, None);
    tokio::join!(from.close(), to.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_at_an_address_costs_no_more_than_the_limit() {
    let (from, to) = (endpoint().await, endpoint().await);
    let address = to.address();
    to.close().await;
    let limit = Duration::from_millis(300);
    let error = within(from.call(&address, limit)).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("the signaling server has no relay"), "{error}");
    let bad = EndpointAddress { id: "no key".into(), addrs: Vec::new() };
    assert!(matches!(from.expect(&bad).map(drop), Err(QuicError::BadId)));
    from.close().await;
}

#[test]
fn a_device_keeps_its_key_and_a_second_program_gets_another() {
    let folder = tempfile::tempdir().unwrap();
    let first = EndpointKey::of(folder.path()).unwrap();
    let second = EndpointKey::of(folder.path()).unwrap();
    assert_ne!(first.id(), second.id());
    let id = first.id();
    drop(first);
    assert_eq!(EndpointKey::of(folder.path()).unwrap().id(), id);
    let file = folder.path().join("device.key");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::write(&file, "short").unwrap();
    let error = EndpointKey::of(folder.path()).unwrap_err();
    assert!(error.to_string().contains("delete it"), "{error}");
}
