//! What a user sees who starts the program for the first time.

use crate::support::*;
use std::path::Path;
use std::process::Command;

fn program(site: &Site) -> Command {
    Site::binary(site.path(), Path::new("/nonexistent"))
}

/// The standard output of a command, which must succeed.
fn printed(site: &Site, words: &[&str]) -> String {
    let output = program(site).args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn without_arguments_the_program_shows_a_first_session() {
    insta::assert_snapshot!(printed(&Site::new(), &[]));
}

#[test]
fn every_command_of_the_first_screen_exists() {
    let site = Site::new();
    let screen = printed(&site, &[]);
    let words =
        screen.split("sleap-rtc ").skip(1).filter_map(|rest| rest.split_whitespace().next());
    let commands: Vec<&str> = words.filter(|word| word.starts_with(char::is_lowercase)).collect();
    assert!(commands.contains(&"worker") && commands.contains(&"train"), "{commands:?}");
    for command in commands {
        printed(&site, &[command.trim_end_matches('`'), "--help"]);
    }
}

#[test]
fn train_and_track_are_short_names() {
    let site = Site::new();
    for (short, long) in [("train", "client-train"), ("track", "client-track")] {
        assert_eq!(printed(&site, &[short, "--help"]), printed(&site, &[long, "--help"]));
        let help = printed(&site, &["--help"]);
        assert!(help.contains(&format!("[alias: {short}]")), "{help}");
    }
}

#[test]
fn the_version_names_what_was_built() {
    let text = printed(&Site::new(), &["--version"]);
    let version = env!("CARGO_PKG_VERSION");
    assert!(text.starts_with(&format!("sleap-rtc {version} (")), "{text}");
    assert!(text.ends_with("; signaling, page, worker, client, viewer)\n"), "{text}");
    assert!(text.contains("commit ") || text.contains("development build"), "{text}");
}

#[test]
fn bash_completes_commands_and_options() {
    let site = Site::new();
    let folder = site.folder("completions");
    let script = folder.join("sleap-rtc.bash");
    std::fs::write(&script, printed(&site, &["completions", "bash"])).unwrap();
    let completed = |words: &str| {
        let count = words.split(' ').count() - 1;
        let ask = format!(
            ". {}; function=$(complete -p sleap-rtc | sed 's/.* -F \\([^ ]*\\).*/\\1/')
             COMP_WORDS=({words}); COMP_CWORD={count}
             $function sleap-rtc \"${{COMP_WORDS[$COMP_CWORD]}}\" \"${{COMP_WORDS[$COMP_CWORD-1]}}\"
             echo \"${{COMPREPLY[@]}}\"",
            script.display()
        );
        let output = Command::new("bash").args(["--norc", "-c", &ask]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(completed("sleap-rtc sig").trim(), "signaling");
    assert!(!completed("sleap-rtc r").contains("run-job"), "internal commands are not offered");
    assert!(completed("sleap-rtc client-train --pkg").contains("--pkg-path"));
    for shell in ["zsh", "fish", "powershell", "elvish"] {
        assert!(printed(&site, &["completions", shell]).contains("client-train"), "{shell}");
    }
}

#[test]
fn manual_pages_exist_for_every_visible_command() {
    let site = Site::new();
    let folder = site.folder("man");
    printed(&site, &["man", folder.to_str().unwrap()]);
    let page = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    for name in ["sleap-rtc.1", "sleap-rtc-client-train.1", "sleap-rtc-service-install.1"] {
        assert!(page(name).contains(".SH SYNOPSIS"), "{name}");
    }
    assert_eq!(page("sleap-rtc-train.1"), ".so man1/sleap-rtc-client-train.1\n");
    assert!(page("sleap-rtc-worker.1").contains("\\-\\-state\\-dir"));
    assert!(!folder.join("sleap-rtc-run-job.1").exists(), "internal commands have no page");
    let nowhere = program(&site).args(["man", "/nonexistent"]).output().unwrap();
    assert_eq!(nowhere.status.code(), Some(2));
}
