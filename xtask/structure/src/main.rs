//! Finds structures that make code hard to navigate. `cargo xtask lint` runs this. It fails on findings
//! that `allowed.toml` does not accept with a reason, and on entries there that no longer apply.
//!
//! Covers every library and program of the workspace, without tests, examples and benchmarks:
//!
//! - **circles**: modules that use each other (see [`graph`]);
//! - **files** of more than 400 lines of code, without blank lines, comments and tests;
//! - **types** with the same name in two modules of a crate, or in three crates of the program;
//! - **functions** of more than 60 lines from `fn` to the closing brace.

mod allowed;
mod graph;
mod source;

use allowed::Allowed;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use source::Crate;
use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const MAX_FILE_LINES: usize = 400;
const MAX_FUNCTION_LINES: usize = 60;
/// In so many crates of the program a name confuses.
const MANY_CRATES: usize = 3;
/// How the names of the program's crates begin.
const PROGRAM: &str = "sleap-rtc";
/// A client of its own: in a browser, a room or a connection is what it is elsewhere.
const PAGE: &str = "sleap-rtc-page";

/// A finding to accept or remove. Its text in `allowed.toml` identifies it, and therefore contains
/// no counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    kind: Kind,
    what: String,
    /// A detail to print next to it.
    detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Circle,
    File,
    Type,
    Name,
    Function,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Circle, Self::File, Self::Type, Self::Name, Self::Function];

    fn title(self) -> &'static str {
        match self {
            Self::Circle => "circles of modules",
            Self::File => "files over 400 lines of code",
            Self::Type => "type names defined twice in a crate",
            Self::Name => "type names defined in three crates",
            Self::Function => "functions over 60 lines",
        }
    }
}

fn main() -> Result<ExitCode> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let mut findings = Vec::new();
    let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, root) in crates(&workspace)? {
        let found = source::read(&name, &root, &workspace)?;
        findings.extend(look(&found));
        let types = found.modules.into_iter().flat_map(|module| module.types);
        for defined in types.filter(|_| name.starts_with(PROGRAM) && name != PAGE) {
            names.entry(defined).or_default().insert(name.clone());
        }
    }
    for (what, crates) in names.into_iter().filter(|(_, crates)| crates.len() >= MANY_CRATES) {
        let detail = format!("in {}", Vec::from_iter(crates).join(", "));
        findings.push(Finding { kind: Kind::Name, what, detail });
    }
    findings.sort();
    findings.dedup();
    let list = workspace.join("xtask/structure/allowed.toml");
    Ok(if report(&findings, &Allowed::read(&list)?) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The output of `cargo metadata`, as far as it is used.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    src_path: PathBuf,
}

/// The libraries and programs of the workspace: the package's name and the root file.
fn crates(workspace: &Path) -> Result<Vec<(String, PathBuf)>> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(workspace);
    let output = command.output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
    let mut found = Vec::new();
    for package in metadata.packages {
        let code = ["lib", "rlib", "bin"];
        let targets = package.targets.into_iter();
        for target in targets.filter(|t| t.kind.iter().any(|kind| code.contains(&kind.as_str()))) {
            found.push((package.name.clone(), target.src_path));
        }
    }
    Ok(found)
}

fn look(found: &Crate) -> Vec<Finding> {
    let mut findings = Vec::new();
    for circle in graph::circles(found) {
        let what = format!("{}: {}", found.name, circle.modules.join(", "));
        findings.push(Finding { kind: Kind::Circle, what, detail: circle.uses.join(", ") });
    }
    for file in &found.files {
        if file.code_lines > MAX_FILE_LINES {
            let detail = format!("{} lines", file.code_lines);
            findings.push(Finding { kind: Kind::File, what: file.path.clone(), detail });
        }
        for (name, lines) in file.functions.iter().filter(|(_, n)| *n > MAX_FUNCTION_LINES) {
            let what = format!("{}: {name}", file.path);
            findings.push(Finding { kind: Kind::Function, what, detail: format!("{lines} lines") });
        }
    }
    let mut types: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for module in &found.modules {
        for name in &module.types {
            let places = types.entry(name).or_default();
            // Definitions for different systems may be next to each other.
            if places.last() != Some(&module.path.as_str()) {
                places.push(&module.path);
            }
        }
    }
    for (name, places) in types.into_iter().filter(|(_, places)| places.len() > 1) {
        let what = format!("{}: {name}", found.name);
        let detail = format!("in {}", places.join(", "));
        findings.push(Finding { kind: Kind::Type, what, detail });
    }
    findings
}

/// Prints everything. Returns whether there is neither a new finding nor an obsolete entry.
fn report(findings: &[Finding], allowed: &Allowed) -> bool {
    let mut good = true;
    for kind in Kind::ALL {
        println!("{}:", kind.title());
        let of_kind = || findings.iter().filter(|finding| finding.kind == kind);
        for finding in of_kind() {
            let why = allowed.why(kind, &finding.what);
            good &= why.is_some();
            let why = why.unwrap_or("NEW: change it, or name it with a reason in allowed.toml");
            println!("  {} ({})\n      {why}", finding.what, finding.detail);
        }
        for gone in allowed.of(kind).filter(|what| !of_kind().any(|f| f.what == *what)) {
            good = false;
            println!("  {gone}\n      GONE: remove it from allowed.toml");
        }
        if of_kind().next().is_none() {
            println!("  none");
        }
    }
    good
}
