//! The relay on a server with a certificate: over TLS, with address discovery, while the certificate
//! is renewed, and after a restart.

use super::relay::admission;
use super::support::{TestServer, register, soon};
use crate::client::PeerIdentity;
use crate::identity::Signer;
use crate::server::{ServerOptions, Tls, TlsFiles};
use crate::store::Store;
use futures_util::{SinkExt, StreamExt};
use iroh::endpoint::presets;
use iroh::{Endpoint, RelayConfig, RelayMode, RelayUrl, SecretKey};
use iroh_relay::RelayQuicConfig;
use iroh_relay::tls::CaTlsConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use sleap_rtc_base::clock::now_s;
use sleap_rtc_protocol::ids::{PeerId, RelayToken, RoomCredentials};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

/// Writes a new certificate to the server's files.
fn renew(folder: &Path) -> CertificateDer<'static> {
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let made = rcgen::CertificateParams::new(names).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = made.self_signed(&key).unwrap();
    std::fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
    certificate.der().clone()
}

/// A server with a certificate, and the credentials of a room there.
struct Lab {
    server: TestServer,
    tls: Tls,
    identity: PeerIdentity,
    room: RoomCredentials,
}

async fn lab(folder: &Path) -> Lab {
    let files = TlsFiles { cert: folder.join("cert.pem"), key: folder.join("key.pem") };
    let tls = Tls::load(files).unwrap();
    let store = Store::ephemeral().unwrap();
    let peer_id = PeerId::new("peer-1").unwrap();
    let id_token = Signer::new(store.signing_key()).sign(&peer_id, now_s()).unwrap();
    let room = store.create_room(peer_id.clone(), now_s()).await.unwrap();
    let options = ServerOptions { tls: Some(tls.clone()), ..ServerOptions::default() };
    let server = TestServer::with(([127, 0, 0, 1], 0).into(), store, options).await;
    Lab { server, tls, identity: PeerIdentity { peer_id, id_token }, room }
}

impl Lab {
    async fn connect(&self, trusted: &CertificateDer<'static>) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(self.server.address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    /// Registers with this key. Returns the socket and the relay's offer.
    async fn join(
        &self,
        key: &SecretKey,
        trusted: &CertificateDer<'static>,
    ) -> (WebSocketStream<TlsStream<TcpStream>>, Value) {
        let url = format!("wss://{}/", self.server.address);
        let stream = self.connect(trusted).await;
        let (mut socket, _) = client_async(url, stream).await.unwrap();
        let mut frame = register(&self.identity, &self.room);
        frame["metadata"]["properties"]["iroh"] = json!({"id": key.public().to_string()});
        socket.send(Message::text(frame.to_string())).await.unwrap();
        // The server pings, too.
        let mut answer = Message::Ping(Default::default());
        while !answer.is_text() {
            answer = soon("an answer", socket.next()).await.unwrap().unwrap();
        }
        let answer: Value = serde_json::from_str(answer.to_text().unwrap()).unwrap();
        (socket, answer["relay"].clone())
    }

    async fn health(&self, trusted: &CertificateDer<'static>) -> Value {
        let mut stream = self.connect(trusted).await;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        // A server may close without the closing message of TLS.
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    async fn endpoint(
        &self,
        key: &SecretKey,
        offer: &Value,
        trusted: &CertificateDer<'static>,
    ) -> Endpoint {
        assert_eq!(offer["address_discovery"], true, "{offer}");
        let token: RelayToken = serde_json::from_value(offer["token"].clone()).unwrap();
        let url: RelayUrl = format!("https://{}/", self.server.address).parse().unwrap();
        let discovery = RelayQuicConfig::new(self.server.address.port());
        let config = RelayConfig::new(url, Some(discovery)).with_auth_token(token.as_str());
        Endpoint::builder(presets::Minimal)
            .secret_key(key.clone())
            .relay_mode(RelayMode::Custom(config.into()))
            .ca_tls_config(CaTlsConfig::custom_roots([trusted.clone()]))
            .bind()
            .await
            .unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_counts_for_the_relay_and_for_address_discovery() {
    let folder = tempfile::tempdir().unwrap();
    let old = renew(folder.path());
    let lab = lab(folder.path()).await;
    let (one, two) = (SecretKey::generate(), SecretKey::generate());
    let (socket, offer) = lab.join(&one, &old).await;
    let start = Instant::now();
    let first = lab.endpoint(&one, &offer, &old).await;
    assert_eq!(admission(&first).await, Ok(()));
    println!("admitted over TLS after {} ms", start.elapsed().as_millis());
    shown(&lab, &old, 1).await;

    let new = renew(folder.path());
    lab.tls.reload().unwrap();
    // The same peer with a new key replaces the old registration.
    let (_socket, offer) = lab.join(&two, &new).await;
    drop(socket);
    let before = lab.health(&new).await["addresses_shown"].as_u64().unwrap();
    let second = lab.endpoint(&two, &offer, &new).await;
    assert_eq!(admission(&second).await, Ok(()));
    shown(&lab, &new, before + 1).await;
    first.close().await;
    second.close().await;
    lab.server.stop().await;
}

/// Waits until this many addresses were reported.
async fn shown(lab: &Lab, trusted: &CertificateDer<'static>, count: u64) {
    soon("address discovery", async {
        while lab.health(trusted).await["addresses_shown"].as_u64().unwrap() < count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}
