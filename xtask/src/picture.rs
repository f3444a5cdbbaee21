//! Draws the demo's picture: the model's points in a frame, and the course of its loss.

use crate::programs::root;
use crate::python;
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;
use std::process::{Command, Stdio};

/// The demo's model predicts within one pixel. A model that learned nothing is off by ten.
const NEAR_PX: f64 = 3.0;

/// The inputs of the picture.
pub struct Drawing<'a> {
    pub labels: &'a Path,
    pub predictions: &'a Path,
    pub training_log: &'a Path,
}

impl Drawing<'_> {
    /// Draws `picture` with the packages of sleap-nn's environment, and checks that the predictions
    /// are near the labels. `trainer` is the folder of `sleap-nn`.
    pub fn draw(&self, trainer: &Path, picture: &Path) -> Result<()> {
        let mut command = Command::new(python::interpreter(&trainer.join("sleap-nn"))?);
        command.arg(root().join("xtask/sleap-nn/picture.py"));
        command.args([self.labels, self.predictions, self.training_log, picture]);
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
        ensure!(output.status.success(), "{command:?} ended with {}", output.status);
        ensure!(picture.is_file(), "{command:?} drew nothing");
        let numbers = String::from_utf8_lossy(&output.stdout);
        let [found, points, mean_px] = numbers.split_whitespace().collect::<Vec<_>>()[..] else {
            bail!("{command:?} printed {numbers:?} instead of three numbers");
        };
        let mean_px: f64 = mean_px.parse().with_context(|| format!("a distance of {mean_px}"))?;
        println!("{found} of {points} points found, {mean_px:.2} px from their labels on average");
        ensure!(found == points, "the model found {found} of {points} points");
        ensure!(
            mean_px < NEAR_PX,
            "the model's points are {mean_px:.2} px from their labels, more than {NEAR_PX} px"
        );
        Ok(())
    }
}
