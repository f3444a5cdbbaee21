//! Checks builds with single features, for browsers, and for the systems of laptops.

use crate::prerequisites::rust_target;
use crate::programs::{call, cargo, target};
use crate::step::Steps;
use anyhow::{Context, Result, ensure};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

/// A program with a single feature.
struct Build {
    feature: &'static str,
    /// Crates that it must not depend on.
    without: &'static [&'static str],
}

const BUILDS: [Build; 3] = [
    Build {
        feature: "signaling",
        without: &["hdf5-reader", "iroh", "nvml-wrapper", "ratatui", "wasmtime", "webrtc", "zmq"],
    },
    Build { feature: "client", without: &["nvml-wrapper", "zmq"] },
    Build { feature: "worker", without: &["ratatui"] },
];

/// The features with which the plugins are built for everything else.
const PLUGINS: &str =
    "fewest-running/default,largest-gpu/default,linear-estimate/default,requirements/default";

/// The crates that a page in a browser uses.
const IN_BROWSERS: [&str; 8] = [
    "sleap-rtc-protocol",
    "sleap-rtc-trust",
    "sleap-rtc-package",
    "sleap-rtc-page",
    "fewest-running",
    "largest-gpu",
    "linear-estimate",
    "requirements",
];

/// Where clients run besides Linux.
const LAPTOPS: [(&str, &str); 2] =
    [("x86_64-pc-windows-gnu", "Windows"), ("aarch64-apple-darwin", "macOS")];

/// Everything but the worker, which runs on Unix only. The server's page is the same on every system.
pub const ON_LAPTOPS: &str = "client,signaling";

/// In place of a C compiler and of `ar`: makes empty files where they would make objects and libraries.
const NO_COMPILER: &str = "#!/bin/sh\nwhile [ $# -gt 0 ]; do\n    case $1 in\n    \
                           -o) shift; : > \"$1\" ;;\n    *.a) : > \"$1\" ;;\n    esac\n    shift\ndone\n";

/// Checks that each builds, without the crates that it does not need.
pub fn check(steps: &mut Steps) {
    for build in &BUILDS {
        let name = format!("the feature {} alone", build.feature);
        steps.check(&name, || build.check());
    }
    steps.check("crates for browsers", in_browsers);
    for (triple, system) in LAPTOPS {
        steps.check(&format!("the client for {system}"), || on_laptops(triple, system));
    }
}

impl Build {
    fn check(&self) -> Result<()> {
        self.check_dependencies()?;
        self.lint()
    }

    /// Lints the program together with all other crates. Alone it would need some dependencies with
    /// fewer features, which would be built only for this.
    fn lint(&self) -> Result<()> {
        let features = format!("sleap-rtc/{},{PLUGINS}", self.feature);
        let mut clippy = cargo(&["clippy", "--quiet", "--workspace", "--lib", "--bins"]);
        clippy.args(["--no-default-features", "--features", &features, "--", "-D", "warnings"]);
        call(&mut clippy)
    }

    fn check_dependencies(&self) -> Result<()> {
        let mut tree = cargo(&["tree", "--edges", "normal", "--prefix", "none", "--format", "{p}"]);
        tree.args(["--package", "sleap-rtc", "--no-default-features", "--features", self.feature]);
        let output = tree.output().context("cannot start cargo")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let tree = String::from_utf8_lossy(&output.stdout);
        let names: Vec<&str> =
            tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
        ensure!(names.contains(&"tokio"), "`cargo tree` lists no dependencies");
        for name in self.without {
            ensure!(
                !names.contains(name),
                "the feature {} needs {name}, which it should not; \
                 `cargo tree --package sleap-rtc --no-default-features --features {} --invert {name}` \
                 says why",
                self.feature,
                self.feature
            );
        }
        Ok(())
    }
}

fn in_browsers() -> Result<()> {
    let packages = IN_BROWSERS.iter().flat_map(|name| ["--package", name]);
    let target = ["--target", "wasm32-unknown-unknown", "--no-default-features"];
    call(cargo(&["check", "--quiet"]).args(target).args(packages))
}

/// Only Rust code is checked, so this needs no compiler of C for that system, and none of its libraries.
fn on_laptops(triple: &str, system: &str) -> Result<()> {
    rust_target(triple, &format!("client on {system}"))?;
    let compiler = target().join("no-compiler");
    fs::write(&compiler, NO_COMPILER)?;
    fs::set_permissions(&compiler, Permissions::from_mode(0o755))?;
    let mut check = cargo(&["clippy", "--quiet", "--package", "sleap-rtc", "--bin", "sleap-rtc"]);
    check.args(["--no-default-features", "--features", ON_LAPTOPS, "--target", triple]);
    for tool in ["CC", "CXX", "AR"] {
        check.env(format!("{tool}_{}", triple.replace('-', "_")), &compiler);
    }
    // Nothing is read there.
    call(check.env("SDKROOT", "/").args(["--", "-D", "warnings"]))
}
