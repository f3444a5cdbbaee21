//! Names the commit that this program is built from, for `sleap-rtc --version`, and gives it a large stack
//! on Windows.

use std::env;
use std::path::Path;
use std::process::Command;

/// Names the commit where a release is built from sources without a repository.
const VARIABLE: &str = "SLEAP_RTC_COMMIT";

const STACK_BYTES: u32 = 8 * 1024 * 1024;

fn main() {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    println!("cargo::rerun-if-changed=build.rs");
    // A development build does not name its commit: each commit would compile the program once more.
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let named = env::var(VARIABLE).ok().filter(|commit| !commit.is_empty());
    if let Some(commit) = named.or_else(|| is_release.then(commit_of_repository).flatten()) {
        println!("cargo::rustc-env={VARIABLE}={commit}");
    }
    let target = |part: &str| env::var(format!("CARGO_CFG_TARGET_{part}")).unwrap_or_default();
    // As on Linux: the 1 or 2 MiB that Windows gives are too few for the main thread of a development build.
    match (target("OS").as_str(), target("ENV").as_str()) {
        ("windows", "msvc") => println!("cargo::rustc-link-arg-bins=/STACK:{STACK_BYTES}"),
        ("windows", _) => println!("cargo::rustc-link-arg-bins=-Wl,--stack,{STACK_BYTES}"),
        _ => {}
    }
}

fn commit_of_repository() -> Option<String> {
    let branch = git(&["rev-parse", "--symbolic-full-name", "HEAD"]);
    for name in ["HEAD"].into_iter().chain(branch.as_deref()) {
        // Cargo would run this script each time for a file that is not there.
        let file = git(&["rev-parse", "--git-path", name]).filter(|file| Path::new(file).exists());
        if let Some(file) = file {
            println!("cargo::rerun-if-changed={file}");
        }
    }
    git(&["describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| output.status.success() && !text.is_empty())
}
