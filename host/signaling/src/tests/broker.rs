//! Servers of a NATS broker, and a way to it that can be cut.

use super::support::TestServer;
use crate::client::Servers;
use crate::server::{ClusterOptions, ServerOptions};
use crate::store::Store;
use std::net::SocketAddr;
use std::sync::Arc;
use support::TestBroker;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// A server of the broker's cluster.
pub(crate) async fn server(broker: &TestBroker) -> TestServer {
    server_at(broker.address(), Store::ephemeral().unwrap()).await
}

pub(crate) async fn three_servers(broker: &TestBroker) -> [TestServer; 3] {
    [server(broker).await, server(broker).await, server(broker).await]
}

/// A server of the cluster whose broker is at `broker`.
pub(crate) async fn server_at(broker: SocketAddr, store: Store) -> TestServer {
    let brokers = vec![ClusterOptions::address(&format!("nats://{broker}")).unwrap()];
    let cluster = Some(ClusterOptions { brokers, token_file: None }.load().unwrap());
    let options = ServerOptions { cluster, ..ServerOptions::default() };
    TestServer::with(([127, 0, 0, 1], 0).into(), store, options).await
}

/// The servers as a peer knows them.
pub(crate) fn list(servers: &[&TestServer]) -> Servers {
    let texts: Vec<String> =
        servers.iter().map(|server| server.endpoints().websocket.to_string()).collect();
    Servers::from_texts(&texts).unwrap()
}

/// The way to a broker. While it is cut, nothing passes and nobody is told.
pub(crate) struct Cable {
    pub(crate) address: SocketAddr,
    plugged: watch::Sender<bool>,
    _passing: AbortOnDropHandle<()>,
}

impl Cable {
    pub(crate) async fn to(broker: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (plugged, watched) = watch::channel(true);
        let passing = tokio::spawn(async move {
            let mut connections = Vec::new();
            while let Ok((near, _)) = listener.accept().await {
                let connection = pass(near, broker, watched.clone());
                connections.push(AbortOnDropHandle::new(tokio::spawn(connection)));
            }
        });
        Self { address, plugged, _passing: AbortOnDropHandle::new(passing) }
    }

    pub(crate) fn cut(&self) {
        self.plugged.send_replace(false);
    }

    pub(crate) fn mend(&self) {
        self.plugged.send_replace(true);
    }
}

async fn pass(near: TcpStream, broker: SocketAddr, plugged: watch::Receiver<bool>) {
    let Ok(far) = TcpStream::connect(broker).await else { return };
    let (near, far) = (Arc::new(near), Arc::new(far));
    let there = one_way(Arc::clone(&near), Arc::clone(&far), plugged.clone());
    tokio::select! {
        () = there => {}
        () = one_way(far, near, plugged) => {}
    }
}

async fn one_way(from: Arc<TcpStream>, to: Arc<TcpStream>, mut plugged: watch::Receiver<bool>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        if plugged.wait_for(|plugged| *plugged).await.is_err() || from.readable().await.is_err() {
            return;
        }
        // What came while the cable was cut waits in the socket.
        if !*plugged.borrow() {
            continue;
        }
        let read = match from.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => return,
        };
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            match to.try_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    if to.writable().await.is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    }
}
