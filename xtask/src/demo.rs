//! `cargo xtask demo`: a training and a tracking with real processes, and a picture of the result.

use crate::loopback::{Loopback, is_filled, model_below};
use crate::picture::Drawing;
use crate::programs::{call, cargo, root};
use crate::{Options, early_end, prerequisites, python};
use anyhow::{Result, ensure};
use std::process::ExitCode;

/// Enough for the model to find the animal in each frame. Higher learning rates often end in a
/// model that finds nothing.
const LEARNS: [(&str, &str); 3] = [
    ("max_epochs: 2\n", "max_epochs: 14\n"),
    ("min_train_steps_per_epoch: 1\n", "min_train_steps_per_epoch: 20\n"),
    ("lr: 0.001\n", "lr: 0.002\n"),
];

/// Runs the whole demo.
pub fn run(options: &Options) -> Result<ExitCode> {
    prerequisites::build()?;
    prerequisites::python()?;
    if !options.stand_in {
        // Checked first, because it is missing most often and building takes long.
        python::sleap_nn()?;
    }
    println!("building (the first time takes several minutes)");
    // Built with the features of the whole workspace, so that the tests can reuse it.
    call(&mut cargo(&["build", "--workspace", "--bin", "sleap-rtc"]))?;
    match options.early_end {
        true => early_end::stop_and_cancel(&python::sleap_nn()?)?,
        false => train_and_track(options.stand_in)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Trains the small package and tracks with the trained model. The binary must be built already.
pub fn train_and_track(stand_in: bool) -> Result<()> {
    let trainer = match stand_in {
        true => root().join("tests/stand-in"),
        false => python::sleap_nn()?,
    };
    let demo = Loopback::new("demo", &trainer)?;
    if !stand_in {
        demo.configure(&LEARNS)?;
    }
    let models = demo.folder.join("models");
    let predictions = demo.folder.join("predictions.slp");
    let labels = demo.folder.join("package/one.pkg.slp");
    let server = demo.start_server()?;
    let worker = demo.start_worker(&server)?;
    demo.client(&server, &worker, &["client-train", "--pkg-path"], |command| {
        command.arg(demo.folder.join("package")).arg("--output").arg(&models);
    })?;
    let model = model_below(&models)?;
    demo.client(&server, &worker, &["client-track", "--data-path"], |command| {
        command.arg(&labels).arg("--model-paths").arg(&model).arg("-o").arg(&predictions);
    })?;
    ensure!(is_filled(&predictions), "no predictions at {}", predictions.display());
    worker.process.stop()?;
    server.process.stop()?;
    let picture = demo.folder.join("picture.png");
    if !stand_in {
        let training_log = &model.join("training_log.csv");
        let drawing = Drawing { labels: &labels, predictions: &predictions, training_log };
        drawing.draw(&trainer, &picture)?;
    }
    let by = if stand_in { "the stand-in trainer" } else { "real sleap-nn" };
    println!("\nDone with {by}; no process is left. In {}:", demo.folder.display());
    println!("  model        {}", model.display());
    println!("  predictions  {}", predictions.display());
    if !stand_in {
        println!("  picture      {}", picture.display());
    }
    Ok(())
}
