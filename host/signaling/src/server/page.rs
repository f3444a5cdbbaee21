//! The client for browsers, which `build.rs` makes.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY, UPGRADE,
    VARY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};

/// Where it is.
pub(crate) const FOLDER: &str = "/app/";

/// One of its files.
#[derive(Debug)]
pub(crate) struct Asset {
    /// Its path below [`FOLDER`]: empty for the first one that a browser loads, which names the others.
    /// Their names have hashes of their contents.
    name: &'static str,
    kind: &'static str,
    /// Its content, compressed.
    gzip: &'static [u8],
}

#[cfg(feature = "page")]
static ASSETS: &[Asset] = &include!(concat!(env!("OUT_DIR"), "/page.rs"));
#[cfg(not(feature = "page"))]
static ASSETS: &[Asset] = &[];

/// Whether this program has it.
pub(crate) fn is_built_in() -> bool {
    !ASSETS.is_empty()
}

/// Whether a request without an upgrade comes from a person, who is looking for the page.
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    !headers.contains_key(UPGRADE) && accepted.is_some_and(|value| value.contains("text/html"))
}

/// Sends a browser to the page.
pub(crate) fn redirection() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    headers.insert(LOCATION, HeaderValue::from_static(FOLDER));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The file at `path`, if there is one.
pub(crate) fn serve(path: &str, request: &HeaderMap) -> Option<Response<Full<Bytes>>> {
    let name = path.strip_prefix(FOLDER)?;
    let asset = ASSETS.iter().find(|asset| asset.name == name)?;
    if !takes_gzip(request) {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::NOT_ACCEPTABLE;
        return Some(response);
    }
    let mut response = Response::new(Full::from(asset.gzip));
    let headers = response.headers_mut();
    // A name with a hash never has another content.
    let cached = match asset.name {
        "" => "no-cache",
        _ => "public, max-age=31536000, immutable",
    };
    const CROSS_ORIGIN: [&str; 2] = ["cross-origin-opener-policy", "cross-origin-resource-policy"];
    for (name, value) in [
        (CONTENT_TYPE, asset.kind),
        (CONTENT_ENCODING, "gzip"),
        (VARY, "accept-encoding"),
        (CACHE_CONTROL, cached),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static(CROSS_ORIGIN[0]), "same-origin"),
        (HeaderName::from_static(CROSS_ORIGIN[1]), "same-origin"),
        // As for all calls: the sockets are for peers.
        (CONNECTION, "close"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(policy) = HeaderValue::try_from(policy(request)) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    Some(response)
}

fn takes_gzip(request: &HeaderMap) -> bool {
    let accepted = request.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    accepted.is_none_or(|value| value.contains("gzip") || value.contains('*'))
}

/// The page loads only its own files, and talks only to this server and, over WebRTC, to workers. Some
/// browsers do not count the WebSocket of the same server as their own.
fn policy(request: &HeaderMap) -> String {
    let host = request.get(HOST).and_then(|value| value.to_str().ok());
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
    let host = host.filter(|host| host.chars().all(is_plain));
    let sockets = host.map(|host| format!(" ws://{host} wss://{host}")).unwrap_or_default();
    format!(
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self'; \
         worker-src 'self'; connect-src 'self'{sockets}; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(HeaderName, &'static str)]) -> HeaderMap {
        let headers = headers.iter().map(|(name, value)| (name.clone(), *value));
        headers.map(|(name, value)| (name, HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_host_cannot_change_the_policy() {
        let plain = policy(&request(&[(HOST, "gpu2:8080")]));
        assert!(plain.contains("connect-src 'self' ws://gpu2:8080 wss://gpu2:8080;"), "{plain}");
        let hostile = policy(&request(&[(HOST, "a; script-src *")]));
        assert!(!hostile.contains('*') && hostile.contains("connect-src 'self';"), "{hostile}");
    }

    #[test]
    fn browsers_look_for_the_page_and_peers_do_not() {
        let html = (ACCEPT, "text/html,application/xhtml+xml");
        assert!(is_wanted(&request(std::slice::from_ref(&html))));
        assert!(!is_wanted(&request(&[html, (UPGRADE, "websocket")])));
        assert!(!is_wanted(&request(&[(ACCEPT, "*/*")])));
    }

    #[cfg(feature = "page")]
    #[test]
    fn every_file_that_is_named_is_there_and_kept_by_browsers() {
        let plain = HeaderMap::new();
        let first = serve(FOLDER, &plain).unwrap();
        assert_eq!(first.headers()[CACHE_CONTROL], "no-cache");
        for asset in ASSETS {
            let response = serve(&format!("{FOLDER}{}", asset.name), &plain).unwrap();
            assert_eq!(response.headers()[CONTENT_TYPE], asset.kind);
            let kept = response.headers()[CACHE_CONTROL].to_str().unwrap().contains("immutable");
            assert_eq!(kept, !asset.name.is_empty());
        }
        assert!(serve("/app/../etc/passwd", &plain).is_none());
        let none = request(&[(ACCEPT_ENCODING, "identity")]);
        assert_eq!(serve(FOLDER, &none).unwrap().status(), StatusCode::NOT_ACCEPTABLE);
        let packed: usize = ASSETS.iter().map(|asset| asset.gzip.len()).sum();
        println!("the page has {packed} bytes, compressed");
        assert!(packed < 1_500_000, "{packed}");
    }
}
