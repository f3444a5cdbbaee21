//! Follows a job across connections.
//!
//! A silent connection is kept while another one is opened beside it. The conversation continues on
//! whichever delivers first, and the job does not notice.

use super::connect::Talk;
use super::display::say;
use super::interrupt::{EndRequest, Interrupts};
use super::room::{Offered, Room};
use super::submission::Submission;
use super::{ClientError, or_interrupt};
use sleap_rtc_base::backoff::Backoff;
use sleap_rtc_base::deadline;
use sleap_rtc_net::dialect::ClientEnd;
use sleap_rtc_net::route::Route;
use sleap_rtc_protocol::connection::ConnectionState;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::liveness::{Health, Liveness, LivenessEvent};
use sleap_rtc_protocol::text::Printable;
use sleap_rtc_trust::goal::Goal;
use std::convert::Infallible;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::debug;

/// The first wait between two attempts to connect.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
/// The longest wait.
const BACKOFF_LONGEST: Duration = Duration::from_secs(8);
/// The time from offer to answer; a worker that speaks `sleap-rtc/1` takes half a second.
const ANSWER_LIMIT: Duration = Duration::from_secs(8);
/// A connection that was healthy for this long restarts the time limit for reconnecting.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// How long a transfer may take to end after its connection was abandoned.
const WIND_UP: Duration = Duration::from_secs(10);

/// How long and how often to try to reconnect, counted since the last good connection.
struct ReconnectBudget {
    limit: Duration,
    since: Option<Instant>,
    backoff: Backoff,
}

impl ReconnectBudget {
    fn new(limit: Duration) -> Self {
        Self { limit, since: None, backoff: Backoff::new(BACKOFF_FIRST, BACKOFF_LONGEST) }
    }

    fn restore(&mut self) {
        *self = Self::new(self.limit);
    }

    /// How long to wait before the next attempt. Zero the first time.
    fn wait_before_attempt(&mut self) -> Duration {
        if self.since.is_none() {
            self.since = Some(Instant::now());
            return Duration::ZERO;
        }
        self.backoff.next_wait()
    }

    fn is_over(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= self.limit)
    }
}

/// How the conversation over one connection ended.
enum LinkEnd {
    Done(Result<Option<PathBuf>, ClientError>),
    /// It continues over another connection.
    Next(Result<Box<ClientEnd>, ClientError>),
    /// The user ends the client.
    Requested(EndRequest),
}

/// Runs the conversation until it is done or the user interrupts it. Reconnects for up to `budget`
/// whenever the connection is lost.
pub(crate) async fn follow(
    room: &mut Room,
    worker: &PeerId,
    first: ClientEnd,
    submission: &mut Submission<'_>,
    interrupts: &mut Interrupts,
    budget: Duration,
) -> Result<Option<PathBuf>, ClientError> {
    let (mut link, called) = (first, room.called(worker).await);
    say(&format!("Connected to {called}{}.", route(&link)));
    let mut budget = ReconnectBudget::new(budget);
    loop {
        let goal = submission.goal();
        let dialer = Dialer { room, worker, goal, budget: &mut budget };
        let done = match converse(dialer, &called, &mut link, submission, interrupts).await {
            LinkEnd::Next(Ok(connected)) => {
                say(&format!("Reconnected to {called}{}.", route(&connected)));
                let earlier = std::mem::replace(&mut link, *connected);
                // In the background: nothing depends on a lost connection.
                tokio::spawn(earlier.close());
                continue;
            }
            // The worker does not know the job, so it is submitted again.
            LinkEnd::Done(Err(ClientError::UnknownToWorker))
            | LinkEnd::Next(Err(ClientError::UnknownToWorker))
                if submission.may_resubmit() =>
            {
                link.close().await;
                let (goal, budget) = (submission.resubmission_goal(), &mut budget);
                let mut dialer = Dialer { room, worker, goal, budget };
                link = *or_interrupt(interrupts, dialer.dial()).await?;
                continue;
            }
            LinkEnd::Next(Err(error @ ClientError::UnknownToWorker)) => Err(error),
            LinkEnd::Next(Err(error)) => Err(submission.given_up(error)),
            LinkEnd::Done(done) => done,
            LinkEnd::Requested(EndRequest::Detach) => Err(submission.detach(&link).await),
            LinkEnd::Requested(EndRequest::Cancel) => Err(submission.cancel(&mut link).await),
        };
        link.close().await;
        return done;
    }
}

/// A connection's route, for the end of a sentence.
fn route(link: &ClientEnd) -> String {
    link.route().borrow().as_ref().map(|route| format!(": {route}")).unwrap_or_default()
}

/// Shows the user changes of the connection's route. Never resolves.
async fn show_route_changes(
    called: &Printable,
    mut route: watch::Receiver<Option<Route>>,
) -> Infallible {
    let mut shown = route.borrow_and_update().clone();
    while route.changed().await.is_ok() {
        let now = route.borrow_and_update().clone();
        if let Some(now) = now.filter(|now| shown.as_ref().is_none_or(|shown| shown.way != now.way))
        {
            say(&format!("The connection to {called} is now {now}."));
            shown = Some(now);
        }
    }
    std::future::pending().await
}

/// Runs the conversation over one connection, and opens the next one when this one fails.
async fn converse(
    mut dialer: Dialer<'_>,
    called: &Printable,
    link: &mut ClientEnd,
    submission: &mut Submission<'_>,
    interrupts: &mut Interrupts,
) -> LinkEnd {
    let (liveness, cut, path, route) = (link.liveness(), link.cut(), link.state(), link.route());
    let mut requested = pin!(interrupts.end_requested(submission.stage()));
    let mut conversing = pin!(submission.converse(link));
    let mut dialing = pin!(dialer.when_suspect(&liveness, path));
    tokio::select! {
        never = show_route_changes(called, route) => match never {},
        request = &mut requested => return LinkEnd::Requested(request),
        connected = &mut dialing => {
            // Ends a transfer in order; it may even complete.
            cut.cancel();
            return match timeout(WIND_UP, conversing).await {
                Ok(Ok(done)) => LinkEnd::Done(Ok(done)),
                _ => LinkEnd::Next(connected),
            };
        }
        done = &mut conversing => match done {
            Err(error) if error.may_heal() => debug!(%error, "reconnecting"),
            done => return LinkEnd::Done(done),
        },
    }
    say(&format!("Lost the connection to {called}; reconnecting …"));
    record(&liveness, LivenessEvent::Closed);
    tokio::select! {
        request = requested => LinkEnd::Requested(request),
        connected = dialing => LinkEnd::Next(connected),
    }
}

/// Opens the next connection when the current one becomes suspect.
struct Dialer<'a> {
    room: &'a mut Room,
    worker: &'a PeerId,
    goal: Goal,
    budget: &'a mut ReconnectBudget,
}

impl Dialer<'_> {
    /// Waits until the connection is suspect, then opens another one, unless the suspect one
    /// recovers first.
    async fn when_suspect(
        &mut self,
        liveness: &Arc<watch::Sender<Liveness>>,
        mut path: watch::Receiver<ConnectionState>,
    ) -> Result<Box<ClientEnd>, ClientError> {
        loop {
            let healthy_since = Instant::now();
            tokio::select! {
                () = becomes(liveness, &mut path, |health| health != Health::Healthy) => {}
                () = self.room.drain() => {}
            }
            if healthy_since.elapsed() >= STABLE_AFTER {
                self.budget.restore();
            }
            debug!(worker = %self.worker, "the connection is suspect; opening another one");
            tokio::select! {
                connected = self.dial() => return connected,
                () = becomes(liveness, &mut path, |health| health == Health::Healthy) => {
                    debug!("the suspect connection has recovered");
                }
            }
        }
    }

    async fn dial(&mut self) -> Result<Box<ClientEnd>, ClientError> {
        loop {
            let wait = self.budget.wait_before_attempt();
            if !wait.is_zero() {
                self.room.pause(self.worker, wait).await;
            }
            let offer = self.room.offer_within(self.worker, &self.goal, ANSWER_LIMIT);
            match offer.await {
                Ok(Offered::Yes(connected)) => match connected.talk {
                    Talk::Native(end) => return Ok(Box::new(end)),
                    Talk::Python(..) => {
                        debug!("the worker answered in the Python dialect; trying again")
                    }
                },
                Ok(Offered::Refused(why)) if matches!(self.goal, Goal::NewJob { .. }) => {
                    return Err(why.into());
                }
                Ok(Offered::Unknown(why)) => {
                    debug!("{why}");
                    return Err(ClientError::UnknownToWorker);
                }
                Ok(Offered::Refused(why)) => debug!("{why}"),
                Ok(Offered::Absent(why)) => debug!("{why}"),
                Err(error) if error.is_distrust() => return Err(error),
                Err(error) => debug!(%error, "no connection yet"),
            }
            if self.budget.is_over() {
                let (worker, tried) = (self.worker.clone(), self.budget.limit);
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
