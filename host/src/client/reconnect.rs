//! Staying with a job over one connection after another.
//!
//! A connection that goes quiet is kept while another is made beside it: whichever delivers first
//! is gone on with. The job does not notice; the conversation goes on where it was.

use super::display::say;
use super::parting::{Interrupts, Parting};
use super::room::{Connected, Dialect, Offered, Room};
use super::submission::Submission;
use super::{ClientError, or_interrupt};
use sleap_rtc_base::backoff::Backoff;
use sleap_rtc_base::deadline;
use sleap_rtc_net::dialect::ClientEnd;
use sleap_rtc_net::rtc::Connection;
use sleap_rtc_protocol::connection::{ConnectionState, Purpose};
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::liveness::{Health, Liveness, LivenessEvent};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::timeout;

/// The first wait between two attempts to connect.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
/// The longest.
const BACKOFF_LONGEST: Duration = Duration::from_secs(8);
/// From offer to answer: our own workers take half a second.
const ANSWER_LIMIT: Duration = Duration::from_secs(8);
/// A connection that lasted so long was a good one.
const HELD: Duration = Duration::from_secs(10);
/// A transfer whose connection was given up comes to its end within this time.
const WIND_UP: Duration = Duration::from_secs(10);

/// How long it is tried to connect again, and how often: over all attempts since the last
/// connection that held.
struct Patience {
    limit: Duration,
    since: Option<Instant>,
    backoff: Backoff,
}

impl Patience {
    fn new(limit: Duration) -> Self {
        Self { limit, since: None, backoff: Backoff::new(BACKOFF_FIRST, BACKOFF_LONGEST) }
    }

    fn restore(&mut self) {
        *self = Self::new(self.limit);
    }

    /// How long to wait before the next attempt; the first is made at once.
    fn next(&mut self) -> Option<Duration> {
        match self.since.replace(self.since.unwrap_or_else(Instant::now)) {
            None => None,
            Some(_) => Some(self.backoff.next_wait()),
        }
    }

    fn is_over(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= self.limit)
    }
}

/// A connection over which the conversation goes on.
struct Link {
    connection: Connection,
    end: ClientEnd,
}

impl Link {
    fn new(connected: Connected) -> Self {
        let mut end = ClientEnd::new(connected.channel);
        end.allow_lanes(&connected.rtc);
        Self { connection: connected.connection, end }
    }
}

/// How the conversation over one connection came to its end.
enum LinkEnd {
    Done(Result<Option<PathBuf>, ClientError>),
    /// It goes on over another one.
    Next(Result<Box<Connected>, ClientError>),
    Parting(Parting),
}

/// Talks with the worker until all is done or the user parts from the job, connecting again for up
/// to `patience` whenever the connection is lost.
pub(super) async fn stay(
    room: &mut Room,
    first: Connected,
    submission: &mut Submission<'_>,
    interrupts: &mut Interrupts,
    patience: Duration,
) -> Result<Option<PathBuf>, ClientError> {
    let worker = first.worker.clone();
    let mut link = Link::new(first);
    let mut patience = Patience::new(patience);
    loop {
        let purpose = submission.purpose();
        let dialer = Dialer { room, worker: &worker, purpose, patience: &mut patience };
        let done = match talk(dialer, &mut link, submission, interrupts).await {
            LinkEnd::Next(Ok(connected)) => {
                say(&format!("Connected to {worker} again."));
                let earlier = std::mem::replace(&mut link, Link::new(*connected));
                // Beside the conversation: nobody waits for the last words of what is lost.
                tokio::spawn(earlier.connection.close());
                continue;
            }
            // The worker knows nothing of the job: it may take it for a new one.
            LinkEnd::Done(Err(ClientError::Forgotten)) if submission.may_begin_anew() => {
                link.connection.close().await;
                let (purpose, patience) = (Purpose::NewJob, &mut patience);
                let mut dialer = Dialer { room, worker: &worker, purpose, patience };
                link = Link::new(*or_interrupt(interrupts, dialer.dial()).await?);
                continue;
            }
            LinkEnd::Next(Err(error)) => Err(submission.given_up(error)),
            LinkEnd::Done(done) => done,
            LinkEnd::Parting(Parting::Leave) => Err(submission.leave(&link.end).await),
            LinkEnd::Parting(Parting::Cancel) => Err(submission.cancel(&mut link.end).await),
        };
        link.connection.close().await;
        return done;
    }
}

/// Talks over one connection.
async fn talk(
    mut dialer: Dialer<'_>,
    link: &mut Link,
    submission: &mut Submission<'_>,
    interrupts: &mut Interrupts,
) -> LinkEnd {
    let (liveness, cut) = (link.end.liveness(), link.end.cut());
    let worker = dialer.worker.clone();
    let mut parting = pin!(interrupts.parting(submission.stage()));
    let mut talking = pin!(submission.converse(&mut link.end));
    let mut dialing = pin!(dialer.when_suspect(&liveness, link.connection.state()));
    tokio::select! {
        parting = &mut parting => return LinkEnd::Parting(parting),
        connected = &mut dialing => {
            // An orderly end for a transfer, which may also turn out to be a good one.
            cut.cancel();
            return match timeout(WIND_UP, talking).await {
                Ok(Ok(done)) => LinkEnd::Done(Ok(done)),
                _ => LinkEnd::Next(connected),
            };
        }
        done = &mut talking => match done {
            Err(error) if error.may_heal() => tracing::debug!(%error, "connecting again"),
            done => return LinkEnd::Done(done),
        },
    }
    say(&format!("The connection to {worker} is lost; connecting again …"));
    record(&liveness, LivenessEvent::Closed);
    tokio::select! {
        parting = parting => LinkEnd::Parting(parting),
        connected = dialing => LinkEnd::Next(connected),
    }
}

/// Opens the next connection when the current one becomes suspect.
struct Dialer<'a> {
    room: &'a mut Room,
    worker: &'a PeerId,
    purpose: Purpose,
    patience: &'a mut Patience,
}

impl Dialer<'_> {
    /// Waits until the connection is suspect, then opens another one, unless the suspect one
    /// recovers first.
    async fn when_suspect(
        &mut self,
        liveness: &Arc<watch::Sender<Liveness>>,
        mut path: watch::Receiver<ConnectionState>,
    ) -> Result<Box<Connected>, ClientError> {
        loop {
            let well = Instant::now();
            tokio::select! {
                () = becomes(liveness, &mut path, |health| health != Health::Healthy) => {}
                () = self.room.drain() => {}
            }
            if well.elapsed() >= HELD {
                self.patience.restore();
            }
            tracing::debug!(worker = %self.worker, "the connection is suspect; opening another one");
            tokio::select! {
                connected = self.dial() => return connected,
                () = becomes(liveness, &mut path, |health| health == Health::Healthy) => {
                    tracing::debug!("the suspect connection has recovered");
                }
            }
        }
    }

    async fn dial(&mut self) -> Result<Box<Connected>, ClientError> {
        loop {
            if let Some(wait) = self.patience.next() {
                self.room.pause(self.worker, wait).await;
            }
            let offer = self.room.offer_within(self.worker, self.purpose.clone(), ANSWER_LIMIT);
            match offer.await {
                Ok(Offered::Yes(connected)) if connected.dialect == Dialect::Ours => {
                    return Ok(connected);
                }
                Ok(Offered::Refused(text)) if self.purpose == Purpose::NewJob => {
                    return Err(ClientError::Refused(text));
                }
                Ok(Offered::Yes(_)) => tracing::debug!("the worker no longer speaks our dialect"),
                Ok(Offered::Refused(text) | Offered::Absent(text)) => tracing::debug!("{text}"),
                Err(error) => tracing::debug!(%error, "no connection yet"),
            }
            if self.patience.is_over() {
                let (worker, tried) = (self.worker.clone(), self.patience.limit);
                return Err(ClientError::GivenUp { worker, tried });
            }
        }
    }
}

fn record(liveness: &watch::Sender<Liveness>, event: LivenessEvent) {
    liveness.send_modify(|liveness| liveness.apply(event, Instant::now()));
}

/// Resolves when the connection's health is as wanted. Feeds changes of the path into `liveness`.
async fn becomes(
    liveness: &Arc<watch::Sender<Liveness>>,
    path: &mut watch::Receiver<ConnectionState>,
    wanted: impl Fn(Health) -> bool,
) {
    let mut heard = liveness.subscribe();
    loop {
        let suspect_at = {
            let liveness = heard.borrow_and_update();
            let now = Instant::now();
            if wanted(liveness.health(now)) {
                return;
            }
            liveness.suspect_at().filter(|at| *at > now)
        };
        tokio::select! {
            _ = heard.changed() => {}
            Ok(()) = path.changed() => record(liveness, LivenessEvent::Path(*path.borrow_and_update())),
            () = deadline::reached(suspect_at) => {}
        }
    }
}
