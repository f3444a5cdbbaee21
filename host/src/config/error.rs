//! What can be wrong with a configuration, and where.

use std::path::PathBuf;

/// Why there is no configuration. Every text names its file and line, or its variable or option.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is no configuration at all.
    #[error("{} is larger than {limit} bytes: not a configuration file", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes allowed.
        limit: u64,
    },
    /// Not TOML.
    #[error("{}:{line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What the TOML parser said. Never a line of the file: it may hold a secret.
        message: String,
    },
    /// A key that nobody knows.
    #[error("{}:{line}: unknown key `{key}`{}{}", path.display(), place(section), did_you_mean(nearest.as_deref()))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// The section that holds it; empty for the top level.
        section: String,
        /// The key as it was written.
        key: String,
        /// The known key that looks most like it.
        nearest: Option<String>,
    },
    /// A known key with a value of the wrong type, or one that makes no sense.
    #[error("{}:{line}: `{key}` {message}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// The key with its section.
        key: String,
        /// What it should be.
        message: String,
    },
    /// An environment variable that makes no sense.
    #[error("the environment variable {name} {message}")]
    Variable {
        /// Its name.
        name: &'static str,
        /// What it should be.
        message: String,
    },
}

fn place(section: &str) -> String {
    if section.is_empty() { String::new() } else { format!(" in [{section}]") }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|key| format!("; did you mean `{key}`?")).unwrap_or_default()
}
