//! The arguments of an inference command, in every dialect.

use super::{LineFault, Run, Track, TrackOption, is_plain, package_path};

/// Options without a value that are passed on.
const FLAGS: &[&str] = &[
    "--centroid_only",
    "--ensure_grayscale",
    "--ensure_rgb",
    "--exclude_user_labeled",
    "--filter_overlapping",
    "--no-ensure_grayscale",
    "--no-ensure_rgb",
    "--no_empty_frames",
    "--only_labeled_frames",
    "--only_predicted_frames",
    "--only_suggested_frames",
    "--post_connect_single_breaks",
    "--tracking",
    "--tracking_clean_instance_count",
    "--tracking_pre_cull_to_target",
    "--use_flow",
    "--use_kalman",
];

/// Options with a number or a word that are passed on.
const VALUED: &[&str] = &[
    "--anchor_part",
    "--batch_size",
    "--candidates_method",
    "--crop_size",
    "--device",
    "--features",
    "--filter_overlapping_method",
    "--filter_overlapping_threshold",
    "--frames",
    "--input_scale",
    "--integral_patch_size",
    "--integral_refinement",
    "--max_height",
    "--max_instances",
    "--max_tracks",
    "--max_width",
    "--min_instance_peaks",
    "--min_line_scores",
    "--min_match_points",
    "--min_new_track_points",
    "--n_points",
    "--of_img_scale",
    "--of_max_levels",
    "--of_window_size",
    "--peak_threshold",
    "--queue_maxsize",
    "--robust_best_instance",
    "--scoring_method",
    "--scoring_reduction",
    "--track_matching_method",
    "--tracking_target_instance_count",
    "--tracking_window_size",
    "--video_dataset",
    "--video_index",
    "--video_input_format",
];
/// Options that name files outside a package's usual layout: known, so that their value is not
/// taken for the data, but left out.
const DROPPED_VALUED: &[&str] = &["--backbone_ckpt_path", "--head_ckpt_path"];

pub(super) fn parse(words: &[String], dropped: &mut Vec<String>) -> Result<Run, LineFault> {
    let (mut data, mut models, mut output, mut options) = (None, Vec::new(), None, Vec::new());
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let (option, inline) = match word.split_once('=') {
            Some((option, value)) if word.starts_with('-') => (option, Some(value)),
            _ => (word, None),
        };
        let mut value = || inline.or_else(|| words.next()).ok_or(LineFault::Missing("value"));
        match canonical(option).as_str() {
            "--data_path" => data = Some(package_path(value()?)?),
            "--model_paths" => models.push(package_path(value()?)?),
            "--output_path" => output = Some(package_path(value()?)?),
            "--gui" => {}
            name => {
                if let Some(name) = find(FLAGS, name) {
                    options.push(TrackOption { name, value: None });
                } else if let Some(name) = find(VALUED, name) {
                    let value = value()?;
                    match is_plain(value) {
                        true => options.push(TrackOption { name, value: Some(value.to_owned()) }),
                        false => dropped.push(name.to_owned()),
                    }
                } else if DROPPED_VALUED.contains(&name) {
                    value()?;
                    dropped.push(name.to_owned());
                } else if !name.starts_with('-') && data.is_none() {
                    data = Some(package_path(word)?);
                } else {
                    dropped.push(word.chars().take(80).collect());
                }
            }
        }
    }
    let data = data.ok_or(LineFault::Missing("data"))?;
    if models.is_empty() {
        return Err(LineFault::Missing("model"));
    }
    let output = match output {
        Some(output) => output,
        None => package_path(&format!("{data}.predictions.slp"))?,
    };
    Ok(Run::Track(Track { data, models, output, options }))
}

fn find(list: &[&'static str], name: &str) -> Option<&'static str> {
    list.iter().copied().find(|known| *known == name)
}

/// The long name with underscores, as every version of sleap-nn takes it.
fn canonical(option: &str) -> String {
    match option {
        "-i" | "--data-path" => "--data_path".to_owned(),
        "-m" | "--model" | "--models" | "--model-paths" | "--model_path" => {
            "--model_paths".to_owned()
        }
        "-o" | "--output" | "--output-path" => "--output_path".to_owned(),
        "-b" => "--batch_size".to_owned(),
        "-d" => "--device".to_owned(),
        "-n" => "--max_instances".to_owned(),
        "-t" => "--tracking".to_owned(),
        kept @ ("--no-ensure_rgb" | "--no-ensure_grayscale") => kept.to_owned(),
        long if long.starts_with("--") => format!("--{}", long[2..].replace('-', "_")),
        other => other.to_owned(),
    }
}
