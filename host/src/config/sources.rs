//! The sources of the configuration: where the file is, and the environment of the process.

use super::owner;
use std::path::{Path, PathBuf};

/// The sources of the configuration, as values. [`Sources::from_process`] reads them from the process.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `--config`, instead of the usual files.
    pub file: Option<PathBuf>,
    /// The working directory.
    pub cwd: PathBuf,
    /// The user's home.
    pub home: Option<PathBuf>,
    /// Where programs keep their data, for instance `~/.local/share`.
    pub data_dir: Option<PathBuf>,
    /// Where programs keep files that they can regenerate, for instance `~/.cache`.
    pub cache_dir: Option<PathBuf>,
    /// `SLEAP_RTC_ENV`.
    pub environment: Option<String>,
    /// `SLEAP_RTC_SIGNALING_WS`: an address, or several with commas between them.
    pub signaling_websocket: Option<String>,
    /// `SLEAP_RTC_SIGNALING_HTTP`, likewise.
    pub signaling_http: Option<String>,
    /// `SHARED_STORAGE_ROOT`.
    pub shared_storage_root: Option<PathBuf>,
}

impl Sources {
    /// Reads the environment of the process. An empty variable counts as unset.
    pub fn from_process(file: Option<PathBuf>) -> Self {
        let text = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        Self {
            file,
            cwd: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
            home: dirs::home_dir(),
            data_dir: dirs::data_dir(),
            cache_dir: dirs::cache_dir(),
            environment: text("SLEAP_RTC_ENV"),
            signaling_websocket: text("SLEAP_RTC_SIGNALING_WS"),
            signaling_http: text("SLEAP_RTC_SIGNALING_HTTP"),
            shared_storage_root: std::env::var_os("SHARED_STORAGE_ROOT")
                .filter(|value| !value.is_empty())
                .map(PathBuf::from),
        }
    }

    /// The file to use, and why the one in the working directory is ignored, if it is.
    pub(crate) fn find_file(&self) -> (Option<PathBuf>, Option<String>) {
        if let Some(file) = &self.file {
            return (Some(self.cwd.join(file)), None);
        }
        let here = self.cwd.join("sleap-rtc.toml");
        let distrust = match owner::distrust(&here) {
            // A file that exists but cannot be read is an error later, not a reason to search
            // further.
            Ok(None) => return (Some(here), None),
            Ok(distrust) => distrust,
            Err(_) if here.symlink_metadata().is_ok() => return (Some(here), None),
            Err(_) => None,
        };
        let in_home = self.home.as_ref().map(|home| home.join(".sleap-rtc/config.toml"));
        (in_home.filter(|path| path.symlink_metadata().is_ok()), distrust)
    }

    pub(crate) fn data(&self, name: &str) -> PathBuf {
        let base = self.data_dir.as_ref().map(|dir| dir.join("sleap-rtc"));
        base.unwrap_or_else(|| self.cwd.join(".sleap-rtc")).join(name)
    }

    /// Resolves a path of the file: it is relative to the file's folder, and `~/` is the user's home.
    pub(crate) fn path(&self, base: &Path, text: &str) -> PathBuf {
        match (text.strip_prefix("~/"), &self.home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => base.join(text),
        }
    }
}
