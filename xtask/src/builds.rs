//! The programs that are built with some features only, and for browsers.

use crate::programs::{call, cargo};
use crate::step::Steps;
use anyhow::{Context, Result, ensure};

/// A program with one feature.
struct Build {
    feature: &'static str,
    /// Crates that it is built without.
    without: &'static [&'static str],
}

const BUILDS: [Build; 3] = [
    Build {
        feature: "signaling",
        without: &["hdf5-reader", "iroh", "nvml-wrapper", "wasmtime", "webrtc", "zmq"],
    },
    Build { feature: "client", without: &["nvml-wrapper", "zmq"] },
    Build { feature: "worker", without: &["indicatif"] },
];

/// What a page in a browser uses.
const IN_BROWSERS: [&str; 6] = [
    "sleap-rtc-protocol",
    "sleap-rtc-trust",
    "sleap-rtc-package",
    "largest-gpu",
    "linear-estimate",
    "requirements",
];

/// Checks that each builds, without what it does not need.
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
        call(cargo(&["check", "--quiet"]).args(self.arguments()))
    }

    fn arguments(&self) -> [&'static str; 5] {
        ["--package", "sleap-rtc", "--no-default-features", "--features", self.feature]
    }

    fn check_dependencies(&self) -> Result<()> {
        let mut tree = cargo(&["tree", "--edges", "normal", "--prefix", "none", "--format", "{p}"]);
        let output = tree.args(self.arguments()).output().context("cannot start cargo")?;
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
