//! `cargo xtask estimates`: what a worker's estimates are worth for trainings with real sleap-nn.

use crate::loopback::Loopback;
use crate::programs::{call, cargo};
use crate::{prerequisites, python};
use anyhow::{Context, Result, ensure};
use std::process::ExitCode;
use std::{env, fs};

/// Epochs and batches per epoch of each training. They differ as a lab's do, and the first of each kind has
/// nothing to learn from.
const TRAININGS: [(u32, u32); 10] =
    [(2, 5), (4, 5), (3, 10), (6, 5), (2, 15), (5, 8), (8, 5), (3, 15), (4, 10), (6, 8)];

/// Trains ten times on the CPU, and prints what the worker had expected and what it has learned.
pub fn run() -> Result<ExitCode> {
    prerequisites::build()?;
    prerequisites::python()?;
    let trainer = python::sleap_nn()?;
    // Whoever has a build to measure names it.
    let lab = match env::var_os("SLEAP_RTC_PROGRAM") {
        Some(program) => Loopback::with("estimates", &trainer, program.as_ref())?,
        None => {
            call(&mut cargo(&["build", "--workspace", "--bin", "sleap-rtc"]))?;
            Loopback::new("estimates", &trainer)?
        }
    };
    let config = lab.folder.join("package/single_instance.yaml");
    let original = fs::read_to_string(&config).with_context(|| config.display().to_string())?;
    let server = lab.start_server()?;
    let worker = lab.start_worker(&server)?;
    for (number, (epochs, batches)) in (1..).zip(TRAININGS) {
        println!("\ntraining {number}: {epochs} epochs of {batches} batches");
        fs::write(&config, &original)?;
        lab.configure(&[
            ("max_epochs: 2\n", &format!("max_epochs: {epochs}\n")),
            ("min_train_steps_per_epoch: 1\n", &format!("min_train_steps_per_epoch: {batches}\n")),
        ])?;
        lab.client(&server, &worker, &["client-train", "--pkg-path"], |command| {
            let output = lab.folder.join(format!("models-{number}"));
            command.arg(lab.folder.join("package")).arg("--output").arg(output);
        })?;
    }
    println!();
    let shown = lab.command("worker", &["estimates", "--local"])?.output()?;
    ensure!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    print!("{}", String::from_utf8_lossy(&shown.stdout));
    worker.process.stop()?;
    server.process.stop()?;
    Ok(ExitCode::SUCCESS)
}
