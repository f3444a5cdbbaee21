//! One WebSocket: reads frames, delivers what others send, pings, and ends with a close code.

use crate::server::link::{CloseReason, Inbox, Outgoing, link};
use crate::server::rate_limit::FrameLimit;
use crate::server::session::Session;
use crate::server::strangers::Stranger;
use crate::server::{Limits, Server};
use crate::{PING_EVERY, SILENCE_LIMIT, WRITE_DEADLINE};
use futures_util::{SinkExt, StreamExt};
use sleap_rtc_protocol::signaling::{CLOSE_DELETED, CLOSE_REPLACED};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

/// How long the closing handshake may take.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
/// The longest WebSocket frame that is sent; a longer message is split. The library keeps a buffer of
/// the longest frame for as long as the socket lives.
const PIECE_BYTES: usize = 64 * 1024;

/// Why a peer that reads nothing is closed.
const SLOW: &str = "the peer does not read what it is sent";

/// Why a socket ends.
enum End {
    /// The other side closed, or is gone.
    Gone,
    /// The server closes the socket.
    Close(CloseCode, &'static str),
}

/// Serves one WebSocket until it ends or the server stops.
pub(crate) async fn serve<S>(
    mut ws: Box<WebSocketStream<S>>,
    server: Arc<Server>,
    address: IpAddr,
    stranger: &Stranger,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let shutdown = server.shutdown.clone();
    let (link, mut inbox) = link();
    let mut session = Session::new(Arc::clone(&server), link, address);
    let limits = &server.options.limits;
    let conversation = Conversation::new(&mut ws, &mut session, &mut inbox, limits, stranger);
    let end = tokio::select! {
        end = conversation.run() => end,
        () = shutdown.cancelled() => End::Close(CloseCode::Restart, "the server restarts"),
    };
    session.end().await;
    if matches!(end, End::Close(_, SLOW)) {
        server.counters.slow_readers.count();
    }
    if let End::Close(code, reason) = end {
        tracing::debug!(?code, reason, "socket closed");
        let _ = timeout(CLOSE_DEADLINE, Box::pin(close(&mut ws, code, reason))).await;
    }
}

/// A WebSocket at work.
struct Conversation<'a, S> {
    ws: &'a mut WebSocketStream<S>,
    session: &'a mut Session,
    inbox: &'a mut Inbox,
    limits: &'a Limits,
    stranger: &'a Stranger,
    opened: Instant,
    heard: Instant,
    frame_limit: FrameLimit,
    ping: Interval,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Conversation<'a, S> {
    fn new(
        ws: &'a mut WebSocketStream<S>,
        session: &'a mut Session,
        inbox: &'a mut Inbox,
        limits: &'a Limits,
        stranger: &'a Stranger,
    ) -> Self {
        let opened = Instant::now();
        let mut ping = interval(PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let frame_limit = FrameLimit::new(opened);
        Self { ws, session, inbox, limits, stranger, opened, heard: opened, frame_limit, ping }
    }

    async fn run(mut self) -> End {
        loop {
            let sent = match self.next_message().await {
                Ok(Some(message)) => self.write(message).await,
                Ok(None) => Ok(()),
                Err(end) => Err(end),
            };
            if let Err(end) = sent {
                return end;
            }
            if let Some(why) = self.session.is_over() {
                return End::Close(CloseCode::Policy, why);
            }
        }
    }

    /// Waits for what happens next. Returns what must be sent because of it.
    async fn next_message(&mut self) -> Result<Option<Message>, End> {
        let is_registered = self.session.is_registered();
        tokio::select! {
            outgoing = self.inbox.next() => match outgoing {
                Outgoing::Deliver(frame) => Ok(Some(Message::Text(frame))),
                Outgoing::Close(why) => Err(closing(why)),
            },
            _ = self.ping.tick() => match self.heard.elapsed() > SILENCE_LIMIT {
                true => Err(End::Gone),
                false => Ok(Some(Message::Ping(Bytes::new()))),
            },
            () = sleep_until((self.opened + self.limits.register_within).into()), if !is_registered => {
                Err(End::Close(CloseCode::Policy, "nobody registered on this socket"))
            }
            // Without a closing handshake: another connection waits for the socket.
            () = self.stranger.evicted(), if !is_registered => Err(End::Gone),
            incoming = self.ws.next() => match incoming {
                Some(Ok(message)) => Ok(self.receive(message).await),
                Some(Err(Error::Capacity(_))) => {
                    Err(End::Close(CloseCode::Size, "the frame is too long"))
                }
                Some(Err(_)) | None => Err(End::Gone),
            },
        }
    }

    /// Handles a message of the peer. Returns the answer.
    async fn receive(&mut self, message: Message) -> Option<Message> {
        self.heard = Instant::now();
        let wait = self.frame_limit.spend(message.len(), self.limits, self.heard);
        let answer = react(self.session, message).await;
        if self.session.is_registered() {
            self.stranger.becomes_a_peer();
        }
        sleep(wait).await;
        answer.map(Message::text)
    }

    async fn write(&mut self, message: Message) -> Result<(), End> {
        tokio::select! {
            why = self.inbox.close_requested() => Err(closing(why)),
            sent = send(self.ws, message) => sent,
        }
    }
}

async fn send<S>(ws: &mut WebSocketStream<S>, message: Message) -> Result<(), End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut rest = match message {
        Message::Text(text) if text.len() > PIECE_BYTES => Bytes::from(text),
        short => return send_piece(ws, short).await,
    };
    let mut kind = Data::Text;
    while !rest.is_empty() {
        let piece = rest.split_to(rest.len().min(PIECE_BYTES));
        let frame = Frame::message(piece, OpCode::Data(kind), rest.is_empty());
        send_piece(ws, Message::Frame(frame)).await?;
        kind = Data::Continue;
    }
    Ok(())
}

/// A peer that reads keeps its socket, however slow it is.
async fn send_piece<S>(ws: &mut WebSocketStream<S>, piece: Message) -> Result<(), End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match timeout(WRITE_DEADLINE, ws.send(piece)).await {
        Ok(sent) => sent.map_err(|_| End::Gone),
        Err(_) => Err(End::Close(CloseCode::Policy, SLOW)),
    }
}

async fn react(session: &mut Session, message: Message) -> Option<String> {
    match message {
        Message::Text(text) => session.receive(text).await,
        Message::Binary(_) => Some(session.refuse_binary()),
        // The library answers it; then the stream ends.
        Message::Close(_) => {
            session.leave();
            None
        }
        // The library answers pings itself.
        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => None,
    }
}

fn closing(why: CloseReason) -> End {
    let (code, reason) = match why {
        CloseReason::Replaced => (CLOSE_REPLACED, "the same peer registered on another socket"),
        CloseReason::Deleted => (CLOSE_DELETED, "the peer or its room was deleted"),
    };
    End::Close(CloseCode::from(code), reason)
}

/// Sends the close frame, then reads until the other side has closed too. Dropping the socket at once
/// could discard frames that are still on their way.
async fn close<S>(ws: &mut WebSocketStream<S>, code: CloseCode, reason: &'static str)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if ws.close(Some(CloseFrame { code, reason: reason.into() })).await.is_ok() {
        while let Some(Ok(_)) = ws.next().await {}
    }
}
