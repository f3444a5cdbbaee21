//! `cargo xtask test` and `lint`: what CI runs.
//!
//! The order keeps the work small: one build of the dependencies serves the program, all tests and
//! the demo; clippy, which checks the dependencies once more without generating code, comes after.

use crate::programs::{call, cargo, find, root, target, works};
use crate::step::Steps;
use crate::{Options, builds, demo, early_end, prerequisites, python, torture};
use anyhow::{Result, ensure};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::{env, fs};

/// Tests that measure, and therefore run alone.
const ALONE: [&str; 3] = ["large::", "abuse::a_job_goes_on", "abuse::guesses"];

/// Everything.
pub fn test(options: &Options) -> Result<ExitCode> {
    prerequisites::build()?;
    prerequisites::python()?;
    if !options.no_real && find("sleap-nn").is_none() {
        prerequisites::sleap_nn()?;
    }
    let networks = prerequisites::networks();
    let mut steps = Steps::begin();
    steps.command("format", &mut cargo(&["fmt", "--all", "--check"]));
    steps.check("python peers", python::peers);
    let plugin_tools = plugin_tools(&mut steps);
    // By itself, so that the times say what building costs; with the tests, since without them
    // some dependencies would have other features and be built twice.
    steps.command("build", &mut cargo(&["test", "--workspace", "--no-run"]));
    if steps.failed() {
        return Ok(steps.finish());
    }
    if let Err(why) = &networks {
        steps.skip("tests of the relay", &format!("{why:#}"));
    }
    tests(&mut steps, networks.is_ok(), &plugin_tools);
    steps.command("torture, 25 rounds", &mut torture::command(&[]));
    steps.check("example local_job", example);
    lints(&mut steps);
    if options.no_real {
        steps.skip("train and track with real sleap-nn", "--no-real");
        steps.skip("stop and cancel with real sleap-nn", "--no-real");
    } else {
        steps.check("install sleap-nn", || python::sleap_nn().map(drop));
        let name = "train and track with real sleap-nn";
        steps.check(name, || demo::train_and_track(false));
        let name = "stop and cancel with real sleap-nn";
        steps.check(name, || early_end::stop_and_cancel(&python::sleap_nn()?));
    }
    Ok(steps.finish())
}

/// Formatting, lints, licences.
pub fn lint() -> Result<ExitCode> {
    let mut steps = Steps::begin();
    steps.command("format", &mut cargo(&["fmt", "--all", "--check"]));
    lints(&mut steps);
    Ok(steps.finish())
}

/// What makes components of Python and of JavaScript: folders for the tests to look in.
fn plugin_tools(steps: &mut Steps) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    steps.check("plugin tools of Python", || {
        folders.push(python::componentize()?);
        Ok(())
    });
    let mut without_node = false;
    steps.check("plugin tools of JavaScript", || {
        let jco = python::jco()?;
        without_node = jco.is_none();
        folders.extend(jco);
        Ok(())
    });
    if without_node {
        steps.skip("plugins in JavaScript", "Node 20 with npm is not installed");
    }
    folders
}

fn tests(steps: &mut Steps, relay: bool, plugin_tools: &[PathBuf]) {
    let plugin_tools = env::join_paths(plugin_tools).unwrap_or_default();
    // The tests themselves fail where they cannot run, unless they are told not to.
    let cargo = |arguments: &[&str]| {
        let mut command = cargo(arguments);
        command.env("SLEAP_RTC_PLUGIN_TOOLS", &plugin_tools);
        if !relay {
            command.env("SLEAP_RTC_WITHOUT_RELAY", "1");
        }
        command
    };
    if works("cargo-nextest", &["nextest", "--version"]) {
        steps.command("tests", &mut cargo(&["nextest", "run", "--workspace"]));
    } else {
        let mut all =
            cargo(&["test", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"]);
        let others = ALONE.iter().flat_map(|name| ["--skip", name]);
        steps.command("tests", all.arg("--").args(others));
        let mut alone = cargo(&["test", "--package", "sleap-rtc", "--test", "e2e"]);
        steps.command("tests that measure", alone.args(["--", "--nocapture"]).args(ALONE));
    }
    steps.command("examples in the documentation", &mut cargo(&["test", "--workspace", "--doc"]));
}

/// The job of the examples, which the build has built with the tests, with the stand-in trainer.
fn example() -> Result<()> {
    let output = target().join("example");
    if output.exists() {
        fs::remove_dir_all(&output)?;
    }
    let before = env::var_os("PATH").unwrap_or_default();
    let path = [root().join("tests/stand-in")].into_iter().chain(env::split_paths(&before));
    let mut command = Command::new(target().join("debug/examples/local_job"));
    command.arg(root().join("tests/fixtures/train_single.zip")).arg(&output);
    call(command.env("PATH", env::join_paths(path)?))?;
    ensure!(fs::read_dir(&output)?.next().is_some(), "no model in {}", output.display());
    Ok(())
}

fn lints(steps: &mut Steps) {
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    steps.command("clippy", &mut cargo(&clippy));
    steps.check("structure", structure);
    builds::check(steps);
    let deny = "licences, bans, sources";
    if works("cargo-deny", &["--version"]) {
        let checks = ["deny", "--all-features", "check", "licenses", "bans", "sources"];
        steps.command(deny, &mut cargo(&checks));
    } else {
        steps.skip(deny, "cargo-deny is not installed");
    }
}

/// What `xtask/structure` finds. It is built with the features that it has in a build of everything,
/// so that its dependencies are not built twice.
fn structure() -> Result<()> {
    call(&mut cargo(&["build", "--quiet", "--workspace", "--bin", "structure"]))?;
    call(&mut Command::new(target().join("debug/structure")))
}
