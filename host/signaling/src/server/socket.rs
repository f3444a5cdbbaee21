//! One WebSocket: reads frames, delivers what others send, pings, and ends for a stated reason.

use crate::server::Server;
use crate::server::link::{Dismissal, Errand, Inbox, link};
use crate::server::pace::Pace;
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
/// The longest WebSocket frame that is sent; a longer message goes in several. The library keeps a
/// buffer of the longest frame for as long as the socket lives.
const PIECE_BYTES: usize = 64 * 1024;

/// Why a slow reader is closed.
const SLOW: &str = "the peer does not read what it is sent";

/// Why a socket ends.
enum End {
    /// The other side closed, or is gone.
    Gone,
    /// The server says goodbye.
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
        let _ = timeout(CLOSE_DEADLINE, say_goodbye(&mut ws, code, reason)).await;
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
    let mut pace = Pace::new(limits, opened);
    let mut ping = interval(PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let outgoing = tokio::select! {
            errand = inbox.next() => match errand {
                Errand::Deliver(frame) => Some(Message::Text(frame)),
                Errand::Leave(why) => return farewell(why),
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
            // No goodbye: the socket is needed now.
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
                let wait = pace.spend(incoming.len(), limits, heard);
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
                // A peer that does not read is dismissed while a write to it waits.
                why = inbox.dismissed() => return farewell(why),
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
        // The library answers pings and closes by itself; a close ends the stream next.
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => None,
    }
}

fn farewell(why: Dismissal) -> End {
    let (code, reason) = match why {
        Dismissal::Replaced => (CLOSE_REPLACED, "the same peer registered on another socket"),
        Dismissal::Deleted => (CLOSE_DELETED, "the peer or its room was deleted"),
        Dismissal::TooSlow => (1008, SLOW),
    };
    End::Close(CloseCode::from(code), reason)
}

/// Sends the close frame, then reads until the other side has closed as well: closing at once could
/// discard frames that are still under way.
async fn say_goodbye<S>(ws: &mut WebSocketStream<S>, code: CloseCode, reason: &'static str)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if ws.close(Some(CloseFrame { code, reason: reason.into() })).await.is_ok() {
        while let Some(Ok(_)) = ws.next().await {}
    }
}
