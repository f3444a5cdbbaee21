//! Checks builds with single features, and builds for browsers.

use crate::programs::{call, cargo};
use crate::step::Steps;
use anyhow::{Context, Result, ensure};

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

/// Checks that each builds, without the crates that it does not need.
pub fn check(steps: &mut Steps) {
    for build in &BUILDS {
        let name = format!("the feature {} alone", build.feature);
        steps.check(&name, || build.check());
    }
    steps.check("crates for browsers", in_browsers);
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
