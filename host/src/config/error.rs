//! Errors in a configuration, with their places.

use std::path::PathBuf;

/// Why the configuration cannot be used. Each text names the file and line, or the variable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The file is too large.
    #[error("{} is larger than {limit} bytes: not a configuration file", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The file is not TOML.
    #[error("{}:{line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// The parser's error. Never contains a line of the file, which may be a secret.
        message: String,
    },
    /// A key does not exist.
    #[error("{}:{line}: unknown key `{key}`{}{}", path.display(), place(section), did_you_mean(nearest.as_deref()))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Its section; empty for the top level.
        section: String,
        /// The key as written.
        key: String,
        /// The most similar key that exists.
        nearest: Option<String>,
    },
    /// A value has the wrong type, or is not allowed.
    #[error("{}:{line}: `{key}` {message}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// The full name of the key.
        key: String,
        /// What is expected.
        message: String,
    },
    /// The lists of signaling servers do not fit each other.
    #[error("the signaling servers in the configuration file and the environment: {0}")]
    Servers(String),
    /// The value of an environment variable is not allowed.
    #[error("the environment variable {name} {message}")]
    Variable {
        /// Its name.
        name: &'static str,
        /// What is expected.
        message: String,
    },
}

fn place(section: &str) -> String {
    if section.is_empty() { String::new() } else { format!(" in [{section}]") }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|key| format!("; did you mean `{key}`?")).unwrap_or_default()
}
