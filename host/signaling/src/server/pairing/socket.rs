//! One socket at a mailbox: of the device that opened it, or of one that has joined.

use super::mailboxes::Delivery;
use crate::server::rate_limit::FrameLimit;
use crate::server::strangers::Stranger;
use crate::server::{Limits, Server};
use crate::{PING_EVERY, SILENCE_LIMIT, WRITE_DEADLINE};
use futures_util::{SinkExt, StreamExt};
use sleap_rtc_protocol::pairing::{MailboxErrorCode, MailboxEvent, MailboxNumber, MailboxRequest};
use std::convert::Infallible;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

/// How long a socket may take to say what it wants.
const FIRST_FRAME_DEADLINE: Duration = Duration::from_secs(10);
/// How long a device that has joined may stay: people wait for it.
const JOINED_FOR: Duration = Duration::from_secs(60);
/// How long the closing handshake may take.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
/// Parcels that one side may send in one exchange, twice as many as pairing takes.
const MAX_PARCELS: u32 = 8;
/// What may wait for a socket. A device that reads nothing loses it.
const QUEUE: usize = 16;

/// Why a socket ends.
enum SocketEnd {
    /// The device closed it, is gone, or has nothing more to hear.
    Gone,
    /// It is told why.
    Refused(MailboxErrorCode),
}

type SocketResult<T> = Result<T, SocketEnd>;

/// Serves one socket until it ends, its time is over, or the server stops.
pub(crate) async fn serve<S>(
    mut ws: WebSocketStream<S>,
    server: &Server,
    address: IpAddr,
    stranger: &Stranger,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let end = tokio::select! {
        end = converse(&mut ws, server, address) => end,
        () = server.shutdown.cancelled() => SocketEnd::Gone,
        () = stranger.evicted() => return,
    };
    if let SocketEnd::Refused(code) = end {
        server.counters.pairings_refused.count();
        let event = MailboxEvent::Error { code, message: words(code).to_owned() };
        let _ = send(&mut ws, &event).await;
    }
    let _ = timeout(CLOSE_DEADLINE, close(&mut ws)).await;
}

fn words(code: MailboxErrorCode) -> &'static str {
    match code {
        MailboxErrorCode::NoMailbox => "nobody waits at this mailbox",
        MailboxErrorCode::Occupied => "another device is at this mailbox",
        MailboxErrorCode::Expired => "the time of this mailbox is over",
        MailboxErrorCode::TooManyTries => "too many devices have tried this mailbox",
        MailboxErrorCode::TooManyFromAddress => {
            "your address pairs too often; try again within the hour, or raise \
             `pairings_per_address`"
        }
        MailboxErrorCode::Full => "all mailboxes are taken; try again in some minutes",
        MailboxErrorCode::InvalidFrame | MailboxErrorCode::Unknown => {
            "this frame is not expected here"
        }
    }
}

async fn converse<S>(ws: &mut WebSocketStream<S>, server: &Server, address: IpAddr) -> SocketEnd
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let first = async {
        loop {
            if let Some(request) = next(ws).await? {
                return Ok(request);
            }
        }
    };
    let staying = match timeout(FIRST_FRAME_DEADLINE, first).await {
        Ok(Ok(request)) => enter(ws, server, address, request).await,
        Ok(Err(end)) => Err(end),
        Err(_) => Err(SocketEnd::Gone),
    };
    match staying {
        Ok(never) => match never {},
        Err(end) => end,
    }
}

async fn enter<S>(
    ws: &mut WebSocketStream<S>,
    server: &Server,
    address: IpAddr,
    request: MailboxRequest,
) -> SocketResult<Infallible>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if !server.addresses.try_count_pairing(address, Instant::now()) {
        return Err(SocketEnd::Refused(MailboxErrorCode::TooManyFromAddress));
    }
    let (to_self, inbox) = mpsc::channel(QUEUE);
    match request {
        MailboxRequest::Open => {
            let life = server.options.limits.pair_within;
            let until = Instant::now() + life;
            let taken =
                server.cluster.as_ref().map(|cluster| cluster.mailboxes()).unwrap_or_default();
            let opened = server.mailboxes().open(to_self, until, &taken, &mut rand::rng());
            let mailbox = opened.map_err(SocketEnd::Refused)?;
            let guard = MailboxGuard { server, mailbox, joined: None };
            send(ws, &MailboxEvent::Opened { mailbox, expires_s: life.as_secs() }).await?;
            MailboxSocket::new(ws, inbox, until, guard).stay().await
        }
        MailboxRequest::Join { mailbox } => {
            let joined = server.mailboxes().join(mailbox, to_self, Instant::now());
            let owner = joined.map_err(SocketEnd::Refused)?;
            server.counters.pairings.count();
            let guard = MailboxGuard { server, mailbox, joined: Some(owner) };
            send(ws, &MailboxEvent::Joined).await?;
            MailboxSocket::new(ws, inbox, Instant::now() + JOINED_FOR, guard).stay().await
        }
        MailboxRequest::Send { .. } => Err(SocketEnd::Refused(MailboxErrorCode::InvalidFrame)),
    }
}

/// A place at a mailbox; gives it up when dropped.
struct MailboxGuard<'s> {
    server: &'s Server,
    mailbox: MailboxNumber,
    /// How the owner is reached, for the device that has joined.
    joined: Option<mpsc::Sender<Delivery>>,
}

impl Drop for MailboxGuard<'_> {
    fn drop(&mut self) {
        let mut mailboxes = self.server.mailboxes();
        match &self.joined {
            Some(owner) => mailboxes.leave(self.mailbox, owner),
            None => mailboxes.close(self.mailbox),
        }
    }
}

/// A socket at its mailbox.
struct MailboxSocket<'a, S> {
    ws: &'a mut WebSocketStream<S>,
    inbox: mpsc::Receiver<Delivery>,
    /// The other device, where there is one.
    other: Option<mpsc::Sender<Delivery>>,
    parcels: u32,
    until: Instant,
    heard: Instant,
    limits: &'a Limits,
    frame_limit: FrameLimit,
    ping: Interval,
    guard: MailboxGuard<'a>,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> MailboxSocket<'a, S> {
    fn new(
        ws: &'a mut WebSocketStream<S>,
        inbox: mpsc::Receiver<Delivery>,
        until: Instant,
        guard: MailboxGuard<'a>,
    ) -> Self {
        let mut ping = interval(PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (other, heard) = (guard.joined.clone(), Instant::now());
        let (limits, frame_limit) = (&guard.server.options.limits, FrameLimit::new(heard));
        Self { ws, inbox, other, parcels: 0, until, heard, limits, frame_limit, ping, guard }
    }

    async fn stay(mut self) -> SocketResult<Infallible> {
        loop {
            tokio::select! {
                delivery = self.inbox.recv() => self.pass_on(delivery).await?,
                request = next(self.ws) => {
                    self.heard = Instant::now();
                    if let Some(request) = request? {
                        self.take(request)?;
                    }
                    sleep(self.frame_limit.spend(0, self.limits, self.heard)).await;
                }
                _ = self.ping.tick() => {
                    if self.heard.elapsed() > SILENCE_LIMIT {
                        return Err(SocketEnd::Gone);
                    }
                    write(self.ws, Message::Ping(Bytes::new())).await?;
                }
                () = sleep_until(self.until.into()) => {
                    return Err(SocketEnd::Refused(MailboxErrorCode::Expired));
                }
            }
        }
    }

    /// Tells the device what the other one, or the mailbox, has for it.
    async fn pass_on(&mut self, delivery: Option<Delivery>) -> SocketResult<()> {
        let event = match delivery {
            Some(Delivery::Joined(joiner)) => {
                (self.other, self.parcels) = (Some(joiner), 0);
                MailboxEvent::Joined
            }
            Some(Delivery::Parcel(parcel)) => MailboxEvent::Received { parcel },
            Some(Delivery::Left) => {
                self.other = None;
                MailboxEvent::Left
            }
            Some(Delivery::TriedTooOften) => {
                return Err(SocketEnd::Refused(MailboxErrorCode::TooManyTries));
            }
            // The owner has closed the mailbox.
            None => {
                send(self.ws, &MailboxEvent::Left).await?;
                return Err(SocketEnd::Gone);
            }
        };
        send(self.ws, &event).await
    }

    /// Passes a parcel to the other device. Without one it is dropped: that device has just left.
    fn take(&mut self, request: MailboxRequest) -> SocketResult<()> {
        let MailboxRequest::Send { parcel } = request else {
            return Err(SocketEnd::Refused(MailboxErrorCode::InvalidFrame));
        };
        self.parcels += 1;
        if self.parcels > MAX_PARCELS {
            return Err(SocketEnd::Refused(MailboxErrorCode::InvalidFrame));
        }
        let sent = self.other.as_ref().map(|other| other.try_send(Delivery::Parcel(parcel)));
        match sent {
            Some(Err(_)) if self.guard.joined.is_some() => Err(SocketEnd::Gone),
            Some(Err(_)) => {
                self.other = None;
                Ok(())
            }
            Some(Ok(())) | None => Ok(()),
        }
    }
}

/// Waits for the next message, and reads the request in it if there is one. Cancel-safe.
async fn next<S>(ws: &mut WebSocketStream<S>) -> SocketResult<Option<MailboxRequest>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let invalid = SocketEnd::Refused(MailboxErrorCode::InvalidFrame);
    match ws.next().await {
        Some(Ok(Message::Text(text))) => serde_json::from_str(&text).map(Some).map_err(|_| invalid),
        Some(Ok(Message::Binary(_)) | Err(Error::Capacity(_))) => Err(invalid),
        // The library answers pings itself.
        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(None),
        Some(Ok(Message::Close(_)) | Err(_)) | None => Err(SocketEnd::Gone),
    }
}

async fn send<S>(ws: &mut WebSocketStream<S>, event: &MailboxEvent) -> SocketResult<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let text = serde_json::to_string(event).map_err(|_| SocketEnd::Gone)?;
    write(ws, Message::text(text)).await
}

async fn write<S>(ws: &mut WebSocketStream<S>, message: Message) -> SocketResult<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match timeout(WRITE_DEADLINE, ws.send(message)).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(SocketEnd::Gone),
    }
}

/// Closes, and reads until the other side has closed too, so that what was sent arrives.
async fn close<S>(ws: &mut WebSocketStream<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if ws.close(None).await.is_ok() {
        while let Some(Ok(_)) = ws.next().await {}
    }
}
