//! Requests to a registry: logins, redirections, limits.

use super::credentials;
use super::error::RegistryError;
use super::reference::{Reference, is_this_machine};
use bytes::Bytes;
use hyper::header::{
    AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION, WWW_AUTHENTICATE,
};
use hyper::{Method, StatusCode};
use serde::Deserialize;
use sleap_rtc_signaling::client::{AnswerLimits, HttpAnswer, HttpRequest};
use std::time::Duration;
use url::Url;

/// The longest way to a file: registries keep files elsewhere.
const REDIRECTIONS: usize = 5;
/// The longest answer that is not a plugin, and how long it may take.
pub(crate) const SHORT: AnswerLimits =
    AnswerLimits { bytes: 1 << 20, time: Duration::from_secs(30) };

/// A request.
#[derive(Clone)]
pub(crate) struct Call {
    pub method: Method,
    pub url: Url,
    pub header: Option<(HeaderName, &'static str)>,
    pub body: Bytes,
    pub limits: AnswerLimits,
}

impl Call {
    /// A request without a body.
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Self { method, url, header: None, body: Bytes::new(), limits: SHORT }
    }
}

/// A token, as a registry's authority gives it.
#[derive(Deserialize)]
struct Token {
    #[serde(alias = "access_token")]
    token: String,
}

/// What a registry wants to see.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    /// Name and password.
    Basic,
    /// A token of this authority.
    Bearer(Url),
}

/// Calls to the registry of a plugin.
pub(crate) struct Transport<'a> {
    reference: &'a Reference,
    authorization: Option<HeaderValue>,
}

impl<'a> Transport<'a> {
    pub(crate) fn new(reference: &'a Reference) -> Self {
        Self { reference, authorization: None }
    }

    /// The registry's address of a part of the plugin, such as `manifests/1`.
    pub(crate) fn url(&self, part: &str) -> Url {
        let mut url = self.reference.base.clone();
        url.set_path(&format!("/v2/{}/{part}", self.reference.name));
        url
    }

    /// Sends a request. Logs in if the registry asks for that.
    pub(crate) async fn send(&mut self, call: Call) -> Result<HttpAnswer, RegistryError> {
        let answer = self.follow(call.clone()).await?;
        if answer.status != StatusCode::UNAUTHORIZED || self.authorization.is_some() {
            return Ok(answer);
        }
        self.authorization = Some(self.log_in(&answer.headers).await?);
        self.follow(call).await
    }

    /// Sends a request, and goes where the answer points.
    async fn follow(&self, mut call: Call) -> Result<HttpAnswer, RegistryError> {
        for _ in 0..=REDIRECTIONS {
            let answer = self.once(&call).await?;
            let is_read = matches!(call.method, Method::GET | Method::HEAD);
            let target = answer.headers.get(LOCATION).filter(|_| answer.status.is_redirection());
            let Some(target) = target.filter(|_| is_read) else { return Ok(answer) };
            call.url = joined(&call.url, target).ok_or_else(|| self.broken("an address"))?;
        }
        Err(self.broken("more than five redirections"))
    }

    async fn once(&self, call: &Call) -> Result<HttpAnswer, RegistryError> {
        let Call { method, url, header, body, limits } = call.clone();
        if url.scheme() != "https" && !(url.scheme() == "http" && is_this_machine(&url)) {
            return Err(RegistryError::NotEncrypted(Box::new(url)));
        }
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = header {
            headers.insert(name, HeaderValue::from_static(value));
        }
        // Whoever a registry points to has no business with this user's rights there.
        let own = self.authorization.clone();
        if let Some(value) = own.filter(|_| url.origin() == self.reference.base.origin()) {
            headers.insert(AUTHORIZATION, value);
        }
        self.answer(HttpRequest { method, url, headers, body }, limits).await
    }

    async fn answer(
        &self,
        request: HttpRequest,
        limits: AnswerLimits,
    ) -> Result<HttpAnswer, RegistryError> {
        let url = request.url.clone();
        request.send(limits).await.map_err(|source| RegistryError::Unreachable {
            registry: url.host_str().unwrap_or_default().to_owned(),
            source: Box::new(source),
        })
    }

    /// What the registry wants to see after it has answered 401.
    async fn log_in(&self, headers: &HeaderMap) -> Result<HeaderValue, RegistryError> {
        let registry = self.reference.registry();
        let basic = credentials::basic(&registry);
        let said = headers.get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
        let value = match said.and_then(challenge) {
            None => return Err(self.broken("no way to log in that is known here")),
            Some(Challenge::Basic) => basic.ok_or(RegistryError::Login { registry })?,
            Some(Challenge::Bearer(authority)) => {
                format!("Bearer {}", self.token(authority, basic).await?)
            }
        };
        secret(&value).ok_or_else(|| self.broken("a token"))
    }

    /// A token of `authority`.
    async fn token(&self, url: Url, basic: Option<String>) -> Result<String, RegistryError> {
        if url.scheme() != "https" && !is_this_machine(&url) {
            return Err(RegistryError::NotEncrypted(Box::new(url)));
        }
        let mut headers = HeaderMap::new();
        if let Some(basic) = basic.as_deref().and_then(secret) {
            headers.insert(AUTHORIZATION, basic);
        }
        let request = HttpRequest { method: Method::GET, url, headers, body: Bytes::new() };
        let answer = self.answer(request, SHORT).await?;
        if !answer.status.is_success() {
            return Err(RegistryError::Login { registry: self.reference.registry() });
        }
        let token: Token =
            serde_json::from_slice(&answer.body).map_err(|_| self.broken("a token"))?;
        Ok(token.token)
    }

    /// The registry has answered with something else than `expected`.
    pub(crate) fn broken(&self, unexpected: &'static str) -> RegistryError {
        RegistryError::Unexpected { registry: self.reference.registry(), what: unexpected }
    }
}

/// A header that is not shown in logs.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The address that an answer points to, which may be relative.
pub(crate) fn joined(url: &Url, location: &HeaderValue) -> Option<Url> {
    url.join(location.to_str().ok()?).ok()
}

/// Reads `Bearer realm="…",service="…",scope="…"` or `Basic realm="…"`.
fn challenge(text: &str) -> Option<Challenge> {
    let (scheme, mut rest) = text.split_once(' ').unwrap_or((text, ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    let mut realm: Option<Url> = None;
    let mut query = Vec::new();
    while let Some((key, after)) = rest.split_once('=') {
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        match key.trim_matches([' ', ',']) {
            "realm" => realm = Some(value.parse().ok()?),
            key @ ("service" | "scope") => query.push((key, value)),
            _ => {}
        }
        rest = next;
    }
    let mut realm = realm.filter(|_| scheme.eq_ignore_ascii_case("bearer"))?;
    realm.query_pairs_mut().extend_pairs(query);
    Some(Challenge::Bearer(realm))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_registry_wants_to_see_is_understood() {
        let bearer = r#"Bearer realm="https://auth.lab/token",service="lab",scope="repository:a/b:pull,push""#;
        let Some(Challenge::Bearer(url)) = challenge(bearer) else { panic!("{bearer}") };
        let expected = "https://auth.lab/token?service=lab&scope=repository%3Aa%2Fb%3Apull%2Cpush";
        assert_eq!(url.as_str(), expected);
        assert_eq!(challenge("Basic realm=\"x\""), Some(Challenge::Basic));
        for text in ["", "Bearer", "Negotiate realm=\"https://a\"", "Bearer realm=\"no url\""] {
            assert_eq!(challenge(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_challenge_makes_it_panic(text in "(Bearer |Basic )?[a-z=\", :/]{0,80}") {
            let _ = challenge(&text);
        }
    }
}
