//! Has Lighthouse judge the page: by whom it can be used, and whether it does what pages should.

use crate::loopback::Loopback;
use crate::programs::{call, find, root, target};
use crate::python::npm_tools;
use anyhow::{Context, Result};
use std::process::{Command, ExitCode};

/// How Lighthouse starts Chromium. As root it cannot confine itself.
const CHROMIUM: &str = "--chrome-flags=--headless=new --no-sandbox --disable-dev-shm-usage";

/// Installs Lighthouse, and judges the page of the built program.
pub fn run() -> Result<ExitCode> {
    match judge()? {
        true => Ok(ExitCode::SUCCESS),
        false => anyhow::bail!("Lighthouse needs Node 20 with npm, and Chromium"),
    }
}

/// The same. Returns false if the machine has no Node or no Chromium.
pub fn judge() -> Result<bool> {
    let wanted = root().join("xtask/lighthouse/package.json");
    let tools = npm_tools(&wanted, &target().join("lighthouse"), "lighthouse")?;
    let (Some(tools), Some(chromium)) = (tools, find("chromium")) else { return Ok(false) };
    let scene = Loopback::new("judged", &root().join("tests/stand-in"))?;
    let server = scene.start_server()?;
    let mut worker = scene.start_worker(&server)?;
    let key = worker.process.wait_line("/app/#")?;
    let mut reports = Vec::new();
    for (name, address) in [("join", String::new()), ("room", format!("#{key}"))] {
        let report = scene.folder.join(name).with_extension("json");
        let mut lighthouse = Command::new(tools.join("lighthouse"));
        lighthouse.arg(format!("{}/app/{address}", server.http()));
        lighthouse.args(["--quiet", "--output=json", CHROMIUM]).arg("--output-path").arg(&report);
        lighthouse.arg("--only-categories=accessibility,best-practices");
        call(lighthouse.env("CHROME_PATH", &chromium).current_dir(&scene.folder))?;
        reports.push(report);
    }
    let mut scores = Command::new("node");
    call(scores.arg(root().join("xtask/lighthouse/scores.mjs")).args(reports))
        .context("the page is not good enough for Lighthouse")?;
    worker.process.stop()?;
    server.process.stop()?;
    Ok(true)
}
