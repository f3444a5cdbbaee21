//! A worker and a laptop, with a server between them that changes, repeats, withholds and invents
//! parcels.

use super::Invited;
use super::failures::{Failures, MAX_FAILURES};
use super::host::Host;
use super::invitation::{MAX_CODES, Shared};
use super::news::InvitationNews;
use crate::pairing::{PairError, join};
use crate::worker::members::Members;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sleap_rtc_base::clock::now_s;
use sleap_rtc_protocol::ids::{DeviceName, RoomId, RoomName, Token};
use sleap_rtc_protocol::pairing::{MailboxEvent, MailboxRequest, Parcel};
use sleap_rtc_signaling::client::{Endpoints, Servers};
use sleap_rtc_signaling::server::{ServerOptions, run};
use sleap_rtc_signaling::store::Store;
use sleap_rtc_trust::certificate::MemberRole;
use sleap_rtc_trust::credential::{Credential, PeerPart, RoomToken};
use sleap_rtc_trust::device::DeviceKey;
use sleap_rtc_trust::pairing::{Code, Introduction, Invitation, JoinError, Joining};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};
use tokio_util::sync::CancellationToken;

/// The number of runs with a random plot.
const RUNS: u64 = 1_000;

/// What the server does with the four parcels of a laptop's pairing, counted from 0.
#[derive(Debug, Clone, Copy)]
enum Evil {
    /// Changes one bit.
    Flip { parcel: usize, at: usize },
    /// Replaces this parcel with an earlier one of the same pairing.
    Repeat { parcel: usize, earlier: usize },
    /// Replaces this parcel with one of the previous pairing.
    Record { parcel: usize },
    /// Drops this parcel, and disconnects.
    HangUp { parcel: usize },
    /// Guesses the words: plays the worker to the laptop.
    PlayWorker,
    /// Guesses the words: plays the worker to the laptop, and the laptop to the worker.
    PlayBoth,
}

impl Evil {
    fn draw(random: &mut StdRng) -> Self {
        let parcel = random.random_range(0..4);
        match random.random_range(0..6) {
            0 => Self::Flip { parcel, at: random.random_range(0..10_000) },
            1 => {
                let parcel = parcel.max(1);
                Self::Repeat { parcel, earlier: random.random_range(0..parcel) }
            }
            2 => Self::Record { parcel },
            3 => Self::HangUp { parcel },
            4 => Self::PlayWorker,
            _ => Self::PlayBoth,
        }
    }

    /// Whether the worker believes that the laptop has joined, while the laptop knows that it has
    /// not.
    fn is_after_the_grant(self) -> bool {
        matches!(
            self,
            Self::Flip { parcel: 3, .. }
                | Self::Repeat { parcel: 3, .. }
                | Self::Record { parcel: 3 }
                | Self::HangUp { parcel: 3 }
        )
    }
}

/// What passes through the evil server.
struct Between {
    evil: Evil,
    seen: Vec<Vec<u8>>,
    recorded: Vec<Vec<u8>>,
}

impl Between {
    /// The parcel that is forwarded instead of `parcel`. `None` if the server disconnects.
    fn pass(&mut self, mut parcel: Vec<u8>) -> Option<Vec<u8>> {
        let number = self.seen.len();
        self.seen.push(parcel.clone());
        match self.evil {
            Evil::Flip { parcel: which, at } if which == number => {
                let bits = parcel.len() * 8;
                parcel[at % bits / 8] ^= 1 << (at % 8);
            }
            Evil::Repeat { parcel: which, earlier } if which == number => {
                parcel.clone_from(&self.seen[earlier]);
            }
            Evil::Record { parcel: which } if which == number => {
                parcel.clone_from(self.recorded.get(number)?);
            }
            Evil::HangUp { parcel: which } if which == number => return None,
            _ => {}
        }
        Some(parcel)
    }
}

type Socket = WebSocket<TcpStream>;

fn dial(server: SocketAddr) -> Socket {
    let stream = TcpStream::connect(server).unwrap();
    tungstenite::client(format!("ws://{server}/pair"), stream).unwrap().0
}

/// The next parcel. `None` if the other end sends no more.
fn hear(socket: &mut Socket) -> Option<Vec<u8>> {
    loop {
        let text = match socket.read().ok()? {
            Message::Text(text) => text,
            Message::Ping(_) | Message::Pong(_) => continue,
            _ => return None,
        };
        if let Ok(MailboxRequest::Send { parcel }) = serde_json::from_str(&text) {
            return Some(parcel.bytes().to_vec());
        }
        match serde_json::from_str(&text) {
            Ok(MailboxEvent::Received { parcel }) => return Some(parcel.bytes().to_vec()),
            Ok(MailboxEvent::Joined) => {}
            _ => return None,
        }
    }
}

fn to_server(socket: &mut Socket, bytes: Vec<u8>) -> Option<()> {
    let frame = MailboxRequest::Send { parcel: Parcel::new(bytes).unwrap() };
    socket.send(Message::text(serde_json::to_string(&frame).unwrap())).ok()
}

fn send_event(socket: &mut Socket, event: &MailboxEvent) -> Option<()> {
    socket.send(Message::text(serde_json::to_string(event).unwrap())).ok()
}

fn received(bytes: Vec<u8>) -> MailboxEvent {
    MailboxEvent::Received { parcel: Parcel::new(bytes).unwrap() }
}

/// Serves one laptop. Returns every parcel that passed.
fn serve_badly(
    listener: &TcpListener,
    server: SocketAddr,
    evil: Evil,
    recorded: Vec<Vec<u8>>,
) -> Vec<Vec<u8>> {
    let (stream, _) = listener.accept().unwrap();
    let mut laptop = tungstenite::accept(stream).unwrap();
    let Ok(Message::Text(join)) = laptop.read() else { panic!("the laptop joins first") };
    let mut between = Between { evil, seen: Vec::new(), recorded };
    // How the laptop learns of the end does not matter.
    let _ = match evil {
        Evil::PlayWorker | Evil::PlayBoth => guess(&mut laptop, server, &join, evil),
        _ => pass_on(&mut laptop, server, &join, &mut between),
    };
    between.seen
}

fn pass_on(
    laptop: &mut Socket,
    server: SocketAddr,
    join: &str,
    between: &mut Between,
) -> Option<()> {
    let mut worker = dial(server);
    worker.send(Message::text(join)).ok()?;
    let Ok(Message::Text(joined)) = worker.read() else { return None };
    laptop.send(Message::Text(joined)).ok()?;
    for _ in 0..2 {
        let parcel = between.pass(hear(laptop)?)?;
        to_server(&mut worker, parcel)?;
        let parcel = between.pass(hear(&mut worker)?)?;
        send_event(laptop, &received(parcel))?;
    }
    Some(())
}

/// Plays the worker with guessed words, and perhaps the laptop too.
fn guess(laptop: &mut Socket, server: SocketAddr, join: &str, evil: Evil) -> Option<()> {
    let MailboxRequest::Join { mailbox } = serde_json::from_str(join).unwrap() else { return None };
    let code = Code::new(mailbox, &mut rand::rng());
    send_event(laptop, &MailboxEvent::Joined)?;
    let invitation = Invitation::new(code.clone());
    let (answered, second) = invitation.answer(&hear(laptop)?, &mut rand::rng()).ok()?;
    send_event(laptop, &received(second))?;
    let third = hear(laptop)?;
    assert!(answered.receive(&third).is_err(), "one of four million");
    if matches!(evil, Evil::PlayBoth) {
        let mut worker = dial(server);
        worker.send(Message::text(join)).ok()?;
        let (joining, first) = Joining::start(&code, &mut rand::rng());
        to_server(&mut worker, first)?;
        let (_, own_third) = joining.introduce(&hear(&mut worker)?, &laptop_of(9)).ok()?;
        to_server(&mut worker, own_third)?;
        assert!(hear(&mut worker).is_none(), "the worker answers a guess");
    }
    send_event(laptop, &received(third))
}

fn laptop_of(seed: u8) -> Introduction {
    let device = DeviceKey::from_bytes([seed; 32]).id();
    Introduction { device, name: DeviceName::nearest("laptop"), role: MemberRole::Client }
}

fn host() -> Host {
    let token = RoomToken::new(Token::new("t0ken").unwrap(), PeerPart::from_random([7; 48]));
    let room = Credential { room_id: RoomId::new("room").unwrap(), token: token.unwrap() };
    let device = DeviceKey::from_bytes([2; 32]).id();
    let members = Members::open(Path::new("/nonexistent"), &room, device, None).unwrap();
    Host {
        room,
        members: members.map(Arc::new),
        room_name: RoomName::nearest("northlab"),
        worker: "w".parse().unwrap(),
        name: DeviceName::nearest("gpu2"),
        device: Some(device),
    }
}

/// A server, and a worker's invitation there.
struct Scene {
    server: SocketAddr,
    news: mpsc::Receiver<InvitationNews>,
    _end: tokio_util::sync::DropGuard,
}

impl Scene {
    async fn server() -> (SocketAddr, CancellationToken) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (server, end) = (listener.local_addr().unwrap(), CancellationToken::new());
        let (store, options) = (Store::ephemeral().unwrap(), ServerOptions::default());
        tokio::spawn(run(vec![listener], store, options, end.clone()));
        (server, end)
    }

    /// An invitation of a worker without earlier failures.
    fn invite(server: SocketAddr, end: &CancellationToken) -> Self {
        let servers = servers(server);
        let failures = Failures::default().into();
        let shared = Shared { servers, signaling: None, host: host(), failures };
        let (sender, news) = mpsc::channel(64);
        let end = end.child_token();
        let inviting = end.clone();
        tokio::spawn(async move {
            let invited = Invited::of(MemberRole::Client);
            let invite = shared.invite(&invited, &sender);
            inviting.run_until_cancelled(invite).await;
        });
        Self { server, news, _end: end.drop_guard() }
    }

    async fn next(&mut self) -> InvitationNews {
        let next = tokio::time::timeout(Duration::from_secs(20), self.news.recv()).await;
        next.expect("news in time").expect("news before the end")
    }

    async fn code(&mut self) -> Code {
        loop {
            if let InvitationNews::Code { code, .. } = self.next().await {
                return code.parse().unwrap();
            }
        }
    }

    /// An honest laptop can pair, with the current code or the next one.
    async fn let_in(mut self, mut code: Code) {
        let server = servers(self.server);
        loop {
            match join(&server, &code, &laptop_of(3)).await {
                Ok((grant, words)) => {
                    let authority = host().room.peer().unwrap().authority();
                    let certificate = grant.certificate.unwrap();
                    let (device, role) = (laptop_of(3).device, MemberRole::Client);
                    certificate.check(&authority, &device, role, now_s()).unwrap();
                    assert_eq!(grant.room, host().room.for_members());
                    let InvitationNews::Paired { words: shown, .. } = self.next().await else {
                        panic!("the worker knows of nobody");
                    };
                    return assert_eq!(shown, words.to_string());
                }
                // The server has not noticed yet that the other laptop has left.
                Err(PairError::Mailbox(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(_) => code = self.code().await,
            }
        }
    }
}

fn servers(server: SocketAddr) -> Servers {
    Endpoints::from_one(&format!("ws://{server}")).unwrap().into()
}

/// One pairing through the evil server. Returns what passed through it.
async fn run_badly(
    server: SocketAddr,
    end: &CancellationToken,
    evil: Evil,
    recorded: Vec<Vec<u8>>,
) -> Vec<Vec<u8>> {
    let mut scene = Scene::invite(server, end);
    let code = scene.code().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own_server = servers(listener.local_addr().unwrap());
    let serving =
        tokio::task::spawn_blocking(move || serve_badly(&listener, server, evil, recorded));
    let start = Instant::now();
    let joined = join(&own_server, &code, &laptop_of(1)).await;
    assert!(start.elapsed() < Duration::from_secs(11));
    let error = joined.expect_err(&format!("{evil:?} was not noticed"));
    assert!(error.to_string().len() > 20 && error.advice().is_some(), "{error}");
    let seen = serving.await.unwrap();
    if evil.is_after_the_grant() && seen.len() == 4 {
        assert!(matches!(scene.next().await, InvitationNews::Paired { .. }), "{evil:?}");
    } else {
        scene.let_in(code).await;
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_server_changes_repeats_or_invents_is_accepted() {
    let (server, end) = Scene::server().await;
    let mut random = StdRng::seed_from_u64(11);
    let mut recorded = Vec::new();
    for _ in 0..RUNS {
        let evil = Evil::draw(&mut random);
        let seen = run_badly(server, &end, evil, recorded.clone()).await;
        if seen.len() == 4 {
            recorded = seen;
        }
    }
    end.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_five_spoiled_codes_the_user_hears_of_the_pause() {
    let (server, end) = Scene::server().await;
    let mut scene = Scene::invite(server, &end);
    for _ in 0..MAX_FAILURES {
        let code = scene.code().await;
        let guess = Code::new(code.mailbox(), &mut rand::rng());
        join(&servers(server), &guess, &laptop_of(1)).await.expect_err("one of four million");
        assert_eq!(scene.next().await, InvitationNews::Spoiled);
    }
    let last = scene.next().await;
    assert!(matches!(last, InvitationNews::Paused { for_s: 1..=3_600 }), "{last:?}");
    end.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_up_at_each_code_is_named_as_the_cause() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (server, end) = (listener.local_addr().unwrap(), CancellationToken::new());
    let hanging_up = tokio::task::spawn_blocking(move || {
        let mailbox = "4-harbor-violin".parse::<Code>().unwrap().mailbox();
        for _ in 0..MAX_CODES {
            let mut worker = tungstenite::accept(listener.accept().unwrap().0).unwrap();
            let _open = worker.read().unwrap();
            let opened = MailboxEvent::Opened { mailbox, expires_s: 600 };
            send_event(&mut worker, &opened).unwrap();
        }
    });
    let mut scene = Scene::invite(server, &end);
    for _ in 0..MAX_CODES {
        scene.code().await;
    }
    let last = scene.next().await;
    assert!(matches!(&last, InvitationNews::NoServer { why } if why.contains("lost")), "{last:?}");
    hanging_up.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stands_still_costs_ten_seconds() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = servers(listener.local_addr().unwrap());
    let code = "4-harbor-violin".parse().unwrap();
    let start = Instant::now();
    let error = join(&server, &code, &laptop_of(1)).await.unwrap_err();
    assert!(matches!(error, PairError::Join(JoinError::Late) | PairError::Mailbox(_)), "{error}");
    assert!(start.elapsed() < Duration::from_secs(12));
}
