//! The proxies in `HTTPS_PROXY` and similar variables: chooses the one for a host, and opens a
//! tunnel through it (HTTP CONNECT).

use super::dial::{bare, dial};
use super::error::{ConnectError, ProxyError, ProxyName};
use super::stream::{ByteStream, within_deadline};
use super::tls;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use std::net::IpAddr;
use std::sync::OnceLock;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

/// The proxies in the environment. An empty variable counts as unset.
#[derive(Debug, Default)]
struct Settings {
    /// For `https:` and `wss:`.
    secure: Option<Setting>,
    /// For `http:` and `ws:`.
    plain: Option<Setting>,
    /// Hosts that are reached directly.
    direct: String,
}

#[derive(Debug, Clone)]
struct Setting {
    variable: &'static str,
    value: String,
}

/// A proxy to use.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) name: ProxyName,
    uri: Uri,
    authorization: Option<HeaderValue>,
}

impl Settings {
    fn from_variables(read: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&'static str]| {
            names.iter().find_map(|variable| {
                let value = read(variable).filter(|value| !value.trim().is_empty())?;
                Some(Setting { variable, value: value.trim().to_owned() })
            })
        };
        // Lower case first, like curl.
        let direct = first(&["no_proxy", "NO_PROXY"]).map(|setting| setting.value);
        Self {
            secure: first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            plain: first(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]),
            direct: direct.unwrap_or_default(),
        }
    }

    /// The proxy on the way to `url`. None for this machine itself, which a proxy could not reach.
    fn proxy_for(&self, url: &Url) -> Result<Option<Proxy>, ProxyError> {
        let host = url.host_str().unwrap_or_default();
        if is_this_machine(host) {
            return Ok(None);
        }
        let secure = matches!(url.scheme(), "https" | "wss");
        let setting = if secure { &self.secure } else { &self.plain };
        let Some(Setting { variable, value }) = setting else { return Ok(None) };
        let unusable = || ProxyError::Unusable { variable };
        let everything = Matcher::builder().all(value).no(exceptions(&self.direct)).build();
        let scheme = if secure { "https" } else { "http" };
        let target = format!("{scheme}://{host}/").parse::<Uri>().map_err(|_| unusable())?;
        let Some(found) = everything.intercept(&target) else {
            // Either the host is an exception, or the value is unusable.
            let usable = Matcher::builder().all(value).build().intercept(&target).is_some();
            return if usable { Ok(None) } else { Err(unusable()) };
        };
        if !matches!(found.uri().scheme_str(), Some("http" | "https")) {
            return Err(unusable());
        }
        let name = ProxyName { variable, url: found.uri().to_string() };
        let authorization = found.basic_auth().cloned();
        Ok(Some(Proxy { name, uri: found.uri().clone(), authorization }))
    }
}

fn is_this_machine(host: &str) -> bool {
    let loopback = bare(host).parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    loopback || host.eq_ignore_ascii_case("localhost")
}

/// `NO_PROXY` in the matcher's form: commas between the entries, and a dot for `*.`.
fn exceptions(text: &str) -> String {
    let entries = text.split([',', ' ', '\t']).filter(|entry| !entry.is_empty());
    let entries =
        entries.map(|entry| entry.strip_prefix('*').filter(|s| !s.is_empty()).unwrap_or(entry));
    entries.collect::<Vec<_>>().join(",")
}

impl Proxy {
    /// As one URL with user name and password, for other libraries.
    pub(crate) fn url(&self) -> Option<Url> {
        let mut url = Url::parse(&self.name.url).ok()?;
        let basic = self.authorization.as_ref().and_then(|value| value.to_str().ok());
        if let Some(encoded) = basic.and_then(|text| text.strip_prefix("Basic ")) {
            let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
            let (user, password) = decoded.split_once(':')?;
            url.set_username(user).ok()?;
            url.set_password(Some(password).filter(|password| !password.is_empty())).ok()?;
        }
        Some(url)
    }
}

/// The proxy that the environment names for `url`.
pub(crate) fn proxy_for(url: &Url) -> Result<Option<Proxy>, ProxyError> {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    let settings =
        SETTINGS.get_or_init(|| Settings::from_variables(|name| std::env::var(name).ok()));
    settings.proxy_for(url)
}

/// A stream to `host:port` through the proxy.
pub(crate) async fn tunnel(
    proxy: &Proxy,
    host: &str,
    port: u16,
) -> Result<Box<dyn ByteStream>, ConnectError> {
    let through = |source| ConnectError::Proxy { proxy: proxy.name.clone(), source };
    let connection = connect(proxy).await.map_err(|error| through(ProxyError::from(error)))?;
    within_deadline(ask(proxy, connection, host, port))
        .await
        .map_err(|late| through(late.into()))?
        .map_err(through)
}

async fn connect(proxy: &Proxy) -> Result<Box<dyn ByteStream>, ConnectError> {
    let secure = proxy.uri.scheme_str() == Some("https");
    let host = proxy.uri.host().unwrap_or_default();
    let port = proxy.uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let tcp = within_deadline(dial(host, port)).await??;
    match secure {
        true => tls::secure(host, Box::new(tcp)).await,
        false => Ok(Box::new(tcp)),
    }
}

async fn ask(
    proxy: &Proxy,
    connection: Box<dyn ByteStream>,
    host: &str,
    port: u16,
) -> Result<Box<dyn ByteStream>, ProxyError> {
    let target = format!("{host}:{port}");
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(target.as_str())
        .header(HOST, target.as_str())
        .body(Empty::<Bytes>::new())
        .map_err(|_| ProxyError::Target { target: target.clone() })?;
    if let Some(authorization) = &proxy.authorization {
        request.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
    }
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(connection)).await;
    let (mut sender, driver) = handshake?;
    let _driver = AbortOnDropHandle::new(tokio::spawn(driver.with_upgrades()));
    let response = sender.send_request(request).await?;
    match response.status() {
        status if status.is_success() => {
            let upgraded = hyper::upgrade::on(response).await?;
            Ok(Box::new(TokioIo::new(upgraded)))
        }
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => Err(ProxyError::Authentication),
        status => Err(ProxyError::Refused { target, status }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;
    use std::net::SocketAddr;
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    /// A proxy that gives every request this answer, and then echoes everything.
    async fn answering(answer: &'static str) -> (SocketAddr, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = tokio::spawn(async move {
            let mut stream = BufReader::new(listener.accept().await.unwrap().0);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                stream.read_line(&mut head).await.unwrap();
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.read_to_string(&mut head).await.unwrap();
            head
        });
        (address, heard)
    }

    async fn through(
        answer: &'static str,
    ) -> (Result<Box<dyn ByteStream>, ConnectError>, JoinHandle<String>) {
        let (address, heard) = answering(answer).await;
        let value = format!("http://ann:secret@{address}");
        let settings = Settings {
            secure: Some(Setting { variable: "HTTPS_PROXY", value }),
            ..Settings::default()
        };
        let proxy = settings.proxy_for(&"wss://lab:8443/".parse().unwrap()).unwrap().unwrap();
        (tunnel(&proxy, "lab", 8443).await, heard)
    }

    #[tokio::test]
    async fn a_tunnel_carries_what_is_sent() {
        let (stream, heard) = through("HTTP/1.1 200 OK\r\n\r\n").await;
        let mut stream = stream.map_err(|error| error.to_string()).unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        let heard = heard.await.unwrap();
        assert!(heard.starts_with("CONNECT lab:8443 HTTP/1.1\r\n"), "{heard}");
        assert!(heard.contains("host: lab:8443\r\n"), "{heard}");
        assert!(heard.contains("proxy-authorization: Basic YW5uOnNlY3JldA==\r\n"), "{heard}");
        assert!(heard.ends_with("\r\n\r\nhello"), "{heard}");
    }

    #[tokio::test]
    async fn a_refusal_names_the_proxy_and_what_it_said() {
        for (answer, said) in [
            ("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "status 403"),
            ("HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n", "status 407"),
            ("SSH-2.0-OpenSSH\r\n", "HTTP request failed"),
        ] {
            let error = through(answer).await.0.map(drop).unwrap_err();
            let text = sleap_rtc_base::error::WithCauses(&error).to_string();
            assert!(text.contains("(HTTPS_PROXY)") && text.contains(said), "{text}");
            assert!(!text.contains("secret"), "{text}");
        }
    }

    fn settings(variables: &[(&'static str, &'static str)]) -> Settings {
        Settings::from_variables(|name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn named(variables: &[(&'static str, &'static str)], url: &str) -> Option<String> {
        let proxy = settings(variables).proxy_for(&url.parse().unwrap()).unwrap();
        proxy.map(|proxy| proxy.name.to_string())
    }

    #[test]
    fn each_scheme_has_its_variable() {
        let https = [("HTTPS_PROXY", "http://p:3128")];
        let through = Some("http://p:3128 (HTTPS_PROXY)".to_owned());
        for (url, expected) in [
            ("wss://lab/", &through),
            ("https://lab:8443/", &through),
            ("wss://[2001:db8::1]/", &through),
            ("ws://lab:8080/", &None),
            ("http://lab/", &None),
        ] {
            assert_eq!(named(&https, url), *expected, "{url}");
        }
        let all = [("ALL_PROXY", "p:3128"), ("http_proxy", "http://q"), ("https_proxy", " ")];
        assert_eq!(named(&all, "wss://lab/").unwrap(), "http://p:3128 (ALL_PROXY)");
        assert_eq!(named(&all, "ws://lab/").unwrap(), "http://q (http_proxy)");
        assert_eq!(named(&[], "wss://lab/"), None);
    }

    #[test]
    fn exceptions_and_this_machine_are_reached_directly() {
        let no_proxy = "lab.example.org,.inner, *.starred 10.0.0.0/8,fd00::/8";
        let variables = [("HTTPS_PROXY", "http://p:3128"), ("NO_PROXY", no_proxy)];
        for direct in [
            "lab.example.org",
            "gpu.lab.example.org",
            "a.inner",
            "a.starred",
            "10.1.2.3",
            "[fd00:cb::1]",
            "localhost",
            "127.0.0.1",
            "[::1]",
        ] {
            assert_eq!(named(&variables, &format!("wss://{direct}:1/")), None, "{direct}");
        }
        for through in ["example.org", "notlab.example.org", "192.0.2.1", "[2001:db8::1]"] {
            assert!(named(&variables, &format!("wss://{through}:1/")).is_some(), "{through}");
        }
        assert_eq!(named(&[("HTTPS_PROXY", "http://p"), ("no_proxy", "*")], "wss://lab/"), None);
    }

    #[test]
    fn what_is_no_proxy_is_named_by_its_variable() {
        for value in ["socks5://p:1080", "http://", "ftp://p", "not a proxy"] {
            let settings = settings(&[("HTTPS_PROXY", value)]);
            let refused = settings.proxy_for(&"wss://lab/".parse().unwrap()).unwrap_err();
            assert!(refused.to_string().contains("HTTPS_PROXY"), "{value}: {refused}");
        }
    }

    #[test]
    fn a_password_is_sent_and_never_shown() {
        let settings = settings(&[("HTTPS_PROXY", "http://ann:s%40cret@p:3128")]);
        let proxy = settings.proxy_for(&"wss://lab/".parse().unwrap()).unwrap().unwrap();
        let expected = HeaderValue::from_static("Basic YW5uOnNAY3JldA==");
        assert_eq!(proxy.authorization, Some(expected));
        assert_eq!(proxy.name.to_string(), "http://p:3128 (HTTPS_PROXY)");
        assert!(!format!("{proxy:?}").contains("cret"));
        assert_eq!(proxy.url().unwrap().as_str(), "http://ann:s%40cret@p:3128/");
    }
}
