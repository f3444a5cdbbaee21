//! `plugins.lock`: the plugins that the operator has accepted, with the hashes of their files, and where
//! those of a registry came from.

use serde::{Deserialize, Serialize};
use sleap_rtc_base::file::{Readers, folder_of, replace};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The file's name in the plugin folder.
const NAME: &str = "plugins.lock";
const HEAD: &str = "# The accepted plugins, with the BLAKE3 hash of each file.\n\
                    # `sleap-rtc plugin add`, `update`, `remove` and `lock` write this file.\n\n";

/// Why the lock refuses a plugin, or cannot be used itself.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The lock cannot be read or written.
    #[error("cannot use {}", .path.display())]
    Io {
        /// The lock.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file is not a lock file.
    #[error("{} is damaged: {}; write a new one with `sleap-rtc plugin lock`", .path.display(), .source.message())]
    Damaged {
        /// The lock.
        path: PathBuf,
        /// Where it is damaged, and how.
        source: Box<toml::de::Error>,
    },
    /// The plugin was never accepted.
    #[error(
        "`[policy] locked` is set and {plugin} is not in {}: its hash is {hash}, and none was \
         accepted. If you trust it, run `sleap-rtc plugin lock`",
        .path.display()
    )]
    Absent {
        /// The lock.
        path: PathBuf,
        /// The plugin's name in it.
        plugin: String,
        /// BLAKE3 of the present file.
        hash: String,
    },
    /// Another file was accepted under this name.
    #[error(
        "`[policy] locked` is set and {plugin} is not the file that was accepted in {}: its hash \
         is {hash}, accepted was {accepted}. If you trust it, run `sleap-rtc plugin lock`",
        .path.display()
    )]
    Differs {
        /// The lock.
        path: PathBuf,
        /// The plugin's name in it.
        plugin: String,
        /// BLAKE3 of the present file.
        hash: String,
        /// BLAKE3 of the file that was accepted.
        accepted: String,
    },
}

/// The plugins that a lock accepts, by their names in it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// BLAKE3 of each file.
    #[serde(default)]
    pub plugins: BTreeMap<String, String>,
    /// The registry, the version and the digest that a file came from, as one reference.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub origins: BTreeMap<String, String>,
}

impl Accepted {
    /// Accepts a file, and no longer the one that had this name.
    pub fn insert(&mut self, name: String, hash: String, origin: Option<String>) {
        match origin {
            Some(origin) => self.origins.insert(name.clone(), origin),
            None => self.origins.remove(&name),
        };
        self.plugins.insert(name, hash);
    }

    /// Forgets a plugin. Says whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        self.origins.remove(name);
        self.plugins.remove(name).is_some()
    }
}

/// The lock of one plugin folder. Each check reads the file again.
#[derive(Debug, Clone)]
pub struct Lock {
    dir: PathBuf,
    path: PathBuf,
}

impl Lock {
    /// The lock of the plugin folder `dir`.
    pub fn of(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), path: dir.join(NAME) }
    }

    /// The path of the lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The plugin's name in the lock: its file name if it is in the plugin folder, otherwise its path.
    pub fn name(&self, plugin: &Path) -> String {
        match plugin.file_name() {
            Some(name) if plugin.parent() == Some(&self.dir) => name.to_string_lossy().into_owned(),
            _ => plugin.to_string_lossy().into_owned(),
        }
    }

    /// Checks that the plugin in the file `plugin` was accepted with this hash.
    ///
    /// # Errors
    ///
    /// Fails if the lock cannot be read, or if another file was accepted.
    pub fn check(&self, plugin: &Path, hash: &str) -> Result<(), LockError> {
        let (path, hash, name) = (self.path.clone(), hash.to_owned(), self.name(plugin));
        match self.accepted()?.plugins.remove(&name) {
            Some(accepted) if accepted == hash => Ok(()),
            Some(accepted) => Err(LockError::Differs { path, plugin: name, hash, accepted }),
            None => Err(LockError::Absent { path, plugin: name, hash }),
        }
    }

    /// The accepted plugins. Without a lock file the list is empty.
    ///
    /// # Errors
    ///
    /// Fails if the file exists but cannot be read.
    pub fn accepted(&self) -> Result<Accepted, LockError> {
        match fs::read_to_string(&self.path) {
            Ok(text) => toml::from_str(&text).map_err(|source| LockError::Damaged {
                path: self.path.clone(),
                source: Box::new(source),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Accepted::default()),
            Err(source) => Err(LockError::Io { path: self.path.clone(), source }),
        }
    }

    /// Accepts these plugins and no others.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be written.
    pub fn accept(&self, accepted: &Accepted) -> Result<(), LockError> {
        let text = toml::to_string(accepted).map_err(io::Error::other);
        text.and_then(|text| install(&self.path, format!("{HEAD}{text}").as_bytes()))
            .map_err(|source| LockError::Io { path: self.path.clone(), source })
    }
}

/// Writes `bytes` to `path` atomically and creates its folder. All users of a machine may share a
/// plugin folder.
///
/// # Errors
///
/// Fails if the system does.
pub fn install(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder_of(path))?;
    replace(path, bytes, Readers::Everybody)
}
