//! `sleap-rtc client-track`: sends labels and models to a worker and downloads the predictions.

use super::connect::ConnectOptions;
use super::environment::Environment;
use super::exit::Failure;
use super::paths::folders_matching;
use super::submit_args::SubmitArgs;
use super::train::{existing, found};
use crate::config::Overrides;
use sleap_rtc_package::check::OUTPUTS;
use sleap_rtc_package::script::Frames;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The examples under `--help`, one for each way to connect.
pub(crate) const EXAMPLES: &str = "\
Examples:
  Choose one of a room's workers from a list:
    sleap-rtc client-track --room-id ROOM --token TOKEN --data-path labels.slp \\
        --model-paths labels/*/ -o predictions.slp
  Let the policy choose the best available worker:
    sleap-rtc client-track --room-id ROOM --token TOKEN --auto-select --data-path labels.slp \\
        --model-paths labels/*/ -o predictions.slp
  Choose a worker by its peer id, and read the token from a file:
    sleap-rtc client-track --room-id ROOM --token - --worker-id PEER_ID --data-path labels.slp \\
        --model-paths labels/*/ -o predictions.slp < token.txt
  Connect to the worker that printed the session string:
    sleap-rtc client-track --session-string sleap-session:... --data-path labels.slp \\
        --model-paths labels/*/ -o predictions.slp
`labels` is the folder with the trained models, as `train` names it at its end. A shell that does not
replace labels/*/ by the folders in it, such as PowerShell, needs the name of each.";

/// The options of `client-track`.
#[derive(clap::Args)]
pub struct TrackArgs {
    /// Labels file (.slp) with the frames to predict, or a video; the videos of labels are sent too
    #[arg(short, long, value_name = "FILE")]
    data_path: Option<PathBuf>,
    /// Folders of trained models: one, or two for top-down; repeatable
    #[arg(short, long, value_name = "DIR", num_args = 1..)]
    model_paths: Vec<PathBuf>,
    /// File for the predictions [default: predictions.slp, numbered where that exists]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    settings: TrackSettings,
    #[command(flatten)]
    submit: SubmitArgs,
}

/// A tracking job to submit, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackOptions {
    /// Which worker.
    pub connect: ConnectOptions,
    /// The labels.
    pub data: PathBuf,
    /// The models' folders, at least one.
    pub models: Vec<PathBuf>,
    /// Where the predictions go.
    pub output: PathBuf,
    /// Options of the trainer: which frames to predict, and how.
    pub settings: TrackSettings,
}

/// Options that are passed to the trainer's `track` command.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Prediction")]
pub struct TrackSettings {
    /// Predict only these frames, such as 0-99,150
    #[arg(long, value_name = "FRAMES")]
    pub frames: Option<Frames>,
    /// Predict only frames that SLEAP suggested for labelling
    #[arg(long, group = "choice")]
    pub only_suggested_frames: bool,
    /// Predict only frames that have labels
    #[arg(long, group = "choice")]
    pub only_labeled_frames: bool,
    /// Skip frames that the user has labelled
    #[arg(long, alias = "exclude-user-labels", group = "choice")]
    pub exclude_user_labeled: bool,
    /// Leave out frames in which nothing was found
    #[arg(long)]
    pub no_empty_frames: bool,
    /// Predict only the video with this index in the labels file
    #[arg(long, value_name = "N")]
    pub video_index: Option<u32>,
    /// Number of frames per batch
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_size: Option<u32>,
    /// The most animals to predict in a frame
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_instances: Option<u32>,
    /// The lowest confidence of a point, from 0 to 1
    #[arg(long, value_name = "P")]
    pub peak_threshold: Option<Confidence>,
    /// Device to predict on: cpu, cuda, mps or auto
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Connect the predictions to tracks over time
    #[arg(long)]
    pub tracking: bool,
    /// The most tracks to keep
    #[arg(long, value_name = "N", requires = "tracking", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tracks: Option<u32>,
    /// Number of frames that the tracker looks back
    #[arg(long, value_name = "N", requires = "tracking", value_parser = clap::value_parser!(u32).range(1..))]
    pub tracking_window_size: Option<u32>,
    /// Tracker to use, by sleap-nn's names, such as classic or bytetrack
    #[arg(long, value_name = "NAME", requires = "tracking")]
    pub tracker: Option<String>,
}

/// A confidence from 0 to 1, in the form in which it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confidence(String);

impl FromStr for Confidence {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_valid = text.parse::<f64>().is_ok_and(|number| (0.0..=1.0).contains(&number));
        is_valid.then(|| Self(text.to_owned())).ok_or("expects a number from 0 to 1, such as 0.2")
    }
}

impl TrackSettings {
    /// The settings as arguments of `sleap-nn predict`, without the choice of frames.
    pub fn arguments(&self) -> Vec<String> {
        let valued = [
            ("--batch_size", self.batch_size.map(|n| n.to_string())),
            ("--max_instances", self.max_instances.map(|n| n.to_string())),
            (
                "--peak_threshold",
                self.peak_threshold.as_ref().map(|confidence| confidence.0.clone()),
            ),
            ("--device", self.device.clone()),
            ("--max_tracks", self.max_tracks.map(|n| n.to_string())),
            ("--tracking_window_size", self.tracking_window_size.map(|n| n.to_string())),
            ("--tracker", self.tracker.clone()),
        ];
        let flags = [
            ("--only_suggested_frames", self.only_suggested_frames),
            ("--only_labeled_frames", self.only_labeled_frames),
            ("--exclude_user_labeled", self.exclude_user_labeled),
            ("--no_empty_frames", self.no_empty_frames),
            ("--tracking", self.tracking),
        ];
        let valued = valued.into_iter().filter_map(|(name, value)| Some([name.into(), value?]));
        let flags = flags.into_iter().filter(|(_, on)| *on).map(|(name, _)| name.into());
        valued.flatten().chain(flags).collect()
    }
}

impl TrackSettings {
    /// The options as this program has them.
    pub(crate) fn words(&self) -> Vec<String> {
        let frames = self.frames.as_ref().map(|frames| ["--frames".into(), frames.to_string()]);
        let video = self.video_index.map(|index| ["--video-index".into(), index.to_string()]);
        let own = |word: String| match word.starts_with("--") {
            true => word.replace('_', "-"),
            false => word,
        };
        let others = self.arguments().into_iter().map(own);
        frames.into_iter().chain(video).flatten().chain(others).collect()
    }
}

impl TrackArgs {
    pub(crate) fn check(
        self,
        environment: &mut Environment,
    ) -> Result<(TrackOptions, Overrides), Failure> {
        let (connect, overrides) = self.submit.check(environment)?;
        let data = existing("--data-path", self.data_path)?;
        let models: Vec<_> = self.model_paths.into_iter().flat_map(folders_matching).collect();
        if models.is_empty() {
            return Err(Failure::usage("--model-paths is missing"));
        }
        for model in &models {
            found("--model-paths", model)?;
        }
        let output = self.output.unwrap_or_else(free_output);
        check_output(&output, &data)?;
        Ok((TrackOptions { connect, data, models, output, settings: self.settings }, overrides))
    }
}

/// A free name for predictions, so that they do not replace others.
fn free_output() -> PathBuf {
    let numbered = (1..).map(|number| PathBuf::from(format!("predictions-{number}.slp")));
    let mut names = std::iter::once(PathBuf::from("predictions.slp")).chain(numbered);
    names.find(|path| !path.exists()).unwrap_or_else(|| "predictions.slp".into())
}

/// Checks that the result may replace an existing file, and that sleap-nn can save under this name.
/// sleap-nn itself checks the name only after the prediction.
fn check_output(output: &Path, data: &Path) -> Result<(), Failure> {
    let shown = output.display();
    let what = match output.metadata() {
        Ok(there) if there.is_dir() => "is a folder, not a file",
        Ok(there) if !there.is_file() => "is not a regular file",
        Ok(_) if is_same(output, data) => {
            "is the file of --data-path, which the predictions would replace"
        }
        Err(_) if output.as_os_str().as_encoded_bytes().ends_with(b"/") => {
            "names a folder, not a file"
        }
        _ if !names_format(output) => "must end with .slp, .h5, .geojson or .csv",
        _ => return Ok(()),
    };
    Err(Failure::usage(format!("--output: {shown} {what}")))
}

/// Whether the ending is one by which sleap-nn chooses a format that it can write.
fn names_format(output: &Path) -> bool {
    let ending = output.extension().and_then(OsStr::to_str).unwrap_or_default();
    OUTPUTS.iter().any(|format| format.eq_ignore_ascii_case(ending))
}

fn is_same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}
