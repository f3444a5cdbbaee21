//! A stranger attacks the signaling server while a lab's job runs on it.
//!
//! Each attack gets the answer that `docs/signaling.md` documents, the server's memory stays flat,
//! and the job does not notice. The test prints its measurements.

mod guesses;

use crate::support::*;
use crate::wrong_types::wrong_in_each_place;
use rusqlite::{Connection, OpenFlags};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use serde_json::{Value, json};
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_signaling::identity::{Key, LIFETIME_S, Signer};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

/// The number of sockets to open, unless the environment sets another one.
const SOCKETS: u32 = 5_000;
const AT_ONCE: u32 = 64;
/// The memory that the allocator may keep after an attack.
const FLAT_MIB: f64 = 24.0;

/// A peer with an identity, and a socket that sends whatever a test wants.
struct Stranger {
    socket: WebSocket<TcpStream>,
    peer_id: String,
    id_token: String,
}

fn dial(server: SocketAddr) -> WebSocket<TcpStream> {
    dial_from(Ipv4Addr::LOCALHOST, server)
}

fn dial_from(address: Ipv4Addr, server: SocketAddr) -> WebSocket<TcpStream> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from((address, 0))).unwrap();
    connect(&socket, &server).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(SOON)).unwrap();
    tungstenite::client(format!("ws://{server}/"), stream).unwrap().0
}

fn create_room(server: SocketAddr, id_token: &str) -> (String, String) {
    let (status, room) = post(server, "/create-room", Some(id_token), "");
    assert_eq!(status, 200, "{room}");
    (room["room_id"].as_str().unwrap().into(), room["token"].as_str().unwrap().into())
}

impl Stranger {
    fn new(server: SocketAddr) -> Self {
        let (status, identity) = post(server, "/anonymous-signin", None, "");
        assert_eq!(status, 200, "{identity}");
        let text = |key: &str| identity[key].as_str().unwrap().to_owned();
        let (peer_id, id_token) = (text("username"), text("id_token"));
        Self { socket: dial(server), peer_id, id_token }
    }

    /// The same identity on another socket.
    fn again(&self, socket: WebSocket<TcpStream>) -> Self {
        Self { socket, peer_id: self.peer_id.clone(), id_token: self.id_token.clone() }
    }

    /// Registered in a room of its own.
    fn at_home(server: SocketAddr) -> (Self, (String, String)) {
        let mut stranger = Self::new(server);
        let room = create_room(server, &stranger.id_token);
        stranger.enter(&room);
        (stranger, room)
    }

    fn registration(&self, room: &(String, String)) -> Value {
        json!({
            "type": "register", "peer_id": self.peer_id, "id_token": self.id_token,
            "room_id": room.0, "token": room.1, "role": "peer",
            "metadata": {"tags": ["a"], "properties": {"n": 1}},
        })
    }

    fn enter(&mut self, room: &(String, String)) {
        let answer = self.ask(&self.registration(room));
        assert_eq!(answer["type"], "registered_auth", "{answer}");
    }

    fn say(&mut self, frame: &Value) {
        self.socket.send(Message::text(frame.to_string())).unwrap();
    }

    fn hear(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.socket.read().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    fn ask(&mut self, frame: &Value) -> Value {
        self.say(frame);
        self.hear()
    }

    #[track_caller]
    fn refused(&mut self, frame: &Value, code: &str) {
        let answer = self.ask(frame);
        assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!(code)), "{frame}");
        assert!(answer["message"].as_str().is_some_and(|text| !text.is_empty()));
    }

    /// The code with which the server closes. Skips everything before.
    fn close_code(&mut self) -> Option<u16> {
        loop {
            match self.socket.read() {
                Ok(Message::Close(frame)) => return frame.map(|frame| frame.code.into()),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }
}

fn resident_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

#[test]
fn a_job_continues_and_memory_stays_flat_while_strangers_attack() {
    let site = Site::new();
    let server = TestServer::persistent(&site);
    let worker = site.worker(&server);
    let (address, victim) = (server.address(), worker.credentials());
    let pid = server.pid();
    sockets_without_end(address, AT_ONCE * 4);
    let before = resident_mib(pid);
    let jobs = thread::scope(|scope| {
        let attack = scope.spawn(|| attack(address, victim, pid));
        let mut jobs = 0;
        while jobs == 0 || !attack.is_finished() {
            let client = site.client(&server).train(&fixture("train_single.zip"));
            client.auto(victim).run().assert_code(0);
            jobs += 1;
        }
        attack.join().unwrap();
        jobs
    });
    let after = resident_mib(pid);
    println!("server: {before:.1} MiB before, {after:.1} MiB after; {jobs} jobs undisturbed");
    assert!(after - before < FLAT_MIB, "grew from {before:.1} to {after:.1} MiB");
    worker.wait_idle(&site, &server);
}

fn attack(server: SocketAddr, victim: &Credentials, pid: u32) {
    let measured = |what: &str, attack: &dyn Fn()| {
        let start = Instant::now();
        attack();
        let took = start.elapsed().as_secs_f64();
        println!("{what}: {took:.2} s, server at {:.1} MiB", resident_mib(pid));
    };
    measured("false names", &|| false_names(server, victim));
    measured("messages across rooms", &|| across_rooms(server, victim));
    measured("deletes of what is another's", &|| foreign_deletes(server, victim));
    measured("malformed frames", &|| malformed(server));
    measured("wrong types everywhere", &|| wrong_types(server));
    measured("slow reader", &|| slow_reader(server));
    let sockets = std::env::var("SLEAP_RTC_ABUSE_SOCKETS").ok();
    let sockets = sockets.map_or(SOCKETS, |text| text.parse().expect("a number of sockets"));
    measured(&format!("{sockets} sockets"), &|| sockets_without_end(server, sockets));
}

/// Spoofed senders, with and without a registration, and the takeover of a peer id.
fn false_names(server: SocketAddr, victim: &Credentials) {
    let (mut liar, room) = Stranger::at_home(server);
    let (lied, own) = (&victim.peer_id, liar.peer_id.clone());
    for frame in [
        json!({"type": "offer", "sender": lied, "target": own, "sdp": "v=0"}),
        json!({"type": "answer", "sender": own, "peer_id": lied, "target": own, "sdp": "v=0"}),
        json!({"type": "candidate", "sender": lied, "target": lied, "candidate": ""}),
        json!({"type": "peer_message", "from_peer_id": lied, "to_peer_id": own, "payload": {}}),
        json!({"type": "error", "sender": lied, "target": own, "reason": "worker_busy"}),
        json!({"type": "update_metadata", "peer_id": lied, "metadata": {}}),
        json!({"type": "discover_peers", "from_peer_id": lied}),
        json!({"type": "watch_peers", "from_peer_id": lied}),
    ] {
        liar.refused(&frame, "SENDER_MISMATCH");
    }
    let mut nobody = Stranger::new(server);
    for kind in ["offer", "answer", "candidate", "peer_message", "error", "update_metadata"] {
        let frame = json!({"type": kind, "sender": lied, "target": lied, "metadata": {}});
        nobody.refused(&frame, "NOT_IN_ROOM");
    }
    // With its own room and with the victim's. Only the victim's identity would help.
    let into = |room: &(String, String)| {
        let mut frame = nobody.registration(room);
        frame["peer_id"] = json!(lied);
        frame
    };
    let theirs = (victim.room_id.clone(), victim.server_token().to_owned());
    let attempts = [into(&room), into(&theirs)];
    attempts.iter().for_each(|frame| nobody.refused(frame, "IDENTITY_REFUSED"));
}

fn across_rooms(server: SocketAddr, victim: &Credentials) {
    let (mut outsider, _) = Stranger::at_home(server);
    let target = &victim.peer_id;
    for kind in ["offer", "answer", "candidate", "error"] {
        outsider.refused(&json!({"type": kind, "target": target, "sdp": ""}), "PEER_NOT_FOUND");
    }
    let frame = json!({"type": "peer_message", "to_peer_id": target, "payload": {}});
    outsider.refused(&frame, "PEER_NOT_FOUND");
    let list = outsider.ask(&json!({"type": "discover_peers"}));
    assert_eq!(list["count"], 0);
    let frame = json!({"type": "discover_peers", "filters": {"room_id": victim.room_id}});
    outsider.refused(&frame, "NOT_IN_ROOM");
}

fn foreign_deletes(server: SocketAddr, victim: &Credentials) {
    let (stranger, _) = Stranger::at_home(server);
    let bodies = [json!({"peer_id": victim.peer_id}), json!({"room_id": victim.room_id})];
    for path in ["/delete-peer", "/delete-peers-and-room"] {
        for body in &bodies {
            assert_eq!(post(server, path, None, &body.to_string()).0, 401, "{path} {body}");
            assert_eq!(post(server, path, Some("e30.e30.e30"), &body.to_string()).0, 401);
        }
    }
    for (path, body) in
        [("/delete-peer", 0), ("/delete-peers-and-room", 0), ("/delete-peers-and-room", 1)]
    {
        let answer = post(server, path, Some(&stranger.id_token), &bodies[body].to_string());
        assert_eq!(answer.0, 403, "{path} {}", answer.1);
    }
}

fn malformed(server: SocketAddr) {
    let (mut stranger, _) = Stranger::at_home(server);
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let offer = |depth| format!(r#"{{"type":"offer","target":"x","sdp":{}}}"#, nested(depth));
    for (text, code) in [
        ("{".to_owned(), "INVALID_JSON"),
        ("[".repeat(500_000), "INVALID_MESSAGE"),
        (offer(500_000), "INVALID_MESSAGE"),
        (offer(64), "INVALID_MESSAGE"),
        (offer(60), "PEER_NOT_FOUND"),
        ("7".into(), "INVALID_MESSAGE"),
        (r#"{"type":"sing"}"#.into(), "UNKNOWN_MESSAGE_TYPE"),
    ] {
        stranger.socket.send(Message::text(text.clone())).unwrap();
        assert_eq!(stranger.hear()["code"], code, "{}", &text[..text.len().min(60)]);
    }
    // Up to a bound.
    for _ in 0..40 {
        let _ = stranger.socket.send(Message::text("{"));
    }
    assert_eq!(stranger.close_code(), Some(1008));
    let (mut loud, _) = Stranger::at_home(server);
    let _ = loud.socket.send(Message::text("x".repeat((1 << 20) + 1)));
    assert!(matches!(loud.close_code(), Some(1009) | None), "the socket is closed");
}

/// Every value of every frame, however deep, becomes each kind of wrong value.
fn wrong_types(server: SocketAddr) {
    let (mut stranger, room) = Stranger::at_home(server);
    let (me, frames) = (stranger.peer_id.clone(), examples(&stranger, &room));
    let marker = json!({"type": "discover_peers", "filters": {"tags": ["end of this one"]}});
    let (mut sent, mut refused) = (0, 0);
    for frame in frames {
        for bad in wrong_in_each_place(&frame) {
            sent += 1;
            stranger.say(&bad);
            if bad["type"] == "register" {
                // Its socket may close after the answer, because few refused registrations are
                // allowed, and one without a token is for another kind of server.
                refused += u32::from(stranger.hear()["type"] == "error");
                stranger.socket = dial(server);
                stranger.enter(&room);
                continue;
            }
            stranger.say(&marker);
            loop {
                let answer = stranger.hear();
                refused += u32::from(answer["type"] == "error");
                if answer["type"] == "peer_list" && answer["count"] == 0 {
                    break;
                }
            }
            assert_eq!(stranger.peer_id, me);
        }
    }
    println!("  {sent} frames with a wrong type, {refused} refused, each answered");
    assert!(refused > sent / 3, "{refused} of {sent}");
}

/// One valid example of each frame that a peer may send.
fn examples(peer: &Stranger, room: &(String, String)) -> Vec<Value> {
    let me = &peer.peer_id;
    let filters = json!({"role": "worker", "room_id": room.0, "tags": ["a"],
        "properties": {"n": {"$gte": 1, "$in": [1]}}});
    vec![
        peer.registration(room),
        json!({"type": "discover_peers", "from_peer_id": me, "filters": filters, "limit": 3,
            "after": "b"}),
        json!({"type": "watch_peers", "from_peer_id": me, "filters": filters}),
        json!({"type": "unwatch_peers", "from_peer_id": me}),
        json!({"type": "get_ice_servers", "from_peer_id": me}),
        json!({"type": "update_metadata", "peer_id": me,
            "metadata": {"tags": ["a"], "properties": {"n": 1}}}),
        json!({"type": "offer", "sender": me, "target": "b", "sdp": "v=0", "attempt": 1}),
        json!({"type": "answer", "sender": me, "target": "b", "sdp": "v=0", "attempt": 1}),
        json!({"type": "candidate", "sender": me, "target": "b", "candidate": "c"}),
        json!({"type": "peer_message", "from_peer_id": me, "to_peer_id": "b",
            "payload": {"app_message_type": "job_request"}}),
        json!({"type": "error", "sender": me, "target": "b", "code": "c", "reason": "worker_busy",
            "message": "m", "current_status": "busy", "attempt": 1}),
    ]
}

fn slow_reader(server: SocketAddr) {
    let (mut loud, room) = Stranger::at_home(server);
    let mut deaf = Stranger::new(server);
    deaf.enter(&room);
    let payload = "x".repeat(512 * 1024);
    let frame = json!({"type": "peer_message", "to_peer_id": deaf.peer_id, "payload": payload});
    // The deaf peer never reads, so the system's buffers and the queue are soon full.
    let text = frame.to_string();
    loud.socket.get_ref().set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let start = Instant::now();
    let refusal = loop {
        assert!(start.elapsed() < SOON, "a reader that does not read keeps its socket");
        loud.socket.send(Message::text(text.clone())).unwrap();
        if let Ok(Message::Text(answer)) = loud.socket.read() {
            break serde_json::from_str::<Value>(&answer).unwrap();
        }
    };
    let code = refusal["code"].as_str().unwrap();
    assert!(matches!(code, "DELIVERY_FAILED" | "PEER_NOT_FOUND"), "{refusal}");
}

/// Opens WebSockets from addresses all over 127.0.0.0/8 and drops them.
fn sockets_without_end(server: SocketAddr, count: u32) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let opened: u32 = runtime.block_on(async {
        let openers = (0..AT_ONCE).map(|n| tokio::spawn(open_in_turn(server, n, count / AT_ONCE)));
        let mut opened = 0;
        for opener in openers.collect::<Vec<_>>() {
            opened += opener.await.unwrap();
        }
        opened
    });
    assert_eq!(opened, count / AT_ONCE * AT_ONCE, "each was answered");
}

async fn open_in_turn(server: SocketAddr, opener: u32, count: u32) -> u32 {
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {server}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let mut opened = 0;
    for n in 0..count {
        let from =
            IpAddr::from([127, 1 + (n / 200 % 200) as u8, opener as u8, 1 + (n % 200) as u8]);
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let mut stream = socket.connect(server).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        opened += u32::from(&answer == b"HTTP/1.1 101");
    }
    opened
}

/// The server's key, which only someone with access to its disk can read.
fn signer(state: &std::path::Path) -> Signer {
    let connection = Connection::open_with_flags(state, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let key: Key =
        connection.query_row("SELECT key FROM signing_key", [], |row| row.get(0)).unwrap();
    Signer::new(key)
}

#[test]
fn an_expired_or_foreign_identity_opens_nothing_and_can_only_be_renewed() {
    let site = Site::new();
    let server = TestServer::persistent(&site);
    let (mut stranger, room) = Stranger::at_home(server.address());
    let state =
        files_below(site.path()).into_iter().find(|path| path.ends_with("signaling.sqlite"));
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let peer = PeerId::new(stranger.peer_id.clone()).unwrap();
    let old = signer(&site.path().join(state.expect("a state file")))
        .sign(&peer, now_s - LIFETIME_S - 1)
        .unwrap();
    let foreign = Signer::new([7; 32]).sign(&peer, now_s).unwrap();
    for (token, code) in [(&old, "IDENTITY_EXPIRED"), (&foreign, "IDENTITY_REFUSED")] {
        let mut frame = stranger.registration(&room);
        frame["id_token"] = json!(token.as_str());
        stranger.refused(&frame, code);
        assert_eq!(post(server.address(), "/create-room", Some(token.as_str()), "").0, 401);
    }
    let renewed = post(server.address(), "/anonymous-signin", Some(old.as_str()), "");
    assert_eq!((renewed.0, &renewed.1["username"]), (200, &json!(stranger.peer_id)));
    let renewal = post(server.address(), "/anonymous-signin", Some(foreign.as_str()), "");
    assert_eq!(renewal.0, 401);
    // A deleted room does not return with its old token.
    let body = json!({"room_id": room.0}).to_string();
    let own = Some(stranger.id_token.as_str());
    assert_eq!(post(server.address(), "/delete-peers-and-room", own, &body).0, 200);
    assert_eq!(stranger.close_code(), Some(4002));
    stranger.socket = dial(server.address());
    let frame = stranger.registration(&room);
    stranger.refused(&frame, "ROOM_NOT_FOUND");
}
