//! Other things at the address of a signaling server: a login page, a closed port, another program.

use super::support::{endpoints, soon};
use crate::client::{HttpApi, PeerIdentity, SignalingClient, SignalingError};
use sleap_rtc_protocol::ids::{IdToken, PeerId, RoomCredentials, RoomId, Token};
use sleap_rtc_protocol::signaling::{Metadata, Role};
use std::net::SocketAddr;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A server that gives every request the same response.
async fn answering(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            while stream.read_line(&mut line).await.is_ok_and(|_| line != "\r\n") {
                line.clear();
            }
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

/// The errors of the client's WebSocket and HTTP halves.
async fn both_halves(answer: &'static str) -> [SignalingError; 2] {
    let endpoints = endpoints(answering(answer).await);
    let signed_in = soon("sign-in", HttpApi::new(&endpoints.http).sign_in(None)).await;
    let identity =
        PeerIdentity { peer_id: PeerId::new("p").unwrap(), id_token: IdToken::new("t").unwrap() };
    let room =
        RoomCredentials { room_id: RoomId::new("r").unwrap(), token: Token::new("t").unwrap() };
    let (metadata, cancel) = (Metadata::default(), CancellationToken::new());
    let connecting =
        SignalingClient::connect(endpoints, identity, room, Role::Client, metadata, cancel);
    let connected = soon("connection", connecting).await;
    [signed_in.unwrap_err(), connected.map(drop).unwrap_err()]
}

#[tokio::test]
async fn a_redirection_is_named_with_its_target() {
    let login = "HTTP/1.1 302 Found\r\nLocation: https://login.example.org/?from=here\r\n\
                 Content-Length: 0\r\nConnection: close\r\n\r\n";
    for error in both_halves(login).await {
        assert!(matches!(error, SignalingError::Redirected { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("redirects to https://login.example.org/?from=here"), "{text}");
        assert!(error.advice().unwrap().contains("login page"));
    }
}

#[tokio::test]
async fn another_program_is_not_taken_for_a_server_that_is_down() {
    let page = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>";
    for error in both_halves(page).await {
        assert!(matches!(error, SignalingError::Unexpected { .. }), "{error}");
        assert!(!error.advice().unwrap().contains("check that the server is running"));
    }
}
