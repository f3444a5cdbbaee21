//! Mailboxes: two devices, strangers, and a server with limits.

use super::support::{TestServer, soon};
use crate::client::{Mailbox, MailboxError, MailboxNews, Servers};
use crate::server::{Limits, ServerOptions};
use crate::store::Store;
use futures_util::{SinkExt, StreamExt};
use sleap_rtc_protocol::pairing::{MAX_PARCEL_BYTES, MailboxErrorCode, MailboxNumber};
use std::time::{Duration, Instant};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

async fn server(limits: Limits) -> (TestServer, Servers) {
    let options = ServerOptions { limits, ..ServerOptions::default() };
    let local = ([127, 0, 0, 1], 0).into();
    let server = TestServer::with(local, Store::ephemeral().unwrap(), options).await;
    let servers = server.endpoints().into();
    (server, servers)
}

fn code(error: MailboxError) -> MailboxErrorCode {
    match error {
        MailboxError::Refused { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

async fn next(mailbox: &mut Mailbox) -> MailboxNews {
    soon("news", mailbox.next()).await.unwrap()
}

#[tokio::test]
async fn parcels_pass_both_ways_and_one_device_after_the_other_may_join() {
    let (server, servers) = server(Limits::default()).await;
    let (mut owner, life) = Mailbox::open(&servers).await.unwrap();
    assert_eq!(life, Duration::from_secs(600));
    assert_eq!(server.metric("mailboxes").await, 1);
    for _ in 0..2 {
        let mut joiner = Mailbox::join(&servers, owner.number()).await.unwrap();
        assert_eq!(next(&mut owner).await, MailboxNews::Joined);
        let third = Mailbox::join(&servers, owner.number()).await;
        assert_eq!(code(third.unwrap_err()), MailboxErrorCode::Occupied);
        let long = vec![7; MAX_PARCEL_BYTES];
        joiner.send(long.clone()).await.unwrap();
        owner.send(b"answer".to_vec()).await.unwrap();
        assert_eq!(next(&mut owner).await, MailboxNews::Parcel(long));
        assert_eq!(next(&mut joiner).await, MailboxNews::Parcel(b"answer".to_vec()));
        joiner.close().await;
        assert_eq!(next(&mut owner).await, MailboxNews::Left);
    }
    let mut joiner = Mailbox::join(&servers, owner.number()).await.unwrap();
    let number = owner.number();
    owner.close().await;
    assert_eq!(next(&mut joiner).await, MailboxNews::Left);
    let late = Mailbox::join(&servers, number).await.unwrap_err();
    assert_eq!(code(late), MailboxErrorCode::NoMailbox);
    assert_eq!(server.metric("mailboxes").await, 0);
    assert_eq!(server.metric("pairings").await, 3);
    assert_eq!(server.metric("pairings_refused").await, 3);
    server.stop().await;
}

#[tokio::test]
async fn a_mailbox_has_its_time_and_its_tries() {
    let limits = Limits { pair_within: Duration::from_secs(1), ..Limits::default() };
    let (short, servers) = server(limits).await;
    let start = Instant::now();
    let (mut owner, _) = Mailbox::open(&servers).await.unwrap();
    let over = soon("end", owner.next()).await.unwrap_err();
    assert_eq!(code(over), MailboxErrorCode::Expired);
    assert!(start.elapsed() >= Duration::from_secs(1));
    short.stop().await;

    let (server, servers) = server(Limits::default()).await;
    let (mut owner, _) = Mailbox::open(&servers).await.unwrap();
    let refused = loop {
        match Mailbox::join(&servers, owner.number()).await {
            Ok(joiner) => joiner.close().await,
            Err(error) => break code(error),
        }
        assert_eq!(next(&mut owner).await, MailboxNews::Joined);
        assert_eq!(next(&mut owner).await, MailboxNews::Left);
    };
    assert_eq!(refused, MailboxErrorCode::TooManyTries);
    assert_eq!(code(owner.next().await.unwrap_err()), MailboxErrorCode::TooManyTries);
    server.stop().await;
}

#[tokio::test]
async fn whatever_does_not_belong_at_a_mailbox_ends_its_socket() {
    let (server, servers) = server(Limits::default()).await;
    let pair = servers.first().websocket.join("pair").unwrap();
    let long = format!(r#"{{"type":"send","parcel":"{}"}}"#, "A".repeat(20_000));
    let too_long = format!(r#"{{"type":"send","parcel":"{}"}}"#, "A".repeat(11_500));
    for frames in [
        vec!["nonsense"],
        vec![r#"{"type":"join","mailbox":0}"#],
        vec![r#"{"type":"send","parcel":"AA"}"#],
        vec![r#"{"type":"open"}"#, r#"{"type":"open"}"#],
        vec![r#"{"type":"open"}"#, r#"{"type":"send","parcel":"="}"#],
        vec![r#"{"type":"open"}"#, &too_long],
        vec![r#"{"type":"open"}"#, &long],
        [vec![r#"{"type":"open"}"#], vec![r#"{"type":"send","parcel":"AA"}"#; 9]].concat(),
    ] {
        let (mut ws, _) = connect_async(pair.as_str()).await.unwrap();
        for frame in &frames {
            ws.send(Message::text(*frame)).await.unwrap();
        }
        let mut said = String::new();
        while let Some(Ok(message)) = soon("end", ws.next()).await {
            if let Message::Text(text) = message {
                said = text.to_string();
            }
        }
        assert!(said.contains("invalid_frame"), "{frames:?}: {said}");
    }
    assert_eq!(server.metric("mailboxes").await, 0);
    server.stop().await;
}

#[tokio::test]
async fn a_server_without_mailboxes_is_called_so() {
    // A server that serves something else at this path.
    let (server, _) = server(Limits::default()).await;
    let mut elsewhere = server.endpoints();
    elsewhere.websocket.set_path("/elsewhere");
    let servers = Servers::from(elsewhere);
    let refused = Mailbox::join(&servers, MailboxNumber::try_from(4).unwrap()).await.unwrap_err();
    assert!(refused.to_string().contains("does not pair devices"), "{refused}");
    assert!(refused.advice().unwrap().contains("--room-id"));
    server.stop().await;
}
