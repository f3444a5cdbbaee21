//! The HTTP API: identities, deletion, and the responses to strangers.

use super::support::{TestServer, register, soon};
use crate::client::{Endpoints, HttpApi, PeerIdentity, SignalingClient, SignalingError};
use crate::identity::Signer;
use crate::store::Store;
use serde_json::json;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_protocol::ids::{IdToken, RoomCredentials, Token};
use sleap_rtc_protocol::signaling::{Metadata, Role};
use std::net::SocketAddr;
use tokio_util::sync::CancellationToken;

const ANYWHERE: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// A server, and a signer for its old tokens.
async fn server_and_signer() -> (TestServer, Signer) {
    let store = Store::ephemeral().unwrap();
    let signer = Signer::new(store.signing_key());
    (TestServer::at(SocketAddr::from(ANYWHERE), store).await, signer)
}

#[tokio::test]
async fn an_expired_token_renews_its_identity_and_does_nothing_else() {
    let (server, signer) = server_and_signer().await;
    let (identity, room) = server.room().await;
    let expired = signer.sign(&identity.peer_id, 0).unwrap();
    let refused = server.api().create_room(&expired).await;
    assert!(matches!(refused, Err(SignalingError::IdentityRefused { .. })));
    let old = PeerIdentity { id_token: expired.clone(), ..identity.clone() };
    let mut bare = server.bare().await;
    assert_eq!(bare.refused(register(&old, &room)).await, "IDENTITY_EXPIRED");

    let renewed = server.api().sign_in(Some(&expired)).await.unwrap();
    assert_eq!(renewed.peer_id, identity.peer_id);
    server.api().create_room(&renewed.id_token).await.unwrap();
    // In the body, as a program that cannot set headers would.
    let body = json!({"id_token": expired}).to_string();
    let (status, answer) = server.http("POST /anonymous-signin", &body).await;
    assert_eq!((status, &answer["username"]), (200, &json!(identity.peer_id)));

    // Our client does so by itself.
    let (client, _events) = server.client(&old, &room, Role::Worker, json!({})).await;
    assert_eq!(client.peer_id(), &identity.peer_id);
    assert!(!client.identity().id_token.matches(&expired));
    client.close().await;
}

#[tokio::test]
async fn a_token_of_another_server_makes_a_new_peer() {
    let server = TestServer::start().await;
    let foreign = TestServer::start().await.identity().await;
    let identity = server.api().sign_in(Some(&foreign.id_token)).await.unwrap();
    assert_ne!(identity.peer_id, foreign.peer_id);
    let head = format!("POST /anonymous-signin\nAuthorization: Bearer {}\n", secret(&foreign));
    assert_eq!(server.http(&head, "").await.0, 401);
}

fn secret(identity: &PeerIdentity) -> String {
    json!(identity.id_token).as_str().unwrap().to_owned()
}

#[tokio::test]
async fn only_a_peer_itself_deletes_it_and_only_a_creator_its_room() {
    let server = TestServer::start().await;
    let (creator, room) = server.room().await;
    let (mut member, member_id) = server.member(&room).await;
    let bodies = [
        ("/delete-peer", json!({"peer_id": member_id.peer_id})),
        ("/delete-peers-and-room", json!({"peer_id": member_id.peer_id})),
        ("/delete-peers-and-room", json!({"room_id": room.room_id})),
    ];
    let stranger = server.identity().await;
    for (path, body) in &bodies {
        assert_eq!(server.http(&format!("POST {path}"), &body.to_string()).await.0, 401);
        let head = format!("POST {path}\nAuthorization: Bearer {}\n", secret(&stranger));
        assert_eq!(server.http(&head, &body.to_string()).await.0, 403, "{path} {body}");
    }
    // Nothing happened.
    member.send(json!({"type": "discover_peers"})).await;
    assert_eq!(member.next().await["type"], "peer_list");

    server.api().delete_peer(&member_id.id_token, &member_id.peer_id).await.unwrap();
    assert_eq!(member.close_code().await, Some(4002));
    // Leaving twice is not an error.
    server.api().delete_peer(&member_id.id_token, &member_id.peer_id).await.unwrap();

    let (mut another, _) = server.member(&room).await;
    server.api().delete_room(&creator.id_token, &room.room_id).await.unwrap();
    assert_eq!(another.close_code().await, Some(4002));
    let mut bare = server.bare().await;
    assert_eq!(bare.refused(register(&stranger, &room)).await, "ROOM_NOT_FOUND");
}

#[tokio::test]
async fn the_old_programs_way_to_delete_their_room() {
    let server = TestServer::start().await;
    let (creator, room) = server.room().await;
    let mut bare = server.bare().await;
    bare.send(register(&creator, &room)).await;
    assert_eq!(bare.next().await["type"], "registered_auth");
    let (mut guest, guest_id) = server.member(&room).await;
    // A guest that deletes "me and my room" removes only itself.
    for (identity, socket) in [(&guest_id, &mut guest), (&creator, &mut bare)] {
        let head =
            format!("POST /delete-peers-and-room\nAuthorization: Bearer {}\n", secret(identity));
        let body = json!({"peer_id": identity.peer_id}).to_string();
        assert_eq!(server.http(&head, &body).await.0, 200);
        assert_eq!(socket.close_code().await, Some(4002));
    }
    let mut late = server.bare().await;
    assert_eq!(late.refused(register(&guest_id, &room)).await, "ROOM_NOT_FOUND");
}

#[tokio::test]
async fn strangers_get_plain_answers() {
    let server = TestServer::start().await;
    let (status, health) = server.http("GET /health", "").await;
    assert_eq!((status, &health["status"], &health["peers"]), (200, &json!("ok"), &json!(0)));
    assert_eq!(server.http("GET /metrics", "").await.0, 200);
    for (head, body, wanted) in [
        ("GET /", "", 426),
        ("GET /nowhere", "", 404),
        ("POST /nowhere", "", 404),
        ("GET /create-room", "", 405),
        ("POST /health", "", 405),
        ("POST /create-room", "", 401),
        ("POST /create-room\nAuthorization: Basic eDp5\n", "", 401),
        ("POST /anonymous-signin", "{", 400),
        ("POST /anonymous-signin", &"x".repeat(20_000), 400),
    ] {
        assert_eq!(server.http(head, body).await.0, wanted, "{head}");
    }
}

#[tokio::test]
async fn the_first_connection_fails_for_a_stated_reason() {
    let server = TestServer::start().await;
    let (identity, room) = server.room().await;
    let connect = |identity: &PeerIdentity, room: &RoomCredentials, endpoints: Endpoints| {
        let (identity, room) = (identity.clone(), room.clone());
        let (metadata, cancel) = (Metadata::default(), CancellationToken::new());
        async move {
            let connecting =
                SignalingClient::connect(endpoints, identity, room, Role::Client, metadata, cancel);
            soon("answer", connecting).await.map(drop).unwrap_err()
        }
    };
    let wrong = RoomCredentials { token: Token::new("guess").unwrap(), ..room.clone() };
    let error = connect(&identity, &wrong, server.endpoints()).await;
    assert!(matches!(error, SignalingError::RoomRefused { .. }), "{error}");
    let forged = PeerIdentity { id_token: IdToken::new("forged").unwrap(), ..identity.clone() };
    let error = connect(&forged, &room, server.endpoints()).await;
    assert!(matches!(error, SignalingError::IdentityRefused { .. }), "{error}");
    assert!(!format!("{error:?}").contains("forged"));

    let mut not_a_server = server.endpoints();
    not_a_server.websocket.set_path("/health");
    let error = connect(&identity, &room, not_a_server).await;
    assert!(matches!(error, SignalingError::Unexpected { .. }), "{error}");

    let endpoints = server.endpoints();
    server.stop().await;
    let error = connect(&identity, &room, endpoints.clone()).await;
    assert!(matches!(error, SignalingError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(endpoints.websocket.as_str()), "{error}");
    let error = HttpApi::new(&endpoints.http).sign_in(None).await.unwrap_err();
    assert!(matches!(error, SignalingError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(endpoints.http.as_str()), "{error}");
    assert!(WithCauses(&error).to_string().contains("refused"), "{error:?}");
    assert!(error.advice().unwrap().contains("check that the server is running"));
}

#[tokio::test]
async fn tls_to_a_server_without_it_is_a_named_failure() {
    let server = TestServer::start().await;
    let (identity, room) = server.room().await;
    let mut endpoints = server.endpoints();
    endpoints.websocket.set_scheme("wss").unwrap();
    let mut https = endpoints.http.clone();
    https.set_scheme("https").unwrap();
    let error = HttpApi::new(&https).sign_in(None).await.unwrap_err();
    assert!(matches!(error, SignalingError::Unreachable { .. }), "{error}");
    let (metadata, cancel) = (Metadata::default(), CancellationToken::new());
    let connecting =
        SignalingClient::connect(endpoints, identity, room, Role::Client, metadata, cancel);
    let error = connecting.await.map(drop).unwrap_err();
    assert!(WithCauses(&error).to_string().contains("TLS"), "{error:?}");
    assert!(!error.advice().unwrap().contains("check that the server is running"));
}
