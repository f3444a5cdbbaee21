//! The configuration file: which keys there are, and how its layers become one.

use super::error::ConfigError;
use super::policy::FilePolicy;
use super::properties::WorkerProperties;
use super::server::FileServer;
use super::tree::{self, Bytes, Entries, FromItem, Item, Located, Place, Section};
use super::values::{Parsed, time, unwrap_parsed};
use super::{SlotsConfig, units};
use sleap_rtc_base::ice::IceServer;
use sleap_rtc_protocol::capabilities::Gpu;
use sleap_rtc_signaling::client::Address;
use sleap_rtc_signaling::ice::OfferedServer;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// What a file says; absent is `None`. Paths are as they were written.
#[derive(Default)]
pub(super) struct FileConfig {
    pub(super) websocket: Option<Address>,
    pub(super) http: Option<Address>,
    pub(super) shared_storage_root: Option<String>,
    pub(super) ice_servers: Option<Vec<IceServer>>,
    pub(super) ice_from_signaling: Option<bool>,
    pub(super) ice_bind: Option<Vec<IpAddr>>,
    pub(super) worker: FileWorker,
    pub(super) client: FileClient,
    #[cfg_attr(
        not(feature = "peer"),
        expect(dead_code, reason = "checked for the programs that use it")
    )]
    pub(super) policy: FilePolicy,
    pub(super) server: FileServer,
    pub(super) warnings: Vec<String>,
}

/// `[worker]`.
#[derive(Default)]
pub(super) struct FileWorker {
    pub(super) state_dir: Option<String>,
    pub(super) gpus: Option<Vec<Gpu>>,
    pub(super) slots: Option<SlotsConfig>,
    pub(super) properties: Option<WorkerProperties>,
    pub(super) maintenance: Option<bool>,
    pub(super) keep_results: Option<Duration>,
    pub(super) keep_unfetched: Option<Duration>,
    pub(super) keep_results_bytes: Option<u64>,
    pub(super) max_package_bytes: Option<u64>,
    pub(super) bwlimit: Option<u64>,
    pub(super) cache_bytes: Option<u64>,
    pub(super) resume_within: Option<Duration>,
    pub(super) pass_env: Option<Vec<String>>,
    pub(super) trainer: Option<Vec<String>>,
}

/// `[client]`.
#[derive(Default)]
pub(super) struct FileClient {
    pub(super) user: Option<String>,
    pub(super) bwlimit: Option<u64>,
    pub(super) reconnect_for: Option<Duration>,
    pub(super) legacy_silence: Option<Duration>,
    pub(super) legacy_run_silence: Option<Duration>,
}

/// Reads `text`, the content of `path`, for the environment of that name. Every layer is checked,
/// the environments that were not chosen too.
pub(super) fn read(
    path: &Path,
    text: &str,
    environment: Option<&str>,
) -> Result<FileConfig, ConfigError> {
    let mut merged = tree::parse(path, text)?;
    let default = table(path, &mut merged, "default")?;
    let environments = table(path, &mut merged, "environments")?;
    let mut layers = Vec::new();
    for (name, value) in environments {
        let key = format!("environments.{name}");
        let place = Place { path, line: value.line, key };
        let Item::Table(entries) = value.item else {
            return Err(tree::wrong_type("a table", &value.item, &place));
        };
        layers.push((name, entries));
    }
    for entries in [&merged, &default].into_iter().chain(layers.iter().map(|(_, each)| each)) {
        FileConfig::read(path, entries.clone())?;
    }
    // Unset means `production`, as the Python program has it.
    let wanted = environment.unwrap_or("production");
    let names: Vec<String> = layers.iter().map(|(name, _)| name.clone()).collect();
    let chosen = layers.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
    let missing = environment.filter(|_| chosen.is_none() && !names.is_empty());
    tree::overlay(&mut merged, default);
    tree::overlay(&mut merged, chosen.map(|(_, entries)| entries).unwrap_or_default());
    let mut config = FileConfig::read(path, merged)?;
    config.warnings.extend(missing.map(|name| {
        format!(
            "{} has no section [environments.{name}] for SLEAP_RTC_ENV={name}; it has {}",
            path.display(),
            names.join(", ")
        )
    }));
    Ok(config)
}

fn table(path: &Path, entries: &mut Entries, key: &str) -> Result<Entries, ConfigError> {
    match entries.remove(key) {
        None => Ok(Entries::new()),
        Some(Located { item: Item::Table(entries), .. }) => Ok(entries),
        Some(Located { line, item }) => {
            let place = Place { path, line, key: key.into() };
            Err(tree::wrong_type("a table", &item, &place))
        }
    }
}

impl FileConfig {
    fn read(path: &Path, entries: Entries) -> Result<Self, ConfigError> {
        let mut root = Section::root(path, entries);
        let mut warnings = Vec::new();
        for key in ["connection_timeout", "chunk_size"] {
            warnings.extend(root.ignore(key).map(|line| python_only(path, line, key)));
        }
        let mut ice = root.section("ice")?;
        let config = Self {
            websocket: root
                .take_with("signaling_websocket", |text: String| Address::websocket(&text))?,
            http: root.take_with("signaling_http", |text: String| Address::http(&text))?,
            shared_storage_root: root.take("shared_storage_root")?,
            ice_servers: ice.take("servers")?,
            ice_from_signaling: ice.take("from_signaling")?,
            ice_bind: ice.take::<Vec<Parsed<IpAddr>>>("bind")?.map(unwrap_parsed),
            worker: FileWorker::read(path, root.section("worker")?, &mut warnings)?,
            client: FileClient::read(root.section("client")?)?,
            policy: FilePolicy::read(root.section("policy")?)?,
            server: FileServer::read(root.section("signaling")?)?,
            warnings,
        };
        ice.finish()?;
        root.finish()?;
        Ok(config)
    }
}

fn python_only(path: &Path, line: usize, key: &str) -> String {
    format!(
        "{}:{line}: `{key}` is a setting of the Python sleap-rtc and has no effect here",
        path.display()
    )
}

fn rate(text: String) -> Result<u64, String> {
    units::rate(&text)
}

/// A command line: a program and its first arguments.
fn command(text: String) -> Result<Vec<String>, String> {
    let words = shell_words::split(&text).map_err(|error| error.to_string())?;
    match words.is_empty() {
        true => Err("it names no program".to_owned()),
        false => Ok(words),
    }
}

impl FileWorker {
    fn read(
        path: &Path,
        mut section: Section<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Self, ConfigError> {
        warnings.extend(section.ignore("io").map(|line| python_only(path, line, "worker.io")));
        let worker = Self {
            state_dir: section.take("state_dir")?,
            gpus: section.take("gpus")?,
            slots: section.take("slots")?,
            properties: section.take("properties")?,
            maintenance: section.take("maintenance")?,
            keep_results: section.take_with("keep_results", time)?,
            keep_unfetched: section.take_with("keep_unfetched", time)?,
            keep_results_bytes: section
                .take::<Bytes>("keep_results_bytes")?
                .map(|Bytes(bytes)| bytes),
            max_package_bytes: section.take::<Bytes>("max_package")?.map(|Bytes(bytes)| bytes),
            bwlimit: section.take_with("bwlimit", rate)?,
            cache_bytes: section.take::<Bytes>("cache")?.map(|Bytes(bytes)| bytes),
            resume_within: section.take_with("resume_within", time)?,
            pass_env: section.take("pass_env")?,
            trainer: section.take_with("trainer", command)?,
        };
        section.finish()?;
        Ok(worker)
    }
}

impl FileClient {
    fn read(mut section: Section<'_>) -> Result<Self, ConfigError> {
        let client = Self {
            user: section.take("user")?,
            bwlimit: section.take_with("bwlimit", rate)?,
            reconnect_for: section.take_with("reconnect_for", time)?,
            legacy_silence: section.take_with("legacy_silence", time)?,
            legacy_run_silence: section.take_with("legacy_run_silence", time)?,
        };
        section.finish()?;
        Ok(client)
    }
}

impl FromItem for Gpu {
    fn from_item(item: Item, place: &Place<'_>) -> Result<Self, ConfigError> {
        let mut section = Section::from_place(item, place)?;
        let gpu = Self {
            model: section.require("model")?,
            memory_mib: section.require("memory_mib")?,
            ..Self::default()
        };
        section.finish()?;
        Ok(gpu)
    }
}

/// More jobs than this at once is a mistake, whatever the machine.
const MAX_SLOTS: usize = 64;

impl FromItem for SlotsConfig {
    fn from_item(item: Item, place: &Place<'_>) -> Result<Self, ConfigError> {
        let (slots, count) = match item {
            Item::Integer(_) => {
                let count = u64::from_item(item, place)?.try_into().unwrap_or(usize::MAX);
                (Self::Count(count), count)
            }
            Item::Array(_) => {
                let lists = Vec::<Vec<u32>>::from_item(item, place)?;
                let count = lists.len();
                (Self::Gpus(lists), count)
            }
            item => {
                let expected = "a number, or a list of GPU indices for each slot";
                return Err(tree::wrong_type(expected, &item, place));
            }
        };
        match count {
            1..=MAX_SLOTS => Ok(slots),
            _ => Err(place.error(format!("expects 1 to {MAX_SLOTS} slots, not {count}"))),
        }
    }
}

impl FromItem for u32 {
    fn from_item(item: Item, place: &Place<'_>) -> Result<Self, ConfigError> {
        let number = u64::from_item(item, place)?;
        number.try_into().map_err(|_| place.error("expects a smaller integer"))
    }
}

impl FromItem for IceServer {
    fn from_item(item: Item, place: &Place<'_>) -> Result<Self, ConfigError> {
        match offered_server(item, place, false)? {
            OfferedServer::Fixed(server) => Ok(server),
            OfferedServer::Secret { .. } => Err(place.error("has no account")),
        }
    }
}

impl FromItem for OfferedServer {
    fn from_item(item: Item, place: &Place<'_>) -> Result<Self, ConfigError> {
        offered_server(item, place, true)
    }
}

/// A URL, or a table; only a server that gives to others knows secrets.
fn offered_server(
    item: Item,
    place: &Place<'_>,
    secrets: bool,
) -> Result<OfferedServer, ConfigError> {
    if let Item::Text(url) = item {
        let server = IceServer::from_url(&url).map(OfferedServer::Fixed);
        return server.map_err(|message| place.error(message));
    }
    if !matches!(item, Item::Table(_)) {
        return Err(tree::wrong_type("a URL or a table", &item, place));
    }
    let mut section = Section::from_place(item, place)?;
    let OneOrMore(urls) = section.require("urls")?;
    let username: Option<String> = section.take("username")?;
    let credential: Option<String> = section.take("credential")?;
    let secret: Option<String> = if secrets { section.take("secret")? } else { None };
    section.finish()?;
    let server = match secret {
        None => IceServer::new(urls, username, credential).map(OfferedServer::Fixed),
        Some(_) if username.is_some() || credential.is_some() => {
            Err("has a `secret` and an account; one of them is enough".into())
        }
        Some(secret) => OfferedServer::with_secret(urls, secret),
    };
    server.map_err(|message| place.error(message))
}

struct OneOrMore(Vec<String>);

impl FromItem for OneOrMore {
    fn from_item(item: Item, place: &Place<'_>) -> Result<Self, ConfigError> {
        match item {
            Item::Text(text) => Ok(Self(vec![text])),
            list => Vec::from_item(list, place).map(Self),
        }
    }
}
