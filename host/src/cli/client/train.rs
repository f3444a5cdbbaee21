//! `sleap-rtc client-train`: sends a package to a worker and downloads the trained models.

use super::connect::ConnectOptions;
use super::environment::Environment;
use super::exit::Failure;
use super::submit_args::SubmitArgs;
use crate::config::Overrides;
use std::path::{Path, PathBuf};

/// The examples under `--help`, one for each way to connect.
pub(crate) const EXAMPLES: &str = "\
Examples:
  Let the policy choose the best worker of the room that this device has paired with:
    sleap-rtc client-train --auto-select --pkg-path labels.pkg.zip
  The same in one of several such rooms:
    sleap-rtc client-train --room northlab --auto-select --pkg-path labels.pkg.zip
  Choose one of a room's workers from a list:
    sleap-rtc client-train --room-id ROOM --token TOKEN --pkg-path labels.pkg.zip
  Let the policy choose the best available worker, with at least 16 GB of GPU memory:
    sleap-rtc client-train --room-id ROOM --token TOKEN --auto-select --min-gpu-memory 16000 \\
        --pkg-path labels.pkg.zip
  Choose a worker by its peer id, and read the token from a file:
    sleap-rtc client-train --room-id ROOM --token - --worker-id PEER_ID \\
        --pkg-path labels.pkg.zip < token.txt
  Connect to the worker that printed the session string:
    sleap-rtc client-train --session-string sleap-session:... --pkg-path labels.pkg.zip";

/// The options of `client-train`.
#[derive(clap::Args)]
pub struct TrainArgs {
    /// Training job package exported by SLEAP: the zip, or a folder with its files
    #[arg(short, long, value_name = "PATH")]
    pkg_path: Option<PathBuf>,
    /// Folder for the trained models [default: a new folder, named after the package]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Skip the predictions that the package asks for after the training
    #[arg(long)]
    no_inference: bool,
    /// Only show each worker of the room with its rank, score and reason
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    submit: SubmitArgs,
}

/// A training job to submit, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainOptions {
    /// Which worker.
    pub connect: ConnectOptions,
    /// The zip or the folder.
    pub package: PathBuf,
    /// The folder for the models. `None` for a new folder named after the package.
    pub output: Option<PathBuf>,
    /// Whether to make the predictions that the package asks for after the training.
    pub inference: bool,
    /// Only show which worker would get the job.
    pub explain: bool,
}

impl TrainArgs {
    pub(crate) fn check(
        mut self,
        environment: &mut Environment,
    ) -> Result<(TrainOptions, Overrides), Failure> {
        if self.explain {
            self.submit.connect.consider_all();
        }
        let (connect, overrides) = self.submit.check(environment)?;
        let package = existing("--pkg-path", self.pkg_path)?;
        if let Some(output) =
            self.output.as_ref().filter(|output| output.exists() && !output.is_dir())
        {
            let output = output.display();
            return Err(Failure::usage(format!("--output: {output} is a file, not a folder")));
        }
        let (output, explain, inference) = (self.output, self.explain, !self.no_inference);
        Ok((TrainOptions { connect, package, output, inference, explain }, overrides))
    }
}

/// A path that must be given and exist.
pub(crate) fn existing(option: &str, path: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let path = path.ok_or_else(|| Failure::usage(format!("{option} is missing")))?;
    found(option, &path)?;
    Ok(path)
}

pub(crate) fn found(option: &str, path: &Path) -> Result<(), Failure> {
    match path.metadata() {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::usage(format!("{option}: {}: {error}", path.display()))),
    }
}
