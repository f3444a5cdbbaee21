//! STUN and TURN servers: those that this program uses, and those that a signaling server gives out.

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use sleap_rtc_base::ice::IceServer;
use sleap_rtc_signaling::ice::OfferedServer;
use std::fmt;
use std::marker::PhantomData;

/// An element of `[ice] servers`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "UrlOr<ServerTable>")]
pub(crate) struct UsedServer(pub(crate) IceServer);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerTable {
    urls: Urls,
    username: Option<String>,
    credential: Option<String>,
}

impl TryFrom<UrlOr<ServerTable>> for UsedServer {
    type Error = String;

    fn try_from(server: UrlOr<ServerTable>) -> Result<Self, String> {
        match server {
            UrlOr::Url(url) => IceServer::from_url(&url),
            UrlOr::Table(ServerTable { urls, username, credential }) => {
                IceServer::new(urls.0, username, credential)
            }
        }
        .map(Self)
    }
}

/// An element of `[signaling] ice_servers`, which may have a secret instead of an account.
#[derive(Debug, Deserialize)]
#[serde(try_from = "UrlOr<OfferedTable>")]
pub(crate) struct GivenServer(pub(crate) OfferedServer);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfferedTable {
    urls: Urls,
    username: Option<String>,
    credential: Option<String>,
    secret: Option<String>,
}

impl TryFrom<UrlOr<OfferedTable>> for GivenServer {
    type Error = String;

    fn try_from(server: UrlOr<OfferedTable>) -> Result<Self, String> {
        let OfferedTable { urls: Urls(urls), username, credential, secret } = match server {
            UrlOr::Url(url) => {
                return IceServer::from_url(&url).map(OfferedServer::Fixed).map(Self);
            }
            UrlOr::Table(table) => table,
        };
        match secret {
            None => IceServer::new(urls, username, credential).map(OfferedServer::Fixed),
            Some(_) if username.is_some() || credential.is_some() => {
                Err("has a `secret` and an account; one of them is enough".to_owned())
            }
            Some(secret) => OfferedServer::with_secret(urls, secret),
        }
        .map(Self)
    }
}

/// A URL, or a table.
enum UrlOr<T> {
    Url(String),
    Table(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for UrlOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UrlOrVisitor(PhantomData))
    }
}

struct UrlOrVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for UrlOrVisitor<T> {
    type Value = UrlOr<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a URL or a table")
    }

    fn visit_str<E: Error>(self, url: &str) -> Result<UrlOr<T>, E> {
        Ok(UrlOr::Url(url.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<UrlOr<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(UrlOr::Table)
    }
}

/// The URLs of one server: a string, or a list of them.
struct Urls(Vec<String>);

impl<'de> Deserialize<'de> for Urls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UrlsVisitor)
    }
}

struct UrlsVisitor;

impl<'de> Visitor<'de> for UrlsVisitor {
    type Value = Urls;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a URL or a list of URLs")
    }

    fn visit_str<E: Error>(self, url: &str) -> Result<Urls, E> {
        Ok(Urls(vec![url.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Urls, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(Urls)
    }
}
