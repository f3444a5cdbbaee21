//! Projects of plugins: `sleap-rtc plugin`, with the tools that build components from Python and JavaScript.
//!
//! componentize-py and jco are expected in the folders that `SLEAP_RTC_PLUGIN_TOOLS` lists.

use crate::{Site, target};
use std::os::unix::fs::symlink;
use std::{env, fs, path::Path, path::PathBuf, process::Command, process::Output};

/// Generous, because the binary under test is not optimized.
pub const LIMIT: &str = "--timeout-ms=20000";

/// An empty folder for the project `name`. It is the same in every run, so that a project replaces
/// the one of the previous run.
pub fn place(name: &str) -> PathBuf {
    let place = target().join("tmp/plugins").join(name);
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(&place).unwrap();
    place
}

/// Makes cargo build the Rust project of [`place`] in a folder that all such projects share, so
/// that their dependencies are compiled once.
pub fn share_what_cargo_makes(project: &Path) {
    let shared = target().join("tmp/plugins/cargo");
    fs::create_dir_all(&shared).unwrap();
    symlink(shared, project.join("target")).unwrap();
}

/// The folders with componentize-py and jco.
fn tools() -> Vec<PathBuf> {
    let folders = env::var_os("SLEAP_RTC_PLUGIN_TOOLS").unwrap_or_default();
    env::split_paths(&folders).collect()
}

/// Whether one of those folders has `tool`. Otherwise says that the test does not run.
pub fn is_there(tool: &str) -> bool {
    let there = tools().iter().any(|folder| folder.join(tool).exists());
    if !there {
        println!("not run: SLEAP_RTC_PLUGIN_TOOLS names no folder with {tool}");
    }
    there
}

/// `sleap-rtc plugin …` in `folder`, with the languages' tools on the search path.
pub fn plugin(folder: &Path) -> Command {
    let mut command = Site::binary(folder, Path::new("/nonexistent"));
    command.arg("plugin");
    with_tools(&mut command);
    command
}

/// Makes `command` find the languages' tools.
pub fn with_tools(command: &mut Command) {
    let before = env::var_os("PATH").unwrap();
    let path = tools().into_iter().chain(env::split_paths(&before)).collect::<Vec<_>>();
    command.env("PATH", env::join_paths(path).unwrap());
    // Rust's own folders are in the real home, and the test has another one.
    let home = PathBuf::from(env::var_os("HOME").unwrap());
    for (name, folder) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
        command.env(name, env::var_os(name).unwrap_or_else(|| home.join(folder).into()));
    }
    // Debug information would only cost time here.
    command.env("CARGO_INCREMENTAL", "0").env("CARGO_PROFILE_DEV_DEBUG", "none");
    if let Some(toolchain) = env::var_os("RUSTUP_TOOLCHAIN") {
        command.env("RUSTUP_TOOLCHAIN", toolchain);
    }
}

/// Asserts that `command` ends with `code` and prints each of `words`. Returns everything that it
/// printed.
#[track_caller]
pub fn says(command: &mut Command, code: i32, words: &[&str]) -> String {
    ended(&command.output().unwrap(), code, words)
}

/// Asserts that a program has ended with `code` and has printed each of `words`. Returns everything
/// that it printed.
#[track_caller]
pub fn ended(output: &Output, code: i32, words: &[&str]) -> String {
    let text = String::from_utf8([&output.stdout[..], &output.stderr[..]].concat()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in:\n{text}");
    }
    text
}
