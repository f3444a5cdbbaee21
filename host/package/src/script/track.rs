//! The arguments of an inference command, in every dialect.

use super::options::{self, OptionKind};
use super::words::{Argument, Words};
use super::{LineFault, Model, Run, Track, TrackOption, is_foreign};
use sleap_rtc_protocol::path::RelPath;

pub(crate) fn parse(words: &mut Words<'_>) -> Result<Run, LineFault> {
    let (mut data, mut models, mut output, mut options) = (None, Vec::new(), None, Vec::new());
    while let Some(argument) = words.next_argument()? {
        let (option, inline) = match argument {
            Argument::Option { name, inline } => (name, inline),
            Argument::Plain(word) if data.is_none() => {
                data = Some(words.place(&word)?);
                continue;
            }
            Argument::Plain(word) => return Err(LineFault::Word(word)),
        };
        let (name, kind) = match options::find(&option) {
            Some((name, kind)) if kind != OptionKind::Refused => (name, kind),
            _ => return Err(LineFault::Option(option)),
        };
        if kind == OptionKind::Flag {
            if let Some(value) = inline {
                return Err(LineFault::Value { option: name.to_owned(), value });
            }
            options.push(TrackOption { name, value: None });
            continue;
        }
        let value = match inline {
            Some(value) => value,
            None => words.next()?.ok_or(LineFault::Missing("value"))?,
        };
        if !kind.takes(&value) {
            return Err(LineFault::Value { option: name.to_owned(), value });
        }
        match name {
            "--verbosity" => {}
            "--data_path" => data = Some(words.place(&value)?),
            "--model_paths" => models.push(Model::Named(words.place(&value)?)),
            "--output_path" => output = Some(words.own_place(&value)?),
            _ => options.push(TrackOption { name, value: Some(option_value(words, kind, value)?) }),
        }
    }
    let data = data.ok_or(LineFault::Missing("data"))?;
    if models.is_empty() {
        return Err(LineFault::Missing("model"));
    }
    let output = match output {
        Some(output) => output,
        None => RelPath::new(format!("{}.predictions.slp", data.path))?,
    };
    spell_out_frames(&mut options)?;
    // Jobs always ask for progress.
    options.retain(|option| option.name != "--gui");
    Ok(Run::Track(Track { data, mounted: None, models, output, options }))
}

/// The value of an option. Paths of files in the package start at its top.
fn option_value(words: &Words<'_>, kind: OptionKind, value: String) -> Result<String, LineFault> {
    match kind {
        OptionKind::File if !is_foreign(&value) => Ok(words.place(&value)?.path.into()),
        _ => Ok(value),
    }
}

/// Converts a mixture of ranges and frames to a list, because sleap-nn takes only one range or one list.
fn spell_out_frames(options: &mut [TrackOption]) -> Result<(), LineFault> {
    for option in options.iter_mut().filter(|option| option.name == options::FRAMES) {
        let written = option.value.clone().unwrap_or_default();
        let fault = || LineFault::Value { option: options::FRAMES.into(), value: written.clone() };
        let frames: Frames = written.parse().map_err(|_| fault())?;
        option.value = Some(frames.to_string());
    }
    Ok(())
}

/// Frame numbers: inclusive ranges, in the order in which they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frames(Vec<(u64, u64)>);

/// The longest list of frames. Keeps the trainer's command line below the limits of systems.
const MAX_LISTED: u64 = 10_000;

impl Frames {
    /// These frames.
    pub fn these(frames: impl IntoIterator<Item = u64>) -> Self {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for frame in frames {
            match ranges.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(frame) => *last = frame,
                _ => ranges.push((frame, frame)),
            }
        }
        Self(ranges)
    }

    /// Whether this frame is included.
    pub fn contains(&self, frame: u64) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&frame))
    }

    /// The smallest frame number.
    pub fn first(&self) -> u64 {
        self.0.iter().map(|(first, _)| *first).min().unwrap_or(0)
    }

    /// The number of frames.
    pub fn count(&self) -> u64 {
        self.0.iter().fold(0, |sum, (first, last)| sum.saturating_add(last - first + 1))
    }
}

impl std::str::FromStr for Frames {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const WANTED: &str = "expects frame numbers and ranges such as 0-99,150";
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            // SLEAP writes a range as `1,-200` too.
            let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            (first <= last).then_some((first, last))
        };
        let text = text.replace(",-", "-");
        let ranges: Option<Vec<(u64, u64)>> = text.split(',').map(range).collect();
        let frames = Self(ranges.ok_or(WANTED)?);
        let one_range = frames.0.len() == 1 || frames.count() <= MAX_LISTED;
        one_range.then_some(frames).ok_or("lists too many frames: give one range")
    }
}

impl std::fmt::Display for Frames {
    /// In the form that sleap-nn reads.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let [(first, last)] = self.0[..]
            && first < last
        {
            return write!(f, "{first}-{last}");
        }
        let listed = self.0.iter().flat_map(|(first, last)| *first..=*last);
        for (index, frame) in listed.enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{frame}")?;
        }
        Ok(())
    }
}
