//! A peer that watches a room from outside, as a Python program could.

use crate::{Credentials, SOON, TestServer, post, wait_for};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use serde_json::{Value, json};
use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

/// Registered in a room. Speaks plain JSON.
pub struct Observer {
    socket: WebSocket<TcpStream>,
    peer_id: String,
}

impl Observer {
    /// Joins the room of `credentials`.
    pub fn join(server: &TestServer, credentials: &Credentials) -> Self {
        Self::join_at(server.address(), &credentials.room_id, &credentials.token)
    }

    /// Joins a room on the server at `server`.
    pub fn join_at(server: SocketAddr, room_id: &str, token: &str) -> Self {
        Self::join_as("client", server, room_id, token)
    }

    /// Joins the room of `credentials` as a free worker.
    pub fn join_as_worker(server: &TestServer, credentials: &Credentials) -> Self {
        Self::join_as("worker", server.address(), &credentials.room_id, &credentials.token)
    }

    fn join_as(role: &str, server: SocketAddr, room_id: &str, token: &str) -> Self {
        let metadata = json!({"tags": ["observer"], "properties": {"status": "available"}});
        Self::join_from(Ipv4Addr::LOCALHOST, role, metadata, server, (room_id, token))
    }

    /// Joins a room from another address of this machine, with metadata of its own.
    pub fn join_from(
        address: Ipv4Addr,
        role: &str,
        metadata: Value,
        server: SocketAddr,
        (room_id, token): (&str, &str),
    ) -> Self {
        // What Python programs have of a token, and the server.
        let token = token.split('.').next().unwrap_or_default();
        let (status, identity) = post(server, "/anonymous-signin", None, "");
        assert_eq!(status, 200, "sign-in: {identity}");
        let peer_id = identity["username"].as_str().expect("a user name").to_owned();
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&socket, &SocketAddr::from((address, 0))).unwrap();
        connect(&socket, &server).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(SOON)).unwrap();
        let (socket, _) = tungstenite::client(format!("ws://{server}/"), stream).unwrap();
        let mut observer = Self { socket, peer_id };
        observer.send(&json!({
            "type": "register", "peer_id": observer.peer_id, "room_id": room_id, "token": token,
            "id_token": identity["id_token"], "role": role,
            "metadata": metadata,
        }));
        observer.receive("registered_auth");
        observer
    }

    /// Its peer id.
    pub fn peer_id(&self) -> &str {
        &self.peer_id
    }

    /// Sends a frame without changes.
    pub fn send(&mut self, frame: &Value) {
        self.socket.send(Message::text(frame.to_string())).unwrap();
    }

    /// The next frame of this type. Skips all others.
    #[track_caller]
    pub fn receive(&mut self, kind: &str) -> Value {
        let start = Instant::now();
        loop {
            // The server sends pings for as long as it lives, so this loop ends.
            assert!(start.elapsed() < SOON, "no `{kind}` frame");
            let message = self.socket.read().unwrap_or_else(|e| panic!("no `{kind}` frame: {e}"));
            let Message::Text(text) = message else { continue };
            let frame: Value = serde_json::from_str(&text).unwrap();
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// The next frame, if one arrives within `limit`. `None` if the server has closed.
    pub fn hear(&mut self, limit: Duration) -> Option<Value> {
        self.socket.get_ref().set_read_timeout(Some(limit)).unwrap();
        let start = Instant::now();
        let heard = loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => break serde_json::from_str(&text).ok(),
                Ok(_) if start.elapsed() < limit => {}
                _ => break None,
            }
        };
        self.socket.get_ref().set_read_timeout(Some(SOON)).unwrap();
        heard
    }

    /// Sends a frame, unless the server has closed.
    pub fn try_send(&mut self, frame: &Value) -> bool {
        self.socket.send(Message::text(frame.to_string())).is_ok()
    }

    /// The workers in the room, with any status.
    pub fn workers(&mut self) -> Vec<Value> {
        self.list("worker")
    }

    /// The ids of the other peers with this role.
    pub fn peers(&mut self, role: &str) -> Vec<String> {
        let id = |peer: &Value| peer["peer_id"].as_str().unwrap().to_owned();
        self.list(role).iter().map(id).collect()
    }

    fn list(&mut self, role: &str) -> Vec<Value> {
        let frame = json!({
            "type": "discover_peers", "from_peer_id": self.peer_id, "filters": {"role": role},
        });
        self.send(&frame);
        self.receive("peer_list")["peers"].as_array().expect("a list of peers").clone()
    }

    /// The code with which the server closes the connection.
    pub fn close_code(&mut self) -> Option<u16> {
        loop {
            match self.socket.read() {
                Ok(Message::Close(frame)) => return frame.map(|frame| frame.code.into()),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// The status of `worker` in the room, or `None` if it is absent.
    pub fn status(&mut self, worker: &str) -> Option<String> {
        let workers = self.workers();
        let found = workers.iter().find(|peer| peer["peer_id"] == worker)?;
        Some(found["metadata"]["properties"]["status"].as_str()?.to_owned())
    }

    /// The properties of `worker` in the room.
    #[track_caller]
    pub fn properties(&mut self, worker: &str) -> Value {
        let workers = self.workers();
        let found = workers.iter().find(|peer| peer["peer_id"] == worker);
        found.expect("the worker is in the room")["metadata"]["properties"].clone()
    }

    /// Waits until the properties of `worker` are as `wanted`, and returns them.
    #[track_caller]
    pub fn wait_properties(
        &mut self,
        worker: &str,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        wait_for(what, SOON, || Some(self.properties(worker)).filter(&wanted))
    }

    /// Waits until the room shows `worker` with `status`.
    #[track_caller]
    pub fn wait_status(&mut self, worker: &str, status: &str, limit: Duration) {
        let mut last = None;
        wait_for(&format!("{worker} to be {status}"), limit, || {
            last = self.status(worker);
            (last.as_deref() == Some(status)).then_some(())
        });
    }
}

/// Records each change of a worker's status in the room.
pub struct StatusTrace {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Vec<String>>,
}

impl StatusTrace {
    /// Starts recording. Returns once it has seen the first status.
    pub fn of(server: &TestServer, worker: &Credentials) -> Self {
        let mut observer = Observer::join(server, worker);
        let first = observer.status(&worker.peer_id).unwrap_or_else(|| "absent".into());
        let stop = Arc::new(AtomicBool::new(false));
        let (seen_stop, peer_id) = (Arc::clone(&stop), worker.peer_id.clone());
        let task = thread::spawn(move || {
            let mut seen = vec![first];
            while !seen_stop.load(Ordering::Relaxed) {
                let now = observer.status(&peer_id).unwrap_or_else(|| "absent".into());
                if seen.last() != Some(&now) {
                    seen.push(now);
                }
                thread::sleep(Duration::from_millis(5));
            }
            seen
        });
        Self { stop, task }
    }

    /// All statuses in order, without repetitions.
    pub fn finish(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.join().expect("the trace")
    }
}
