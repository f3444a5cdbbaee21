//! The signaling servers that a peer may use. A peer stays at one of them, and moves to another when that
//! one is gone.

use super::endpoints::{Address, Endpoints};
use super::error::ProxyError;
use super::{HttpApi, PeerIdentity, SignalingError};
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use sleap_rtc_protocol::ids::IdToken;
use std::fmt::Display;
use std::time::Duration;
use tokio::time::sleep;
use url::Url;

/// How long a server may be silent before the next one is asked as well.
const STAGGER: Duration = Duration::from_secs(1);
/// The most servers in a list.
const MAX_SERVERS: usize = 16;

/// Signaling servers that share their rooms, in the order in which they are tried; at least one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Servers {
    #[serde(flatten)]
    first: Endpoints,
    #[serde(default, rename = "more_servers", skip_serializing_if = "Vec::is_empty")]
    others: Vec<Endpoints>,
}

impl From<Endpoints> for Servers {
    fn from(only: Endpoints) -> Self {
        Self { first: only, others: Vec::new() }
    }
}

impl Servers {
    /// Servers whose first addresses are given in any of the four schemes.
    pub fn from_texts(texts: &[String]) -> Result<Self, String> {
        let endpoints: Result<_, _> = texts.iter().map(|text| Endpoints::from_one(text)).collect();
        Self::new(endpoints?)
    }

    /// Derives what is missing: the addresses for HTTP from those of the WebSockets, or the other way
    /// round. Without any, the server is on this machine.
    pub fn complete(websockets: Vec<Address>, http: Vec<Address>) -> Result<Self, String> {
        if !websockets.is_empty() && !http.is_empty() && websockets.len() != http.len() {
            return Err(format!(
                "the numbers of addresses differ: {} for WebSockets (signaling_websocket, SLEAP_RTC_SIGNALING_WS) and {} \
                 for HTTP (signaling_http, SLEAP_RTC_SIGNALING_HTTP); leave those for HTTP out, or give one for each server",
                websockets.len(),
                http.len()
            ));
        }
        let servers = websockets.len().max(http.len()).max(1);
        let (mut websockets, mut http) = (websockets.into_iter(), http.into_iter());
        let endpoints: Result<_, _> =
            (0..servers).map(|_| Endpoints::complete(websockets.next(), http.next())).collect();
        Self::new(endpoints?)
    }

    fn new(endpoints: Vec<Endpoints>) -> Result<Self, String> {
        if endpoints.len() > MAX_SERVERS {
            return Err(format!(
                "names {} servers, and {MAX_SERVERS} are allowed",
                endpoints.len()
            ));
        }
        let mut distinct: Vec<Endpoints> = Vec::new();
        for server in endpoints {
            if !distinct.contains(&server) {
                distinct.push(server);
            }
        }
        let mut distinct = distinct.into_iter();
        let first = distinct.next().ok_or("names no server")?;
        Ok(Self { first, others: distinct.collect() })
    }

    /// The same servers once it is known where each is; see [`Endpoints::settled`].
    #[must_use]
    pub async fn settled(self) -> Self {
        let Self { first, others } = self;
        let others = join_all(others.into_iter().map(Endpoints::settled));
        let (first, others) = tokio::join!(first.settled(), others);
        Self { first, others }
    }

    /// The same with another first one.
    #[must_use]
    pub fn with_first(self, first: Endpoints) -> Self {
        Self { first, ..self }
    }

    /// The server that is tried first.
    pub fn first(&self) -> &Endpoints {
        &self.first
    }

    /// All servers, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Endpoints> {
        let all: Vec<&Endpoints> = std::iter::once(&self.first).chain(&self.others).collect();
        all.into_iter()
    }

    /// Whether there is a choice.
    pub fn are_several(&self) -> bool {
        !self.others.is_empty()
    }

    /// Whether one of these servers is one of `others`, so that both lead to the same rooms.
    pub fn share_with(&self, others: &Self) -> bool {
        self.iter().any(|own| others.iter().any(|other| other == own))
    }

    /// These servers, and those of `others` that are not among them.
    #[must_use]
    pub fn and(&self, others: &Self) -> Self {
        let mut all = self.clone();
        for other in others.iter().filter(|other| self.iter().all(|own| own != *other)) {
            if all.iter().len() < MAX_SERVERS {
                all.others.push(other.clone());
            }
        }
        all
    }

    /// The same servers, beginning with `server` if it is one of them.
    #[must_use]
    pub fn beginning_with(&self, server: &Endpoints) -> Self {
        let at = self.iter().position(|known| known == server).unwrap_or(0);
        self.rotated(at)
    }

    /// The same servers, beginning with the one after `server`.
    #[must_use]
    pub fn after(&self, server: &Endpoints) -> Self {
        let at = self.iter().position(|known| known == server).map_or(0, |at| at + 1);
        self.rotated(at % self.iter().len())
    }

    fn rotated(&self, at: usize) -> Self {
        let mut all: Vec<Endpoints> = self.iter().cloned().collect();
        all.rotate_left(at);
        let mut all = all.into_iter();
        let first = all.next().unwrap_or_else(|| self.first.clone());
        Self { first, others: all.collect() }
    }

    /// The first warning about what third parties on the way to a server can read; see [`Endpoints::exposure`].
    pub fn exposure(&self) -> Option<String> {
        self.iter().find_map(Endpoints::exposure)
    }

    /// Whether one of them speaks TLS.
    pub fn have_tls(&self) -> bool {
        self.iter().any(|server| server.websocket.scheme() == "wss")
    }

    /// The proxy on the way to the first server; see [`Endpoints::proxy_url`].
    ///
    /// # Errors
    /// The environment names an invalid proxy.
    pub fn proxy_url(&self) -> Result<Option<Url>, ProxyError> {
        self.first.proxy_url()
    }

    /// Signs in at the first server that answers; see [`HttpApi::sign_in`]. Returns that server, too.
    ///
    /// # Errors
    /// When no server can be reached, or the one that answers refuses.
    pub async fn sign_in(
        &self,
        renew: Option<&IdToken>,
    ) -> Result<(Endpoints, PeerIdentity), SignalingError> {
        let ask =
            |server: Endpoints| async move { HttpApi::new(&server.http).sign_in(renew).await };
        self.first_that_answers(ask).await
    }

    /// Does `ask` at one server after the other, until one of them answers. The next one is asked as soon
    /// as the one before has failed, or is silent for [`STAGGER`]. If all fail, returns the failure of the
    /// first.
    pub(crate) async fn first_that_answers<T, E: Display, Asking>(
        &self,
        ask: impl Fn(Endpoints) -> Asking,
    ) -> Result<(Endpoints, T), E>
    where
        Asking: Future<Output = Result<T, E>>,
    {
        let mut unasked = self.iter();
        let mut asked = FuturesUnordered::new();
        let mut first_failure = None;
        loop {
            if let Some(server) = unasked.next() {
                let asking = ask(server.clone());
                asked.push(async move { (server, asking.await) });
            }
            let are_more = unasked.len() > 0;
            tokio::select! {
                Some((server, answer)) = asked.next() => match answer {
                    Ok(answer) => return Ok((server.clone(), answer)),
                    Err(error) if asked.is_empty() && !are_more => {
                        return Err(first_failure.unwrap_or(error));
                    }
                    Err(error) => {
                        tracing::debug!(server = %server.websocket, %error, "a signaling server does not answer");
                        first_failure.get_or_insert(error);
                    }
                },
                () = sleep(STAGGER), if are_more => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    fn servers(names: &[&str]) -> Servers {
        let texts: Vec<String> = names.iter().map(|name| format!("ws://{name}:1")).collect();
        Servers::from_texts(&texts).unwrap()
    }

    fn hosts(servers: &Servers) -> Vec<&str> {
        servers.iter().filter_map(|server| server.websocket.host_str()).collect()
    }

    fn unreachable() -> SignalingError {
        SignalingError::NoAnswer { what: "a test" }
    }

    #[test]
    fn a_list_turns_and_keeps_its_order() {
        let all = servers(&["a", "b", "c", "b"]);
        assert_eq!(hosts(&all), ["a", "b", "c"]);
        let b = servers(&["b"]);
        assert_eq!(hosts(&all.beginning_with(b.first())), ["b", "c", "a"]);
        assert_eq!(hosts(&all.after(b.first())), ["c", "a", "b"]);
        assert_eq!(hosts(&all.after(servers(&["c"]).first())), ["a", "b", "c"]);
        assert_eq!(hosts(&all.after(servers(&["x"]).first())), ["a", "b", "c"]);
        assert_eq!(hosts(&b.after(b.first())), ["b"]);
        assert!(all.share_with(&b) && !b.share_with(&servers(&["c", "a"])));
        assert_eq!(hosts(&servers(&["b", "x"]).and(&all)), ["b", "x", "a", "c"]);
    }

    #[test]
    fn addresses_of_both_kinds_belong_together_by_their_place() {
        let address = |text: &str| Address::websocket(text).unwrap();
        let http = |text: &str| Address::http(text).unwrap();
        let two = Servers::complete(vec![address("ws://a"), address("wss://b")], Vec::new());
        let derived: Vec<String> = two.unwrap().iter().map(|it| it.http.to_string()).collect();
        assert_eq!(derived, ["http://a:8001/", "https://b/"]);
        let given = Servers::complete(vec![address("ws://a")], vec![http("http://b:2")]).unwrap();
        assert_eq!(given.first().http.as_str(), "http://b:2/");
        let wrong =
            Servers::complete(vec![address("ws://a"), address("ws://b")], vec![http("http://a:2")]);
        assert!(wrong.unwrap_err().contains("2 for WebSockets"));
        let here = Servers::complete(Vec::new(), Vec::new()).unwrap();
        assert_eq!(here, Servers::from(Endpoints::complete(None, None).unwrap()));
    }

    #[test]
    fn one_server_is_saved_as_before_there_were_several() {
        let one = serde_json::json!({"websocket": "ws://a:1/", "http": "http://a:1/"});
        assert_eq!(serde_json::to_value(servers(&["a"])).unwrap(), one);
        assert_eq!(serde_json::from_value::<Servers>(one).unwrap(), servers(&["a"]));
        let three = servers(&["a", "b", "c"]);
        let saved = serde_json::to_value(&three).unwrap();
        assert_eq!(saved["more_servers"][1]["http"], "http://c:1/");
        assert_eq!(serde_json::from_value::<Servers>(saved).unwrap(), three);
    }

    #[tokio::test]
    async fn the_first_that_answers_is_used_and_a_silent_one_costs_a_second() {
        let all = servers(&["silent", "refuses", "answers", "unasked"]);
        let calls = AtomicUsize::new(0);
        let start = Instant::now();
        let found = all.first_that_answers(|server| {
            calls.fetch_add(1, Ordering::Relaxed);
            async move {
                match server.websocket.host_str() {
                    Some("silent") => std::future::pending().await,
                    Some("refuses") => Err(unreachable()),
                    _ => Ok(7),
                }
            }
        });
        let (server, seven) = found.await.unwrap();
        assert_eq!((server.websocket.host_str(), seven), (Some("answers"), 7));
        assert!(start.elapsed() >= STAGGER && start.elapsed() < 5 * STAGGER);
        assert_eq!(calls.into_inner(), 3);
    }

    #[tokio::test]
    async fn if_none_answers_the_failure_is_that_of_the_first() {
        let (all, asked) = (servers(&["a", "b"]), AtomicUsize::new(0));
        let failed = all.first_that_answers(|_| {
            let nth = asked.fetch_add(1, Ordering::Relaxed);
            async move { Err::<(), _>(if nth == 0 { unreachable() } else { SignalingError::Lost }) }
        });
        assert!(matches!(failed.await, Err(SignalingError::NoAnswer { .. })));
    }
}
