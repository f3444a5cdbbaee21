//! A server that is full of strangers, and addresses that ask for too much.

use super::support::{TestServer, register, soon};
use crate::server::{Limits, ServerOptions};
use crate::store::Store;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

const ANYWHERE: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

async fn server(options: ServerOptions) -> TestServer {
    TestServer::with(ANYWHERE.into(), Store::ephemeral().unwrap(), options).await
}

#[tokio::test]
async fn silent_strangers_keep_nobody_out() {
    let server = server(ServerOptions { sockets: 8, ..ServerOptions::default() }).await;
    let (_, room) = server.room().await;
    let (mut peer, _) = server.member(&room).await;
    let newcomer = server.identity().await;
    // Some have sent nothing, some have opened a WebSocket without registering.
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
        let mut bare = server.bare().await;
        bare.send(json!({"type": "offer"})).await;
        silent.push(bare.into_tcp());
    }
    let (status, health) = server.http("GET /health", "").await;
    assert_eq!(
        (status, &health["status"], &health["sockets_limit"]),
        (200, &json!("ok"), &json!(8))
    );
    assert!(health["sockets"].as_u64() <= Some(8), "{health}");
    assert!(health["evicted"].as_u64() >= Some(9), "{health}");
    // The earlier peer still has its socket, and another one finds room.
    let mut late = server.bare().await;
    late.send(register(&newcomer, &room)).await;
    assert_eq!(late.next().await["type"], "registered_auth");
    peer.send(json!({"type": "discover_peers"})).await;
    assert_eq!(peer.next().await["count"], 1);
    // The oldest stranger was evicted.
    soon("the end of the oldest", silent[0].read_to_end(&mut Vec::new())).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_full_of_peers_says_so() {
    let server = server(ServerOptions { sockets: 3, ..ServerOptions::default() }).await;
    let (_, room) = server.room().await;
    let mut peers = Vec::new();
    for _ in 0..3 {
        peers.push(server.member(&room).await);
    }
    let mut answer = String::new();
    let mut late = TcpStream::connect(server.address).await.unwrap();
    soon("an answer", late.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    peers[0].0.send(json!({"type": "discover_peers"})).await;
    assert_eq!(peers[0].0.next().await["count"], 2);
}

#[tokio::test]
async fn new_identities_are_counted_by_address_and_renewed_ones_are_not() {
    let limits = Limits { sign_ins_per_address: 2, ..Limits::default() };
    let server =
        server(ServerOptions { limits, trust_proxy: true, ..ServerOptions::default() }).await;
    let mut statuses = Vec::new();
    for from in ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2", "127.0.0.1"] {
        let head = format!("POST /anonymous-signin\nX-Forwarded-For: {from}\n");
        statuses.push(server.http(&head, "").await);
    }
    let codes: Vec<u16> = statuses.iter().map(|(status, _)| *status).collect();
    assert_eq!(codes, [200, 200, 429, 200, 200]);
    assert!(statuses[2].1["error"].as_str().unwrap().contains("sign_ins_per_address"));
    let renewal = json!({"id_token": statuses[0].1["id_token"]}).to_string();
    let head = "POST /anonymous-signin\nX-Forwarded-For: 192.0.2.1\n";
    assert_eq!(server.http(head, &renewal).await.0, 200);
}

#[tokio::test]
async fn a_state_file_that_is_gone_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.sqlite");
    let store = Store::open(&path).unwrap();
    let server = TestServer::at(ANYWHERE.into(), store).await;
    assert_eq!(server.metric("state_file_lost").await, 0);
    std::fs::remove_file(&path).unwrap();
    soon("a word of it", async {
        loop {
            let (status, health) = server.http("GET /health", "").await;
            assert_eq!(status, 200);
            if health["state_file_lost"] == 1 {
                return assert_eq!(health["status"], "state file lost");
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
}
