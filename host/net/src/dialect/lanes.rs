//! The lanes of one conversation: connections beside its own that carry chunks and nothing else.
//!
//! The client offers a lane and the worker answers, in frames of the conversation, so that who may
//! talk may also have lanes, and nobody else. All lanes end with the transfer.

use super::SEND_LIMIT;
use super::frames::{Frame, LaneFrame};
use crate::rtc::{self, Channel, Connection, Message, RtcError, RtcOptions};
use bytes::{Bytes, BytesMut};
use sleap_rtc_protocol::DIALECT;
use sleap_rtc_protocol::frame;
use sleap_rtc_protocol::signaling::Sdp;
use sleap_rtc_transfer::{Gauge, Lane, LaneLost, MAX_LANES};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// From a lane's offer to its answer, and from the answer to the open channel.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// How long a new lane may acknowledge nothing. SCTP sends again after one second, and after two more.
const SWALLOWED: Duration = Duration::from_secs(4);
/// What shows that long packets arrive: the crate counts what opened the channel as well.
const ENOUGH_BYTES: usize = 2_000;
/// Chunks of all lanes that wait to be read: 1 MiB.
const QUEUE_CHUNKS: usize = 16;
/// The label of a lane's channel.
const LABEL: &str = "lane";

/// All lanes of one end of a conversation.
pub(crate) struct Lanes {
    conversation: Arc<Channel>,
    /// How lanes are made; none may be, where there is nothing.
    options: Option<RtcOptions>,
    /// How many more lanes this program may have in all its conversations.
    left: Option<Arc<Semaphore>>,
    packets: Arc<Packets>,
    tasks: JoinSet<()>,
    next: u32,
    /// Who waits for an answer.
    offered: HashMap<u32, oneshot::Sender<Option<Sdp>>>,
    queues: Queues,
    opened: mpsc::Receiver<Arc<dyn Lane>>,
    chunks: mpsc::Receiver<Bytes>,
}

/// Where the lanes' tasks put what comes.
#[derive(Clone)]
struct Queues {
    opened: mpsc::Sender<Arc<dyn Lane>>,
    chunks: mpsc::Sender<Bytes>,
}

fn queues() -> (Queues, mpsc::Receiver<Arc<dyn Lane>>, mpsc::Receiver<Bytes>) {
    let (opened, opening) = mpsc::channel(2 * MAX_LANES);
    let (chunks, arriving) = mpsc::channel(QUEUE_CHUNKS);
    (Queues { opened, chunks }, opening, arriving)
}

impl Lanes {
    /// None yet, and none allowed.
    pub(crate) fn new(conversation: Arc<Channel>) -> Self {
        let (queues, opened, chunks) = queues();
        Self {
            conversation,
            options: None,
            left: None,
            packets: Arc::default(),
            tasks: JoinSet::new(),
            next: 0,
            offered: HashMap::new(),
            queues,
            opened,
            chunks,
        }
    }

    /// From now on lanes may be made, like this, as long as there are any left.
    pub(crate) fn allow(&mut self, options: &RtcOptions, left: Option<Arc<Semaphore>>) {
        (self.options, self.left) = (Some(options.lane()), left);
    }

    /// Whether there are any, or will be soon.
    pub(crate) fn are_in_use(&self) -> bool {
        !self.tasks.is_empty()
    }

    /// What comes next: a lane that has opened, or, where they are wanted, a chunk. Cancel safe.
    pub(crate) async fn next(&mut self, chunks: bool) -> Arrival {
        tokio::select! {
            Some(lane) = self.opened.recv() => Arrival::Lane(lane),
            Some(chunk) = self.chunks.recv(), if chunks => Arrival::Chunk(chunk),
            // Never: `queues` holds a sender of each.
            else => std::future::pending().await,
        }
    }

    /// Offers lanes until there are `count`.
    pub(crate) fn offer<Out: Frame>(&mut self, count: usize) {
        let Some(options) = self.options.clone() else { return };
        self.reap();
        while self.tasks.len() < count.min(MAX_LANES) {
            self.next += 1;
            let (number, options) = (self.next, options.clone());
            let (answered, answer) = oneshot::channel();
            self.offered.insert(number, answered);
            let (conversation, queues) = (self.conversation.clone(), self.queues.clone());
            let packets = self.packets.clone();
            self.tasks.spawn(async move {
                let options = packets.suit(options, &conversation).await;
                let offering = offer::<Out>(number, &options, &conversation, answer);
                match offering.await {
                    Ok(Some((connection, channel))) => {
                        queues.carry(connection, channel, packets).await;
                    }
                    Ok(None) => tracing::debug!(lane = number, "the other side wants no lane"),
                    Err(error) => tracing::debug!(lane = number, %error, "no lane"),
                }
            });
        }
    }

    /// Takes what the other side says about a lane.
    pub(crate) fn hear<Out: Frame>(&mut self, frame: LaneFrame) {
        match frame {
            LaneFrame::Answer(number, answer) => {
                if let Some(waiting) = self.offered.remove(&number) {
                    // Nobody waits any more: the lane is late.
                    let _ = waiting.send(answer);
                }
            }
            LaneFrame::Offer(number, offer) => self.answer::<Out>(number, offer),
        }
    }

    /// Answers an offer: with a lane, with a no where there are enough, with nothing where the other
    /// side goes on and on.
    fn answer<Out: Frame>(&mut self, number: u32, offer: Sdp) {
        self.reap();
        let full = self.tasks.len() >= MAX_LANES;
        if self.tasks.len() >= 2 * MAX_LANES {
            return tracing::debug!(lane = number, "too many lanes are asked for");
        }
        let permit = self.left.as_ref().map(|left| left.clone().try_acquire_owned());
        let none_left = matches!(permit, Some(Err(_)));
        let options = self.options.clone().filter(|_| !full && !none_left);
        let (conversation, queues) = (self.conversation.clone(), self.queues.clone());
        let packets = self.packets.clone();
        self.tasks.spawn(async move {
            let _permit = permit;
            let options = match options {
                Some(options) => Some(packets.suit(options, &conversation).await),
                None => None,
            };
            let answering = answer::<Out>(number, options, &offer, &conversation);
            match answering.await {
                Ok(Some((connection, channel))) => queues.carry(connection, channel, packets).await,
                Ok(None) => {}
                Err(error) => tracing::debug!(lane = number, %error, "no lane"),
            }
        });
    }

    pub(crate) fn reap(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        self.offered.retain(|_, waiting| !waiting.is_closed());
    }

    /// Ends them all; what they still hold is forgotten.
    pub(crate) fn close(&mut self) {
        self.tasks.abort_all();
        self.tasks = JoinSet::new();
        self.offered.clear();
        (self.queues, self.opened, self.chunks) = queues();
    }
}

/// What lanes bring.
pub(crate) enum Arrival {
    Lane(Arc<dyn Lane>),
    Chunk(Bytes),
}

type Opened = Option<(Connection, Channel)>;

async fn say<Out: Frame>(conversation: &Channel, frame: LaneFrame) -> Result<(), RtcError> {
    let Some(Ok(text)) = Out::from_lane(frame).as_ref().map(frame::encode) else { return Ok(()) };
    match timeout(SEND_LIMIT, conversation.send_text(text)).await {
        Ok(sent) => Ok(sent?),
        Err(_) => Err(RtcError::NoPath),
    }
}

async fn offer<Out: Frame>(
    number: u32,
    options: &RtcOptions,
    conversation: &Channel,
    answer: oneshot::Receiver<Option<Sdp>>,
) -> Result<Opened, RtcError> {
    let (offering, sdp) = rtc::offer_channel(options, LABEL, DIALECT).await?;
    say::<Out>(conversation, LaneFrame::Offer(number, sdp)).await?;
    match timeout(CONNECT_LIMIT, answer).await {
        Ok(Ok(Some(answer))) => Ok(Some(offering.accept(&answer).await?)),
        Ok(_) => Ok(None),
        Err(_) => Err(RtcError::NoPath),
    }
}

async fn answer<Out: Frame>(
    number: u32,
    options: Option<RtcOptions>,
    offer: &Sdp,
    conversation: &Channel,
) -> Result<Opened, RtcError> {
    let Some(options) = options else {
        say::<Out>(conversation, LaneFrame::Answer(number, None)).await?;
        return Ok(None);
    };
    let (connection, sdp) = match rtc::answer(&options, offer).await {
        Ok(answer) => answer,
        Err(error) => {
            say::<Out>(conversation, LaneFrame::Answer(number, None)).await?;
            return Err(error);
        }
    };
    say::<Out>(conversation, LaneFrame::Answer(number, Some(sdp))).await?;
    match timeout(CONNECT_LIMIT, connection.next_channel()).await {
        Ok(Some(channel)) if (channel.label(), channel.protocol()) == (LABEL, DIALECT) => {
            Ok(Some((connection, channel)))
        }
        Ok(_) => Ok(None),
        Err(_) => Err(RtcError::NoPath),
    }
}

impl Queues {
    /// Reads an open lane until it ends.
    async fn carry(self, connection: Connection, channel: Channel, packets: Arc<Packets>) {
        let (channel, ended) = (Arc::new(channel), CancellationToken::new());
        let trial = Some(Trial::new(packets));
        let lane = RtcLane { channel: channel.clone(), ended: ended.clone(), trial };
        tracing::debug!("a lane is open");
        if self.opened.try_send(Arc::new(lane)).is_ok() {
            ended.run_until_cancelled(self.read(&channel)).await;
        }
        connection.close().await;
    }

    async fn read(&self, channel: &Channel) {
        while let Some(Message::Binary(chunk)) = channel.recv().await {
            if self.chunks.send(chunk).await.is_err() {
                return;
            }
        }
    }
}

/// How long the packets of the lanes are.
#[derive(Default)]
struct Packets {
    /// Long ones do not get through.
    short: AtomicBool,
}

impl Packets {
    /// Packets as long as the network interface of the conversation takes them, until those have
    /// been seen to vanish.
    async fn suit(&self, options: RtcOptions, conversation: &Channel) -> RtcOptions {
        let long = match self.short.load(Ordering::Relaxed) {
            true => None,
            false => conversation.packet_bytes().await,
        };
        tracing::debug!(sctp_packet_bytes = long, "a lane is made");
        match long {
            Some(bytes) => options.with_packet_bytes(bytes),
            None => options,
        }
    }
}

/// A lane for what this end sends: a peer connection, or the conversation's own.
pub(crate) struct RtcLane {
    channel: Arc<Channel>,
    ended: CancellationToken,
    /// Whether anything arrives is to be seen yet.
    trial: Option<Trial>,
}

struct Trial {
    packets: Arc<Packets>,
    seen: Mutex<Seen>,
}

struct Seen {
    sent_bytes: usize,
    outstanding_bytes: usize,
    /// Since when there has been something outstanding.
    since: Instant,
    arrives: bool,
}

/// Nothing of what it was given has arrived.
#[derive(Debug, thiserror::Error)]
#[error("nothing was acknowledged within {} s", SWALLOWED.as_secs())]
struct Swallowed;

impl Trial {
    fn new(packets: Arc<Packets>) -> Self {
        let since = Instant::now();
        let seen = Seen { sent_bytes: 0, outstanding_bytes: 0, since, arrives: false };
        Self { packets, seen: Mutex::new(seen) }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sends(&self, bytes: usize, now: Instant) {
        let mut seen = self.seen();
        if seen.outstanding_bytes == 0 {
            seen.since = now;
        }
        seen.sent_bytes += bytes;
        seen.outstanding_bytes += bytes;
    }

    fn note(&self, outstanding_bytes: usize) {
        let mut seen = self.seen();
        seen.outstanding_bytes = outstanding_bytes;
        seen.arrives |= outstanding_bytes + ENOUGH_BYTES <= seen.sent_bytes;
    }

    /// When to give up, unless something arrives.
    fn fails_at(&self) -> Option<Instant> {
        let seen = self.seen();
        (!seen.arrives).then(|| seen.since + SWALLOWED)
    }

    /// Resolves when nothing has arrived for too long.
    async fn failed(&self) {
        while let Some(at) = self.fails_at() {
            if at <= Instant::now() {
                self.packets.short.store(true, Ordering::Relaxed);
                return;
            }
            tokio::time::sleep_until(at).await;
        }
        std::future::pending().await
    }
}

impl RtcLane {
    pub(crate) fn conversation(channel: Arc<Channel>, cut: CancellationToken) -> Self {
        Self { channel, ended: cut, trial: None }
    }

    async fn unless_ended<T>(
        &self,
        work: impl Future<Output = Result<T, rtc::ChannelError>>,
    ) -> Result<T, LaneLost> {
        match self.ended.run_until_cancelled(work).await {
            Some(done) => done.map_err(|error| LaneLost(Box::new(error))),
            None => Err(LaneLost(Box::new(rtc::ChannelError::Closed))),
        }
    }
}

#[async_trait::async_trait]
impl Lane for RtcLane {
    async fn send(&self, chunk: BytesMut) -> Result<(), LaneLost> {
        if let Some(trial) = &self.trial {
            trial.sends(chunk.len(), Instant::now());
        }
        self.unless_ended(self.channel.send_binary(chunk)).await
    }

    async fn room(&self, gauge: &Gauge) -> Result<(), LaneLost> {
        let Some(trial) = &self.trial else {
            return self.unless_ended(self.channel.room(|bytes| gauge.note(bytes))).await;
        };
        let room = self.channel.room(|bytes| {
            trial.note(bytes);
            gauge.note(bytes)
        });
        tokio::select! {
            biased;
            room = self.unless_ended(room) => room,
            () = trial.failed() => Err(LaneLost(Box::new(Swallowed))),
        }
    }

    async fn round_trip(&self) -> Option<Duration> {
        self.channel.round_trip().await
    }

    fn close(&self) {
        self.ended.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: usize = 65_577;
    const REST: usize = 700;

    /// When a lane fails that is given a chunk and a rest at once, of which so much is acknowledged.
    fn fails_after(acknowledged: usize) -> Option<Duration> {
        let (trial, now) = (Trial::new(Arc::default()), Instant::now());
        trial.sends(CHUNK, now);
        trial.sends(REST, now + SWALLOWED / 2);
        trial.note(CHUNK + REST - acknowledged);
        trial.fails_at().map(|at| at - now)
    }

    #[test]
    fn a_lane_fails_when_no_long_packet_arrives() {
        assert_eq!(fails_after(0), Some(SWALLOWED));
        assert_eq!(fails_after(27), Some(SWALLOWED), "what opened the channel");
        assert_eq!(fails_after(3 * 1_372), None);
    }

    #[test]
    fn a_lane_that_had_nothing_to_do_is_not_late() {
        let (trial, now) = (Trial::new(Arc::default()), Instant::now());
        trial.sends(REST, now);
        trial.note(0);
        let later = now + SWALLOWED * 2;
        trial.sends(CHUNK, later);
        assert_eq!(trial.fails_at(), Some(later + SWALLOWED));
    }
}
