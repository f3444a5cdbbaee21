//! Who this user is at a registry: what `docker login`, `podman login` or `oras login` has written.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::{env, fs};

/// The file, in the folder that `DOCKER_CONFIG` names, by default `~/.docker`.
const FILE: &str = "config.json";

#[derive(Deserialize)]
struct Logins {
    #[serde(default)]
    auths: BTreeMap<String, Login>,
}

#[derive(Deserialize)]
struct Login {
    auth: Option<String>,
}

/// The value of an `Authorization` header for `registry`, if the user is logged in there. A file that cannot
/// be used is as good as none: the registry then asks for a login, and the error says where it was sought.
pub(crate) fn basic(registry: &str) -> Option<String> {
    let Logins { mut auths } = serde_json::from_slice(&fs::read(file()?).ok()?).ok()?;
    let auth = auths.remove(registry)?.auth?;
    // Nothing but base64 goes into a header.
    BASE64_STANDARD.decode(&auth).ok()?;
    Some(format!("Basic {auth}"))
}

/// The file with the logins.
pub(crate) fn file() -> Option<PathBuf> {
    if let Some(file) = env::var_os("REGISTRY_AUTH_FILE") {
        return Some(file.into());
    }
    let folder = env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    Some(folder.or_else(|| Some(dirs::home_dir()?.join(".docker")))?.join(FILE))
}
