//! What a registry can do wrong. `tests/e2e/registry.rs` has a real one.

use super::artifact::described;
use super::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

const COMPONENT: &[u8] = b"a component, as far as a registry knows";

/// A registry with prepared answers.
struct Prepared {
    port: u16,
    /// The requests, each with its line and headers.
    heard: Arc<Mutex<Vec<String>>>,
    _serving: AbortOnDropHandle<()>,
}

/// Answers each request with what `answers` has for its path: everything after `HTTP/1.1 `.
async fn registry(answers: impl FnOnce(u16) -> BTreeMap<String, String>) -> Prepared {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (answers, heard) = (answers(port), Arc::new(Mutex::new(Vec::new())));
    let told = Arc::clone(&heard);
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            let mut request = String::new();
            while !request.ends_with("\r\n\r\n") {
                if stream.read_line(&mut request).await.unwrap() == 0 {
                    break;
                }
            }
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            let answer = answers.get(&path).cloned().unwrap_or_else(|| ok("404 Not Found", "", ""));
            told.lock().unwrap().push(request);
            // The client may have heard enough.
            let _ = stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await;
        }
    });
    Prepared { port, heard, _serving: AbortOnDropHandle::new(serving) }
}

/// An answer with these further headers.
fn ok(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("{status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}")
}

fn manifest() -> String {
    let interfaces = Interfaces { exports: &[], imports: &[] };
    String::from_utf8(described(COMPONENT, "1", &interfaces).unwrap().1).unwrap()
}

fn blob() -> String {
    format!("/v2/lab/fair/blobs/{}", ContentDigest::of(COMPONENT))
}

const MANIFEST: &str = "/v2/lab/fair/manifests/1";

/// The answers of a registry that has the plugin.
fn right() -> BTreeMap<String, String> {
    let component = std::str::from_utf8(COMPONENT).unwrap();
    BTreeMap::from([
        (MANIFEST.to_owned(), ok("200 OK", "", &manifest())),
        (blob(), ok("200 OK", "", component)),
    ])
}

impl Prepared {
    fn reference(&self) -> Reference {
        format!("oci://127.0.0.1:{}/lab/fair:1", self.port).parse().unwrap()
    }

    /// What comes of fetching the plugin.
    async fn fetched(&self, reference: &Reference) -> Result<Bytes, RegistryError> {
        let mut registry = Registry::of(reference);
        let found = registry.find().await?;
        registry.fetch(&found).await
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn a_plugin_is_found_and_fetched_by_its_digest() {
    let registry = registry(|_| right()).await;
    let reference = registry.reference();
    assert_eq!(registry.fetched(&reference).await.unwrap(), COMPONENT);
    let found = Registry::of(&reference).find().await.unwrap();
    assert_eq!(found.pinned.digest, Some(ContentDigest::of(manifest().as_bytes())));
    assert_eq!(found.version.as_deref(), Some("1"));
}

#[tokio::test]
async fn what_is_not_what_was_pinned_is_refused() {
    let registry = registry(|_| {
        let mut answers = right();
        let other = ContentDigest::of(b"other");
        let pinned = MANIFEST.replace("/1", &format!("/{other}"));
        answers.insert(pinned, ok("200 OK", "", &manifest()));
        answers
    })
    .await;
    let reference = registry.reference().pinned(ContentDigest::of(b"other"));
    let said = registry.fetched(&reference).await.unwrap_err().to_string();
    for word in ["manifest", ContentDigest::of(b"other").as_str(), "expected was"] {
        assert!(said.contains(word), "{said}");
    }
}

#[tokio::test]
async fn a_registry_that_gives_something_else_than_it_says_is_found_out() {
    let long = "x".repeat(COMPONENT.len() + 1);
    let other = "x".repeat(COMPONENT.len());
    let claims = format!("Docker-Content-Digest: {}\r\n", ContentDigest::of(b"other"));
    let huge = manifest().replace(&format!("\"size\":{}", COMPONENT.len()), "\"size\":99000000000");
    for (path, answer, expected) in [
        (MANIFEST.to_owned(), ok("200 OK", &claims, &manifest()), "the digest of its manifest is"),
        (blob(), ok("200 OK", "", &other), "the digest of its component is"),
        (blob(), ok("200 OK", "", &long), "longer than 39 bytes"),
        (MANIFEST.to_owned(), ok("200 OK", "", &huge), "has 99000000000 bytes"),
        (MANIFEST.to_owned(), ok("200 OK", "", &"x".repeat(2 << 20)), "longer than 1048576 bytes"),
        (MANIFEST.to_owned(), ok("200 OK", "", "{}"), "cannot be used"),
        (MANIFEST.to_owned(), ok("404 Not Found", "", ""), "does not exist, or only for others"),
        (MANIFEST.to_owned(), ok("418 Teapot", "", r#"{"errors":[{"message":"tea"}]}"#), ": tea"),
        (blob(), ok("307 Elsewhere", "Location: http://10.0.0.1/x\r\n", ""), "is not encrypted"),
        (blob(), ok("307 Elsewhere", &format!("Location: {}\r\n", blob()), ""), "redirections"),
        (
            MANIFEST.to_owned(),
            ok("401 Who", "WWW-Authenticate: Basic realm=\"x\"\r\n", ""),
            "login",
        ),
    ] {
        let registry = registry(|_| {
            let mut answers = right();
            answers.insert(path, answer);
            answers
        })
        .await;
        let error = registry.fetched(&registry.reference()).await.unwrap_err();
        let said = format!("{:#}", anyhow::Error::from(error));
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[tokio::test]
async fn a_token_is_for_its_registry_alone() {
    let elsewhere = registry(|_| right()).await;
    let at = format!("Location: http://127.0.0.1:{}{}\r\n", elsewhere.port, blob());
    let registry = registry(|port| {
        let challenge = format!(
            "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"lab\"\r\n"
        );
        BTreeMap::from([
            (MANIFEST.to_owned(), ok("401 Who", &challenge, "")),
            ("/token?service=lab".to_owned(), ok("200 OK", "", r#"{"token":"quiet"}"#)),
            (blob(), ok("307 Elsewhere", &at, "")),
        ])
    })
    .await;
    // The token does not help here, and it is tried only once.
    let reference = registry.reference();
    let error = Registry::of(&reference).find().await.unwrap_err();
    assert!(matches!(error, RegistryError::Login { .. }), "{error}");
    let heard = registry.heard();
    let lines: Vec<_> = heard.iter().filter_map(|request| request.lines().next()).collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(heard[2].contains("authorization: Bearer quiet"), "{heard:?}");

    let mut session = Registry::of(&reference);
    session
        .transport
        .send(Call::new(Method::GET, session.transport.url("manifests/1")))
        .await
        .unwrap();
    let digest = ContentDigest::of(COMPONENT);
    let size_bytes = COMPONENT.len() as u64;
    let component = artifact::Blob { digest, size_bytes };
    let found = ResolvedPlugin { pinned: reference.clone(), version: None, component };
    assert_eq!(session.fetch(&found).await.unwrap(), COMPONENT);
    assert!(registry.heard().last().unwrap().contains("Bearer quiet"));
    assert!(!elsewhere.heard()[0].contains("authorization"), "{:?}", elsewhere.heard());
}
