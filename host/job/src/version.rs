//! Finds the version of an installed trainer, on disk if possible: the program itself needs many
//! seconds for its imports.

use super::command::CommandLine;
use super::interpreter::interpreter;
use super::settings::{NoAnswer, RunnerSettings};
use sleap_rtc_base::bounded_wait::BoundedWait;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the program may take to print its version.
const ASK_LIMIT: Duration = Duration::from_secs(20);

/// The version of a trainer, as far as it can be found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrainerVersion {
    /// sleap-nn's version, or SLEAP's.
    Known(String),
    /// The program does not say.
    Unknown,
    /// The program does not answer in time. The text names its command line.
    Silent(String),
}

impl TrainerVersion {
    /// The version, if it is known.
    pub fn known(&self) -> Option<&str> {
        match self {
            Self::Known(version) => Some(version),
            Self::Unknown | Self::Silent(_) => None,
        }
    }
}

/// The version of the sleap-nn or SLEAP to which `program` belongs.
pub(crate) async fn of(
    program: &Path,
    settings: &RunnerSettings,
    patience: BoundedWait,
) -> TrainerVersion {
    match installed_version(program) {
        Some(version) => TrainerVersion::Known(version),
        None => ask(program, settings, patience).await,
    }
}

/// The version in the package's metadata, next to the Python that the program's first line names.
pub(crate) fn installed_version(program: &Path) -> Option<String> {
    let text = std::fs::read(program).ok()?;
    let python = interpreter(&text, |_| None)?;
    let library = python.parent()?.parent()?.join("lib");
    let pythons: Vec<PathBuf> =
        std::fs::read_dir(library).ok()?.flatten().map(|entry| entry.path()).collect();
    let in_any = |package| {
        pythons.iter().find_map(|python| version_in(&python.join("site-packages"), package))
    };
    in_any("sleap_nn-").or_else(|| in_any("sleap-"))
}

fn version_in(packages: &Path, package: &str) -> Option<String> {
    std::fs::read_dir(packages).ok()?.filter_map(Result::ok).find_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let version = name.strip_prefix(package)?.strip_suffix(".dist-info")?;
        plausible(version)
    })
}

async fn ask(program: &Path, settings: &RunnerSettings, patience: BoundedWait) -> TrainerVersion {
    let arguments = vec!["--version".to_owned()];
    let question = CommandLine { program: program.to_owned(), arguments };
    let patience = BoundedWait { limit: patience.limit.min(ASK_LIMIT), ..patience };
    let output = match settings.answer(&question, patience).await {
        Ok(output) => output,
        Err(silent @ NoAnswer::Silent { .. }) => return TrainerVersion::Silent(silent.to_string()),
        Err(NoAnswer::Failed(_)) => return TrainerVersion::Unknown,
    };
    let texts = [output.stdout, output.stderr];
    let version = texts.iter().find_map(|text| said(&String::from_utf8_lossy(text)));
    version.map_or(TrainerVersion::Unknown, TrainerVersion::Known)
}

/// The version in what a program prints. Libraries print others, in warnings.
fn said(text: &str) -> Option<String> {
    let in_line = |line: &str| {
        line.split_whitespace().find_map(|word| plausible(word.trim_matches([',', 'v'])))
    };
    let names_it = |line: &&str| line.to_ascii_lowercase().contains("version");
    text.lines().filter(names_it).find_map(in_line).or_else(|| text.lines().rev().find_map(in_line))
}

/// `text`, if it looks like a version.
fn plausible(text: &str) -> Option<String> {
    let parts = text.starts_with(|c: char| c.is_ascii_digit()) && text.contains('.');
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || ".+-".contains(c));
    (parts && plain && text.len() <= 64).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::stand_in;

    #[test]
    fn metadata_next_to_the_python_has_the_version() {
        let root = tempfile::tempdir().unwrap();
        let packages = root.path().join("lib/python3.11/site-packages");
        std::fs::create_dir_all(packages.join("sleap_nn-0.3.5.dist-info")).unwrap();
        let program = root.path().join("sleap-nn");
        let python = root.path().join("bin/python");
        std::fs::write(&program, format!("#!{}\nimport x\n", python.display())).unwrap();
        assert_eq!(installed_version(&program).as_deref(), Some("0.3.5"));
        let long = format!("#!/bin/sh\n'''exec' {} \"$0\" \"$@\"\n' '''\n", python.display());
        std::fs::write(&program, long).unwrap();
        assert_eq!(installed_version(&program).as_deref(), Some("0.3.5"));
        std::fs::rename(
            packages.join("sleap_nn-0.3.5.dist-info"),
            packages.join("sleap-1.6.6.dist-info"),
        )
        .unwrap();
        assert_eq!(installed_version(&program).as_deref(), Some("1.6.6"));
    }

    #[test]
    fn the_version_is_told_from_those_of_libraries() {
        for (text, version) in [
            ("sleap-nn, version 0.3.5\n", Some("0.3.5")),
            ("sleap-nn 0.4.0.dev3+g12\n", Some("0.4.0.dev3+g12")),
            ("v0.2.0", Some("0.2.0")),
            ("INFO: libtiff 9.9.9\nsleap-nn, version 0.3.5\nbye 1.2\n", Some("0.3.5")),
            ("using CUDA 12.4\n0.3.5\n", Some("0.3.5")),
            ("hello world\n", None),
            ("", None),
        ] {
            assert_eq!(said(text).as_deref(), version, "{text}");
        }
    }

    #[tokio::test]
    async fn otherwise_the_program_prints_its_version() {
        let program = stand_in();
        assert_eq!(installed_version(&program), None);
        let settings = RunnerSettings::default();
        let patience = BoundedWait { limit: ASK_LIMIT, announce: |_| {} };
        assert_eq!(ask(&program, &settings, patience).await.known(), Some("0.3.5"));
    }
}
