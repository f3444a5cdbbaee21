//! One WebSocket: reads frames, delivers what others send, pings, and ends with a close code.

use crate::server::Server;
use crate::server::link::{CloseReason, Inbox, Outgoing, link};
use crate::server::rate_limit::RateLimit;
use crate::server::session::Session;
use crate::server::strangers::Stranger;
use crate::{PING_EVERY, SILENCE_LIMIT, WRITE_DEADLINE};
use futures_util::{SinkExt, StreamExt};
use sleap_rtc_protocol::signaling::{CLOSE_DELETED, CLOSE_REPLACED};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{MissedTickBehavior, interval, timeout};
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

/// Why a slow reader is closed.
const SLOW: &str = "the peer does not read what it is sent";

/// Why a socket ends.
enum End {
    /// The other side closed, or is gone.
    Gone,
    /// The server closes the socket.
    Close(CloseCode, &'static str),
}

/// Serves one WebSocket until it ends or the server stops.
pub(super) async fn serve<S>(
    mut ws: WebSocketStream<S>,
    server: Arc<Server>,
    address: IpAddr,
    stranger: &Stranger,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let shutdown = server.shutdown.clone();
    let (link, mut inbox) = link();
    let mut session = Session::new(Arc::clone(&server), link, address);
    let end = tokio::select! {
        end = converse(&mut ws, &mut session, &mut inbox, &server, stranger) => end,
        () = shutdown.cancelled() => End::Close(CloseCode::Restart, "the server restarts"),
    };
    session.end().await;
    if matches!(end, End::Close(_, SLOW)) {
        server.counters.slow_readers.count();
    }
    if let End::Close(code, reason) = end {
        tracing::debug!(?code, reason, "socket closed");
        let _ = timeout(CLOSE_DEADLINE, close(&mut ws, code, reason)).await;
    }
}

async fn converse<S>(
    ws: &mut WebSocketStream<S>,
    session: &mut Session,
    inbox: &mut Inbox,
    server: &Server,
    stranger: &Stranger,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let limits = &server.options.limits;
    let opened = Instant::now();
    let mut heard = opened;
    let mut rate_limit = RateLimit::new(limits, opened);
    let mut ping = interval(PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let outgoing = tokio::select! {
            outgoing = inbox.next() => match outgoing {
                Outgoing::Deliver(frame) => Some(Message::Text(frame)),
                Outgoing::Close(why) => return closing(why),
            },
            _ = ping.tick() => {
                if heard.elapsed() > SILENCE_LIMIT {
                    return End::Gone;
                }
                Some(Message::Ping(Bytes::new()))
            },
            () = tokio::time::sleep_until((opened + limits.register_within).into()),
                if !session.is_registered() =>
            {
                return End::Close(CloseCode::Policy, "nobody registered on this socket");
            },
            // Without a closing handshake: another connection waits for the socket.
            () = stranger.evicted(), if !session.is_registered() => return End::Gone,
            incoming = ws.next() => {
                heard = Instant::now();
                let incoming = match incoming {
                    Some(Ok(message)) => message,
                    Some(Err(Error::Capacity(_))) => {
                        return End::Close(CloseCode::Size, "the frame is too long");
                    }
                    Some(Err(_)) | None => return End::Gone,
                };
                let wait = rate_limit.spend(incoming.len(), limits, heard);
                let answer = react(session, incoming).await;
                if session.is_registered() {
                    stranger.becomes_a_peer();
                }
                tokio::time::sleep(wait).await;
                answer.map(Message::text)
            },
        };
        if let Some(message) = outgoing {
            let written = tokio::select! {
                // A peer that does not read is closed while a write to it waits.
                why = inbox.close_requested() => return closing(why),
                written = timeout(WRITE_DEADLINE, send(ws, message)) => written,
            };
            if !matches!(written, Ok(Ok(()))) {
                return End::Gone;
            }
        }
        if let Some(why) = session.is_over() {
            return End::Close(CloseCode::Policy, why);
        }
    }
}

async fn send<S>(ws: &mut WebSocketStream<S>, message: Message) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut rest = match message {
        Message::Text(text) if text.len() > PIECE_BYTES => Bytes::from(text),
        short => return ws.send(short).await,
    };
    let mut kind = Data::Text;
    while !rest.is_empty() {
        let piece = rest.split_to(rest.len().min(PIECE_BYTES));
        let frame = Frame::message(piece, OpCode::Data(kind), rest.is_empty());
        ws.send(Message::Frame(frame)).await?;
        kind = Data::Continue;
    }
    Ok(())
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
        CloseReason::TooSlow => (1008, SLOW),
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
