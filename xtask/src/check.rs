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
use std::{env, fs, thread};

/// Tests that measure speed or memory, and therefore run alone.
const ALONE: [&str; 3] = ["large::", "abuse::a_job_goes_on", "abuse::guesses"];

/// Runs every check.
pub fn test(options: &Options) -> Result<ExitCode> {
    prerequisites::build()?;
    prerequisites::python()?;
    if !options.no_real && find("sleap-nn").is_none() {
        prerequisites::sleap_nn()?;
    }
    let networks = prerequisites::networks();
    let browser = prerequisites::browser();
    let slurm = prerequisites::slurm();
    let terminal = prerequisites::terminal();
    let mut steps = Steps::begin();
    steps.command("format", &mut cargo(&["fmt", "--all", "--check"]));
    let plugin_tools = build_and_install(&mut steps, !options.no_real);
    if steps.failed() {
        return Ok(steps.finish());
    }
    if let Err(why) = &networks {
        steps.skip("tests of the relay", &format!("{why:#}"));
    }
    if let Err(why) = &browser {
        steps.skip("tests of the page", &format!("{why:#}"));
    }
    if let Err(why) = &slurm {
        steps.skip("tests of Slurm", &format!("{why:#}"));
    }
    if let Err(why) = &terminal {
        steps.skip("tests of the terminal", &format!("{why:#}"));
    }
    let mut without = Vec::new();
    without.extend(networks.is_err().then_some("SLEAP_RTC_WITHOUT_RELAY"));
    without.extend(browser.is_err().then_some("SLEAP_RTC_WITHOUT_BROWSER"));
    tests(&mut steps, &without, &plugin_tools);
    steps.command("torture, 25 rounds", &mut torture::command(&[]));
    steps.check("example local_job", example);
    lints(&mut steps);
    if options.no_real {
        steps.skip("train and track with real sleap-nn", "--no-real");
        steps.skip("stop and cancel with real sleap-nn", "--no-real");
    } else {
        let name = "train and track with real sleap-nn";
        steps.check(name, || demo::train_and_track(false));
        let name = "stop and cancel with real sleap-nn";
        steps.check(name, || early_end::stop_and_cancel(&python::sleap_nn()?));
    }
    Ok(steps.finish())
}

/// Builds everything. Meanwhile installs what the tests need of Python and JavaScript, which uses the
/// network more than the processor. Returns the folders with the tools that build plugins.
fn build_and_install(steps: &mut Steps, with_sleap_nn: bool) -> Vec<PathBuf> {
    thread::scope(|scope| {
        let installing = scope.spawn(|| install(with_sleap_nn));
        // A step of its own, so that the times show what building costs. It builds the tests, too,
        // because without them some dependencies have other features and would be built twice.
        steps.command("build", &mut cargo(&["test", "--workspace", "--no-run"]));
        match installing.join() {
            Ok((installed, folders)) => {
                steps.append(installed);
                folders
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// The steps that install Python and JavaScript packages.
fn install(with_sleap_nn: bool) -> (Steps, Vec<PathBuf>) {
    let mut steps = Steps::begin();
    steps.check("python peers", python::peers);
    let folders = plugin_tools(&mut steps);
    if with_sleap_nn {
        steps.check("install sleap-nn", || python::sleap_nn().map(drop));
    }
    (steps, folders)
}

/// Runs formatting, lints and licences.
pub fn lint() -> Result<ExitCode> {
    let mut steps = Steps::begin();
    steps.command("format", &mut cargo(&["fmt", "--all", "--check"]));
    lints(&mut steps);
    Ok(steps.finish())
}

/// Installs the tools that build plugins from Python and JavaScript. Returns the folders that
/// contain them.
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

fn tests(steps: &mut Steps, without: &[&str], plugin_tools: &[PathBuf]) {
    let plugin_tools = env::join_paths(plugin_tools).unwrap_or_default();
    // The tests themselves fail where they cannot run, unless they are told not to.
    let cargo = |arguments: &[&str]| {
        let mut command = cargo(arguments);
        command.env("SLEAP_RTC_PLUGIN_TOOLS", &plugin_tools);
        command.envs(without.iter().map(|name| (name, "1")));
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

/// Checks the structure of the code with `xtask/structure`. It is built with the features that it has
/// in a build of everything, so that its dependencies are not built twice.
pub fn structure() -> Result<()> {
    call(&mut cargo(&["build", "--quiet", "--workspace", "--bin", "structure"]))?;
    call(&mut Command::new(target().join("debug/structure")))
}
