//! `allowed.toml`: accepted findings, each with a reason.

use crate::Kind;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::fs;
use std::path::Path;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowed {
    #[serde(default, rename = "allow")]
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    kind: Kind,
    what: String,
    why: String,
}

impl Allowed {
    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let allowed: Self = toml::from_str(&text).with_context(|| file.display().to_string())?;
        for entry in &allowed.entries {
            ensure!(
                !entry.why.trim().is_empty(),
                "{}: no reason for {}",
                file.display(),
                entry.what
            );
        }
        Ok(allowed)
    }

    /// The reason to accept `what`, if it is accepted.
    pub fn why(&self, kind: Kind, what: &str) -> Option<&str> {
        let entry = self.entries.iter().find(|entry| entry.kind == kind && entry.what == what)?;
        Some(&entry.why)
    }

    /// The accepted findings of this kind.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &str> {
        self.entries.iter().filter(move |entry| entry.kind == kind).map(|e| e.what.as_str())
    }
}
