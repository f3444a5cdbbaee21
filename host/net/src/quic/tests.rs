//! Two endpoints on loopback.

use super::endpoint::BESIDE_EARLIER;
use super::*;
use crate::route::Way;
use bytes::Bytes;
use sleap_rtc_protocol::DIALECT;
use sleap_rtc_protocol::connection::ConnectionState;
use sleap_rtc_protocol::signaling::EndpointAddress;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

/// Generous: only a hang reaches it.
const LIMIT: Duration = Duration::from_secs(20);
const OFFER: u64 = 1;

async fn endpoint() -> Endpoint {
    let options = EndpointOptions::new(EndpointKey::fresh(), vec!["127.0.0.1".parse().unwrap()]);
    Endpoint::bind(options).await.unwrap()
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.unwrap()
}

/// The session that called, and the one that was called.
async fn sessions(from: &Endpoint, to: &Endpoint) -> (Session, Session) {
    let expected = to.expect(&from.address(), Some(OFFER)).unwrap();
    let calling =
        async { from.call(&to.address(), OFFER, LIMIT).await.unwrap().session().await.unwrap() };
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
    drop(to.expect(&from.address(), Some(OFFER)).unwrap());
    let called = within(from.call(&to.address(), OFFER, LIMIT)).await;
    let refused = async {
        let session = called.ok()?.session().await.ok()?;
        session.recv().await
    };
    assert_eq!(within(refused).await, None);
    tokio::join!(from.close(), to.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_reaches_the_conversation_of_its_offer_in_whichever_order_offers_are_answered() {
    let (from, to) = (endpoint().await, endpoint().await);
    let newest = to.expect(&from.address(), Some(2)).unwrap();
    let abandoned = to.expect(&from.address(), Some(1)).unwrap();
    let calling = async { from.call(&to.address(), 2, LIMIT).await.unwrap().session().await };
    let (here, there) = within(async { tokio::join!(calling, newest.session()) }).await;
    let (here, there) = (here.unwrap(), there.unwrap());
    here.send("about the second offer").await.unwrap();
    assert_eq!(within(there.recv()).await.as_deref(), Some("about the second offer"));
    let late = within(from.call(&to.address(), 3, LIMIT)).await.unwrap();
    let late = within(late.session()).await.unwrap();
    assert_eq!(within(late.recv()).await, None, "nobody waits for a third offer");
    tokio::join!(from.close(), to.close());
    drop(to);
    assert!(matches!(within(abandoned.session()).await.map(drop), Err(QuicError::NotCalled)));
}

/// A program of ours from the time when calls named no offer.
async fn earlier_program() -> iroh::Endpoint {
    iroh::Endpoint::builder(iroh::endpoint::presets::Minimal)
        .alpns(vec![DIALECT.as_bytes().to_vec()])
        .bind_addr("127.0.0.1:0")
        .unwrap()
        .bind()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_connection_gives_way_to_a_call_that_does_not_arrive_beside_it() {
    let (from, to) = (endpoint().await, endpoint().await);
    let (first, _there) = sessions(&from, &to).await;
    let _second = sessions(&from, &to).await;
    assert_eq!(*first.state().borrow(), ConnectionState::Connected, "the call was answered");

    let deaf = earlier_program().await;
    let addrs = deaf.bound_sockets().into_iter().filter(|address| address.is_ipv4()).collect();
    let address = EndpointAddress { id: deaf.id().to_string(), addrs };
    let calling = async { from.call(&address, 1, LIMIT).await.unwrap().session().await.unwrap() };
    let accepting = async { deaf.accept().await.unwrap().await.unwrap() };
    let (session, _connection) = within(async { tokio::join!(calling, accepting) }).await;
    // It accepts no further call.
    let (mut state, limit) = (session.state(), 3 * BESIDE_EARLIER);
    assert!(within(from.call(&address, 2, limit)).await.is_err());
    assert_eq!(*state.borrow_and_update(), ConnectionState::Closed);
    tokio::join!(from.close(), to.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_whose_calls_name_no_offer_call_and_are_called() {
    let (ours, earlier) = (endpoint().await, earlier_program().await);
    let sockets = earlier.bound_sockets();
    let addrs = sockets.into_iter().filter(|address| address.is_ipv4()).collect();
    let address = EndpointAddress { id: earlier.id().to_string(), addrs };

    let answering = async {
        let connection = earlier.accept().await.unwrap().await.unwrap();
        let (_send, mut receive) = connection.accept_bi().await.unwrap();
        let mut greeting = [0];
        receive.read_exact(&mut greeting).await.unwrap();
        (connection, greeting)
    };
    let calling = async { ours.call(&address, 7, LIMIT).await.unwrap().session().await.unwrap() };
    let (session, (connection, greeting)) =
        within(async { tokio::join!(calling, answering) }).await;
    assert_eq!(greeting, [1]);
    drop((session, connection));

    let expected = ours.expect(&address, Some(8)).unwrap();
    let own = ours.address();
    let id = own.id.parse::<iroh::EndpointId>().unwrap();
    let to = iroh::EndpointAddr::from_parts(id, own.addrs.into_iter().map(iroh::TransportAddr::Ip));
    let calling = async {
        let connection = earlier.connect(to, DIALECT.as_bytes()).await.unwrap();
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        send.write_all(&[1]).await.unwrap();
        (connection, send)
    };
    let (called, session) = within(async { tokio::join!(calling, expected.session()) }).await;
    session.unwrap();
    drop(called);
    tokio::join!(ours.close(), earlier.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_at_an_address_costs_no_more_than_the_limit() {
    let (from, to) = (endpoint().await, endpoint().await);
    let address = to.address();
    to.close().await;
    let limit = Duration::from_millis(300);
    let error = within(from.call(&address, OFFER, limit)).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("the signaling server has no relay"), "{error}");
    let bad = EndpointAddress { id: "no key".into(), addrs: Vec::new() };
    assert!(matches!(from.expect(&bad, None).map(drop), Err(QuicError::BadId)));
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
