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

/// The features with which the plugins and the server are built for everything else: without them, build
/// scripts would be built anew, and all that depends on them. The builds for laptops check the server without
/// its page.
const SHARED: &str = "fewest-running/default,largest-gpu/default,linear-estimate/default,\
                      requirements/default,sleap-rtc-signaling/page";

/// The policies, which a page in a browser uses as plain functions. Everything else that the page uses is
/// built for browsers by `host/signaling/build.rs`.
const IN_BROWSERS: [&str; 4] = ["fewest-running", "largest-gpu", "linear-estimate", "requirements"];

/// A system besides Linux on which clients run: the name that rustc has for it, and its own.
pub type Laptop = (&'static str, &'static str);
pub const WINDOWS: Laptop = ("x86_64-pc-windows-gnu", "Windows");
pub const MAC: Laptop = ("aarch64-apple-darwin", "macOS");

/// Everything but the worker, which runs on Unix only. The server's page is the same on every system.
pub const ON_LAPTOPS: &str = "client,signaling";

/// In place of a C compiler and of `ar`: makes empty files where they would make objects and libraries.
const NO_COMPILER: &str = "#!/bin/sh\nwhile [ $# -gt 0 ]; do\n    case $1 in\n    \
                           -o) shift; : > \"$1\" ;;\n    *.a) : > \"$1\" ;;\n    esac\n    shift\ndone\n";

/// Checks that each builds, without the crates that it does not need, and the client for `laptops`.
pub fn check(steps: &mut Steps, laptops: &[Laptop]) {
    for build in &BUILDS {
        let name = format!("the feature {} alone", build.feature);
        steps.check(&name, || build.check());
    }
    steps.check("crates for browsers", in_browsers);
    let systems: Vec<&str> = laptops.iter().map(|(_, system)| *system).collect();
    steps.check(&format!("the client for {}", systems.join(" and ")), || on_laptops(laptops));
}

impl Build {
    fn check(&self) -> Result<()> {
        self.check_dependencies()?;
        self.lint()
    }

    /// Lints the program together with all other crates. Alone it would need some dependencies with
    /// fewer features, which would be built only for this.
    fn lint(&self) -> Result<()> {
        let features = format!("sleap-rtc/{},{SHARED}", self.feature);
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

/// Only Rust code is checked, so this needs no compiler of C for these systems, and none of their libraries.
fn on_laptops(laptops: &[Laptop]) -> Result<()> {
    let compiler = target().join("no-compiler");
    fs::write(&compiler, NO_COMPILER)?;
    fs::set_permissions(&compiler, Permissions::from_mode(0o755))?;
    let mut check = cargo(&["clippy", "--quiet", "--package", "sleap-rtc", "--bin", "sleap-rtc"]);
    check.args(["--no-default-features", "--features", ON_LAPTOPS]);
    for (triple, system) in laptops {
        rust_target(triple, &format!("client on {system}"))?;
        check.args(["--target", triple]);
        for tool in ["CC", "CXX", "AR"] {
            check.env(format!("{tool}_{}", triple.replace('-', "_")), &compiler);
        }
    }
    // Nothing is read there.
    call(check.env("SDKROOT", "/").args(["--", "-D", "warnings"]))
}
