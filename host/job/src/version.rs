//! Which version of a trainer is installed: from what its installation says on disk, since asking
//! the program takes many seconds of imports.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// How long the program may take to tell its version.
const ASK_LIMIT: Duration = Duration::from_secs(120);
const MAX_LINE_BYTES: usize = 512;

/// The version of sleap-nn, or of SLEAP, that `program` belongs to.
pub(super) async fn of(program: &Path, variables: &[(OsString, OsString)]) -> Option<String> {
    match installed_version(program) {
        Some(version) => Some(version),
        None => ask(program, variables).await,
    }
}

/// Looks for the package's metadata beside the Python that the program's first line names.
pub(super) fn installed_version(program: &Path) -> Option<String> {
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

/// The Python of a script. Where its path is too long for the first line, a shell starts it in the
/// second; where `env` looks for it, so does `find`.
pub(super) fn interpreter(
    text: &[u8],
    find: impl FnOnce(&str) -> Option<PathBuf>,
) -> Option<PathBuf> {
    let mut lines = text.split(|byte| *byte == b'\n').take(2).map(|line| {
        std::str::from_utf8(&line[..line.len().min(MAX_LINE_BYTES)]).unwrap_or_default()
    });
    let mut words = lines.next()?.strip_prefix("#!")?.split_whitespace();
    let first = words.next()?;
    if first.ends_with("/env") {
        return find(words.find(|word| !word.starts_with('-'))?);
    }
    let second = lines.next().and_then(|line| line.strip_prefix("'''exec' "));
    let long = second.and_then(|line| line.split_whitespace().next());
    Some(PathBuf::from(long.unwrap_or(first).trim_matches('"')))
}

fn version_in(packages: &Path, package: &str) -> Option<String> {
    std::fs::read_dir(packages).ok()?.filter_map(Result::ok).find_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let version = name.strip_prefix(package)?.strip_suffix(".dist-info")?;
        plausible(version)
    })
}

async fn ask(program: &Path, variables: &[(OsString, OsString)]) -> Option<String> {
    let answer = Command::new(program)
        .arg("--version")
        .env_clear()
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(ASK_LIMIT, answer).await.ok()?.ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().find_map(|word| plausible(word.trim_matches([',', 'v'])))
}

/// The text, if it looks like a version.
fn plausible(text: &str) -> Option<String> {
    let parts = text.starts_with(|c: char| c.is_ascii_digit()) && text.contains('.');
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || ".+-".contains(c));
    (parts && plain && text.len() <= 64).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::repository;

    #[test]
    fn metadata_beside_the_python_is_enough() {
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

    #[tokio::test]
    async fn else_the_program_is_asked() {
        let program = repository().join("tests/stand-in/sleap-nn");
        assert_eq!(installed_version(&program), None);
        let variables: Vec<_> = std::env::vars_os().collect();
        assert_eq!(ask(&program, &variables).await.as_deref(), Some("0.3.5"));
    }
}
