//! Which sleap-nn is installed: from what its installation says on disk, since asking the program
//! takes many seconds of imports.

use super::command::Toolbox;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// How long the program may take to tell its version.
const ASK_LIMIT: Duration = Duration::from_secs(120);
const MAX_LINE_BYTES: usize = 512;

/// The version of the sleap-nn on this process's `PATH`.
pub async fn sleap_version() -> Option<String> {
    let program = Toolbox::new(std::env::var_os("PATH")?).sleap_nn()?;
    match installed_version(&program) {
        Some(version) => Some(version),
        None => ask(&program).await,
    }
}

/// Looks for the package's metadata beside the Python that the program's first line names.
pub(super) fn installed_version(program: &Path) -> Option<String> {
    let text = std::fs::read(program).ok()?;
    let line = text.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line.get(..line.len().min(MAX_LINE_BYTES))?).ok()?;
    let python = PathBuf::from(line.split_whitespace().next()?);
    let library = python.parent()?.parent()?.join("lib");
    let pythons = std::fs::read_dir(library).ok()?.filter_map(Result::ok);
    pythons.filter_map(|entry| version_in(&entry.path().join("site-packages"))).next()
}

fn version_in(packages: &Path) -> Option<String> {
    std::fs::read_dir(packages).ok()?.filter_map(Result::ok).find_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let version = name.strip_prefix("sleap_nn-")?.strip_suffix(".dist-info")?;
        plausible(version)
    })
}

async fn ask(program: &Path) -> Option<String> {
    let answer = Command::new(program)
        .arg("--version")
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
    }

    #[tokio::test]
    async fn else_the_program_is_asked() {
        let program = repository().join("tests/stand-in/sleap-nn");
        assert_eq!(installed_version(&program), None);
        assert_eq!(ask(&program).await.as_deref(), Some("0.3.5"));
    }
}
