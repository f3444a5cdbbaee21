//! A registry for plugins: Debian's `docker-registry`, in a folder of the test.

use crate::process::Process;
use crate::{SOON, Site};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAM: &str = "/usr/bin/docker-registry";
/// The user `ada` and her password, hashed by bcrypt.
const USERS: &str = "ada:$2b$05$abcdefghijklmnopqrstuuhaAEBEl5jieXj1o6d5F80vMdpvTE5ha\n";
/// What `docker login` writes for `ada`.
const LOGIN: &str = "YWRhOnF1aWV0LW1vdXNl";

/// A running registry.
pub struct TestRegistry {
    _process: Process,
    address: String,
    store: PathBuf,
}

impl TestRegistry {
    /// A registry that is open to everybody. `None`, with the reason on stderr, where none is installed.
    pub fn start(site: &Site) -> Option<Self> {
        Self::start_with(site, "")
    }

    /// A registry that knows the user `ada` alone.
    pub fn start_for_ada(site: &Site) -> Option<Self> {
        let users = site.path().join("htpasswd");
        fs::write(&users, USERS).unwrap();
        Self::start_with(
            site,
            &format!("auth: {{htpasswd: {{realm: lab, path: {}}}}}\n", users.display()),
        )
    }

    fn start_with(site: &Site, access: &str) -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            eprintln!(
                "skipped: {PROGRAM} is missing; `cargo xtask test` installs docker-registry where it may"
            );
            return None;
        }
        let folder = site.folder("registry");
        let (config, store) = (folder.join("config.yml"), folder.join("store"));
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n{access}",
            store.display()
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new(PROGRAM);
        command.env_clear().arg("serve").arg(&config);
        let mut process = Process::start("docker-registry", &mut command);
        let address = process.wait_stderr("its address", SOON, |text| {
            let (_, rest) = text.split_once("listening on ")?;
            Some(rest.split_once('"')?.0.to_owned())
        });
        Some(Self { _process: process, address, store })
    }

    /// The reference of a plugin there.
    pub fn reference(&self, name: &str) -> String {
        format!("oci://{}/{name}", self.address)
    }

    /// Writes what `docker login` would for `ada` into the home folder of a user.
    pub fn log_in(&self, home: &Path) {
        fs::create_dir_all(home.join(".docker")).unwrap();
        let text = format!("{{\"auths\":{{\"{}\":{{\"auth\":\"{LOGIN}\"}}}}}}", self.address);
        fs::write(home.join(".docker/config.json"), text).unwrap();
    }

    /// Replaces the content of whatever has this digest, as somebody could who has broken into the registry.
    pub fn replace(&self, digest: &str, content: &[u8]) {
        let hex = digest.strip_prefix("sha256:").unwrap();
        let folder = self.store.join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex);
        fs::write(folder.join("data"), content).unwrap();
    }
}
