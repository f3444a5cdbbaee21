//! Measures each way to a worker: how soon it is open, its round trip, its rate.

use super::connect::{Connector, Talk};
use super::error::JobRefused;
use super::room::{Offered, Room};
use super::{ClientError, Join};
use crate::config::Config;
use sleap_rtc_base::transport::Transport;
use sleap_rtc_net::dialect::{ClientEnd, SampleError};
use sleap_rtc_net::quic::QuicError;
use sleap_rtc_net::route::{self, Route};
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::job::RefusalCode;
use sleap_rtc_trust::goal::Goal;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// How long the worker may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long a connection may take to find a direct path.
const DIRECT_LIMIT: Duration = Duration::from_secs(5);

/// A way to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Over iroh, without a server between.
    Direct,
    /// Over iroh, through the server's relay.
    Relayed,
    /// Over WebRTC.
    Webrtc,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// From the offer to the open connection.
    pub open_after: Duration,
    /// The route that the connection took, if it is known.
    pub route: Option<Route>,
    /// The bytes per second that came from the worker.
    pub bytes_per_s: f64,
}

/// The workers that `join` means: the one in a session string, or those of the room that measure.
///
/// # Errors
/// The room cannot be entered or listed.
pub async fn workers(config: &Config, join: &Join) -> Result<Vec<PeerId>, ClientError> {
    if let Join::Session(session) = join {
        return Ok(vec![session.worker.clone()]);
    }
    let room = Room::visit(config, join.credentials().clone()).await?;
    let listed = room.workers(None).await;
    room.leave().await;
    let native = listed?.into_iter().filter(|worker| worker.speaks_native);
    Ok(native.map(|worker| worker.peer_id).collect())
}

/// Connects to `worker` by this way alone, and measures the connection. Asks the user nothing.
///
/// # Errors
/// The worker cannot be reached by this way, refuses, or is not trusted.
pub async fn probe(
    config: &Config,
    join: &Join,
    worker: &PeerId,
    way: Way,
) -> Result<Measured, ClientError> {
    let connector = connector(config, way).await?;
    let mut room = Room::enter(config, join.credentials().clone(), connector).await?;
    if let Some((worker, device)) = join.named_device() {
        room.pin(worker, device);
    }
    let measured = measure(&mut room, worker, way).await;
    room.leave().await;
    measured
}

async fn connector(config: &Config, way: Way) -> Result<Connector, QuicError> {
    match way {
        Way::Direct => Connector::by(config, Transport::Iroh).await,
        Way::Relayed => Connector::by_relay(config).await,
        Way::Webrtc => Connector::by(config, Transport::Webrtc).await,
    }
}

async fn measure(room: &mut Room, worker: &PeerId, way: Way) -> Result<Measured, ClientError> {
    let start = Instant::now();
    let talk = match room.offer_within(worker, &Goal::Probe, ANSWER_LIMIT).await? {
        Offered::Yes(connected) => connected.talk,
        Offered::Refused(why) | Offered::Unknown(why) => return Err(why.into()),
        Offered::Absent(why) => return Err(why.into()),
    };
    let open_after = start.elapsed();
    let mut end = match talk {
        Talk::Native(end) => end,
        Talk::Python(connection, _) => {
            connection.close().await;
            let text = "is a Python program, which measures nothing".to_owned();
            return Err(JobRefused::ByWorker(text).into());
        }
    };
    let route = route(&end, way).await;
    let sampled = end.measure_rate().await;
    end.close().await;
    let bytes_per_s = sampled.map_err(|error| match error {
        SampleError::Refused(refusal) => match refusal.code {
            RefusalCode::NoMember => ClientError::NotAdmitted(refusal.message),
            _ => JobRefused::ByWorker(refusal.message).into(),
        },
        SampleError::Dialect(_) => {
            ClientError::Lost { worker: worker.clone(), during: "while it was measured" }
        }
    })?;
    Ok(Measured { open_after, route, bytes_per_s })
}

/// The connection's route. One that begins relayed may become direct a moment later.
async fn route(end: &ClientEnd, way: Way) -> Option<Route> {
    let mut routes = end.route();
    let is_wanted = |route: &Option<Route>| match route {
        Some(route) => way != Way::Direct || route.way == route::Way::Direct,
        None => false,
    };
    // Without such a route in time, the latest one says why.
    let _ = timeout(DIRECT_LIMIT, routes.wait_for(is_wanted)).await;
    routes.borrow().clone()
}
