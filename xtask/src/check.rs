//! `cargo xtask test` and `lint`: what CI runs.
//!
//! The order keeps the work small and the processors busy: one build of the dependencies serves the program,
//! all tests and the demo. Tests mostly wait, so the lints, which compute, run beside them and give way to
//! them.

use crate::programs::{call, cargo, find, root, target, works};
use crate::step::Steps;
use crate::{Options, builds, demo, early_end, lighthouse, prerequisites, python, torture};
use anyhow::{Result, ensure};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, thread};

/// Tests that measure speed or memory, and therefore run alone.
const ALONE: [&str; 3] = ["large::", "abuse::a_job_goes_on", "abuse::guesses"];

/// The tests that need `prerequisites::conditions`.
const CONDITIONS: &str =
    "tests of failing system calls, of the strict sandbox, of quotas and of the desktop";

/// Runs every check.
pub fn test(options: &Options) -> Result<ExitCode> {
    prerequisites::build()?;
    prerequisites::python()?;
    if !options.no_real && find("sleap-nn").is_none() {
        prerequisites::sleap_nn()?;
    }
    let networks = prerequisites::networks();
    let conditions = prerequisites::conditions();
    let browser = prerequisites::browser();
    let firefox = prerequisites::firefox();
    let slurm = prerequisites::slurm();
    let terminal = prerequisites::terminal();
    let registry = prerequisites::registry();
    let mut steps = Steps::begin();
    steps.command("format", &mut cargo(&["fmt", "--all", "--check"]));
    let plugin_tools = build_and_install(&mut steps, !options.no_real);
    if steps.failed() {
        return Ok(steps.finish());
    }
    skip(
        &mut steps,
        [
            ("tests of the relay", &networks),
            (CONDITIONS, &conditions),
            ("tests of the page", &browser),
            ("tests of the page in Firefox", &firefox),
            ("tests of Slurm", &slurm),
            ("tests of the terminal", &terminal),
            ("tests of shared plugins", &registry),
            ("tests of several signaling servers", &prerequisites::broker()),
        ],
    );
    let mut without = Vec::new();
    without.extend(networks.is_err().then_some("SLEAP_RTC_WITHOUT_RELAY"));
    without.extend(browser.is_err().then_some("SLEAP_RTC_WITHOUT_BROWSER"));
    let tests = Tests::new(&without, &plugin_tools);
    tests.documentation(&mut steps);
    let listed = tests.list(&mut steps);
    thread::scope(|scope| {
        let linting = scope.spawn(|| {
            give_way();
            let mut steps = Steps::begin();
            // macOS is a Unix as Linux is, and checking its 450 crates takes long. So what breaks the client
            // only there waits for `cargo xtask lint`.
            lints(&mut steps, &[builds::WINDOWS]);
            steps
        });
        let torture = listed.as_ref().and_then(|listed| listed.binary("torture"));
        tests.run(&mut steps, listed);
        if browser.is_ok() {
            accessibility(&mut steps);
        }
        programs(&mut steps, torture.as_deref(), !options.no_real);
        steps.join(linting);
    });
    Ok(steps.finish())
}

/// Names the tests that do not run here, and why.
fn skip<const N: usize>(steps: &mut Steps, tests: [(&str, &Result<()>); N]) {
    for (what, there) in tests {
        if let Err(why) = there {
            steps.skip(what, &format!("{why:#}"));
        }
    }
}

/// Has Lighthouse judge the page, where Node is installed.
fn accessibility(steps: &mut Steps) {
    let name = "accessibility of the page";
    let mut is_judged = true;
    steps.check(name, || {
        is_judged = lighthouse::judge()?;
        Ok(())
    });
    if !is_judged {
        steps.skip(name, "Node 20 with npm is not installed");
    }
}

/// Runs the programs as people do. The torture mostly waits, and real sleap-nn computes beside it.
fn programs(steps: &mut Steps, torture: Option<&Path>, with_sleap_nn: bool) {
    thread::scope(|scope| {
        let tortured = scope.spawn(|| {
            let mut steps = Steps::begin();
            steps.command("torture, 25 rounds", &mut torture::rounds(torture));
            steps
        });
        steps.check("example local_job", example);
        real_trainings(steps, with_sleap_nn);
        steps.join(tortured);
    });
}

/// Trains, tracks, stops and cancels with real sleap-nn.
fn real_trainings(steps: &mut Steps, with_sleap_nn: bool) {
    let [train, stop] =
        ["train and track with real sleap-nn", "stop and cancel with real sleap-nn"];
    if with_sleap_nn {
        steps.check(train, || demo::train_and_track(false));
        steps.check(stop, || early_end::stop_and_cancel(&python::sleap_nn()?));
    } else {
        steps.skip(train, "--no-real");
        steps.skip(stop, "--no-real");
    }
}

/// Has this thread, and what it starts, compute only when nothing else does. Where that is not possible,
/// everything takes a little longer.
fn give_way() {
    let Ok(thread) = fs::read_link("/proc/thread-self") else { return };
    let Some(id) = thread.file_name() else { return };
    let quiet = Stdio::null;
    let mut command = Command::new("chrt");
    command.args(["--idle", "--pid", "0"]).arg(id);
    command.stdin(quiet()).stdout(quiet()).stderr(quiet());
    let _ = command.status();
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
    lints(&mut steps, &[builds::WINDOWS, builds::MAC]);
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

/// How the tests are started.
struct Tests<'a> {
    without: &'a [&'a str],
    plugin_tools: OsString,
    /// The real path of `python3`: behind pyenv's launcher each start takes a tenth of a second.
    python: Option<PathBuf>,
}

/// Files that tell nextest where the tests are. Without them it would ask cargo, and wait for the lints.
struct Listed {
    binaries: PathBuf,
    packages: PathBuf,
}

impl Listed {
    /// Where cargo has put the tests that are called `name`.
    fn binary(&self, name: &str) -> Option<PathBuf> {
        let list = fs::read_to_string(&self.binaries).ok()?;
        let start = format!("{name}-");
        let is_it = |path: &Path| {
            let file = path.file_name().and_then(OsStr::to_str);
            path.is_absolute() && file.is_some_and(|file| file.starts_with(&start))
        };
        list.split('"').map(PathBuf::from).find(|path| is_it(path))
    }
}

impl<'a> Tests<'a> {
    fn new(without: &'a [&'a str], plugin_tools: &[PathBuf]) -> Self {
        let plugin_tools = env::join_paths(plugin_tools).unwrap_or_default();
        Self { without, plugin_tools, python: python::executable() }
    }

    /// The tests themselves fail where they cannot run, unless they are told not to.
    fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = cargo(arguments);
        command.env("SLEAP_RTC_PLUGIN_TOOLS", &self.plugin_tools);
        command.envs(self.python.iter().map(|python| ("SLEAP_RTC_PYTHON", python)));
        command.envs(self.without.iter().map(|name| (name, "1")));
        command
    }

    fn documentation(&self, steps: &mut Steps) {
        let name = "examples in the documentation";
        steps.command(name, &mut self.cargo(&["test", "--workspace", "--doc"]));
    }

    /// Lists the tests, if nextest is there to run them.
    fn list(&self, steps: &mut Steps) -> Option<Listed> {
        if !works("cargo-nextest", &["nextest", "--version"]) {
            return None;
        }
        let folder = target();
        let listed =
            Listed { binaries: folder.join("tests.json"), packages: folder.join("packages.json") };
        steps.check("list of the tests", || {
            let list = [
                "nextest",
                "list",
                "--workspace",
                "--list-type",
                "binaries-only",
                "--message-format",
                "json",
            ];
            call(self.cargo(&list).stdout(File::create(&listed.binaries)?))?;
            let metadata = ["metadata", "--format-version", "1"];
            call(self.cargo(&metadata).stdout(File::create(&listed.packages)?))
        });
        Some(listed)
    }

    fn run(&self, steps: &mut Steps, listed: Option<Listed>) {
        if let Some(Listed { binaries, packages }) = listed {
            let mut all = self.cargo(&["nextest", "run", "--binaries-metadata"]);
            all.arg(binaries).arg("--cargo-metadata").arg(packages);
            return steps.command("tests", &mut all);
        }
        let mut all =
            self.cargo(&["test", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"]);
        let others = ALONE.iter().flat_map(|name| ["--skip", name]);
        steps.command("tests", all.arg("--").args(others));
        let mut alone = self.cargo(&["test", "--package", "sleap-rtc", "--test", "e2e"]);
        steps.command("tests that measure", alone.args(["--", "--nocapture"]).args(ALONE));
    }
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

fn lints(steps: &mut Steps, laptops: &[builds::Laptop]) {
    let clippy = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
    steps.command("clippy", &mut cargo(&clippy));
    steps.check("structure", structure);
    builds::check(steps, laptops);
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
