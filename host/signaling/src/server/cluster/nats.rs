//! The connection to the broker. async-nats restores it, with its subscriptions.

use super::options::{Brokers, Credentials};
use crate::client::{CertificateProblem, TlsFailure, certificate_problem, tls_config};
use async_nats::connection::State;
use async_nats::jetstream::{Context, ContextBuilder};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, SubscribeError, Subscriber};
use std::error::Error;
use std::io;
use std::time::Duration;
use tokio::sync::watch;

/// How long a step of connecting may take.
const STEP_LIMIT: Duration = Duration::from_secs(3);
/// How often a silent broker is pinged. After two pings without an answer, at the third, it is lost.
const PING_EVERY: Duration = Duration::from_secs(1);
/// How long an answer to a request may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// The waits before another attempt.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// The most messages that wait inside async-nats. Few, because it publishes them when a lost broker returns,
/// although they are outdated.
const PASSED_ON: usize = 64;
/// The most messages of others that wait to be applied. Further ones are dropped; the next list makes up for
/// them.
const INCOMING: usize = 8 * 1024;

/// Why a broker cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectFailure {
    /// It cannot be reached, or does not speak NATS' protocol.
    #[error("cannot reach it: {0}")]
    Unreachable(String),
    /// Its certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateProblem),
    /// There is no TLS on this machine.
    #[error(transparent)]
    Tls(#[from] TlsFailure),
    /// It refuses the credentials.
    #[error("it refuses: {0}")]
    Refused(String),
}

/// A connection to a broker. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Nats {
    client: Client,
    /// Whether the broker is connected, by the last event. Only to wait for changes.
    heard: watch::Receiver<bool>,
}

impl Nats {
    /// Connects to any of the brokers. From then on the connection restores itself.
    pub(crate) async fn connect(brokers: &Brokers) -> Result<Self, ConnectFailure> {
        let (newest, heard) = watch::channel(true);
        let options = options(brokers)?.event_callback(move |event| {
            hear(event, &newest);
            std::future::ready(())
        });
        let client = options.connect(brokers.addresses()).await.map_err(|error| failure(&error))?;
        Ok(Self { client, heard })
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// The longest message that the broker accepts; 0 while it is lost.
    pub(crate) fn max_message_bytes(&self) -> usize {
        if self.is_connected() { self.client.max_payload() } else { 0 }
    }

    /// Changes when the broker is lost, and when it is back.
    pub(crate) fn changes(&self) -> watch::Receiver<bool> {
        self.heard.clone()
    }

    /// Publishes a message. Waits while the broker reads too slowly.
    pub(crate) async fn publish(&self, subject: String, payload: Vec<u8>) {
        // A message that is too long for the broker is lost. Lists make up for it.
        let _ = self.client.publish(subject, payload.into()).await;
    }

    /// Messages to subjects of this form.
    pub(crate) async fn subscribe(&self, subject: String) -> Result<Subscriber, SubscribeError> {
        self.client.subscribe(subject).await
    }

    /// Waits until everything that was published so far is written.
    pub(crate) async fn flush(&self) {
        // What cannot be written now is not waited for.
        let _ = self.client.flush().await;
    }

    /// The broker's stores.
    pub(crate) fn jet_stream(&self) -> Context {
        ContextBuilder::new().timeout(ANSWER_LIMIT).build(self.client.clone())
    }

    /// Whether this broker has stores. If not, another one of its cluster may have them.
    pub(crate) fn has_jet_stream(&self) -> bool {
        self.client.server_info().jetstream
    }
}

fn options(brokers: &Brokers) -> Result<ConnectOptions, ConnectFailure> {
    let options = ConnectOptions::new()
        .name("sleap-rtc")
        .no_echo()
        .connection_timeout(STEP_LIMIT)
        .ping_interval(PING_EVERY)
        .request_timeout(Some(ANSWER_LIMIT))
        .reconnect_delay_callback(wait_before)
        .client_capacity(PASSED_ON)
        .subscription_capacity(INCOMING)
        // A broker lists others by addresses of its own network, and before it has shown a certificate.
        .ignore_discovered_servers();
    let options = match brokers.credentials() {
        Credentials::None => options,
        Credentials::Token(token) => options.token(token.clone()),
        Credentials::User { name, password } => {
            options.user_and_password(name.clone(), password.clone())
        }
    };
    match tls_config() {
        Ok(config) => Ok(options.tls_client_config((*config).clone())),
        Err(failure) if brokers.need_tls() => Err(failure.into()),
        // If the broker requires TLS nevertheless, async-nats fails to connect.
        Err(_) => Ok(options),
    }
}

/// The wait before an attempt, counted from 1. It is random, so that servers do not return all at once.
fn wait_before(attempt: usize) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(10);
    let wait = (FIRST_WAIT * 2_u32.pow(doublings)).min(LONGEST_WAIT);
    wait.mul_f64(rand::random_range(0.5..1.0))
}

fn hear(event: Event, newest: &watch::Sender<bool>) {
    match event {
        Event::Disconnected => {
            newest.send_replace(false);
            tracing::warn!(
                "the broker of the cluster is lost: peers of this server continue, and see those of the others again \
                 when it is back"
            );
        }
        Event::Connected if newest.send_if_modified(|there| !std::mem::replace(there, true)) => {
            tracing::info!("connected to the broker of the cluster again");
        }
        Event::ServerError(error) => {
            tracing::warn!(%error, "the broker of the cluster reports an error");
        }
        // Also dropped messages, which the next list makes up for.
        event => tracing::debug!(%event, "the connection to the broker of the cluster"),
    }
}

fn failure(error: &async_nats::ConnectError) -> ConnectFailure {
    let cause = error.source();
    let why = cause.map_or_else(|| error.kind().to_string(), ToString::to_string);
    let certificate =
        cause.and_then(|cause| certificate_problem(cause.downcast_ref::<io::Error>()?));
    match (certificate, error.kind()) {
        (Some(problem), _) => problem.into(),
        (None, ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication) => {
            ConnectFailure::Refused(why)
        }
        _ => ConnectFailure::Unreachable(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_second() {
        for (attempt, longest_ms) in [(1, 100), (2, 200), (3, 400), (5, 1000), (usize::MAX, 1000)] {
            let (wait, longest) = (wait_before(attempt), Duration::from_millis(longest_ms));
            assert!(wait >= longest / 2 && wait <= longest, "{attempt}: {wait:?}");
        }
    }
}
