//! The options of the tracker, `sleap-nn track` and `predict`, in all supported versions. Trainings have
//! theirs in `train`.
//!
//! An option that is missing here is refused by name, because without it the prediction would differ. The
//! test `every_option_of_an_installed_sleap_nn_is_known`, which is run by hand, compares this table with the
//! help of a real sleap-nn.

/// The kind of value that an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionKind {
    /// No value.
    Flag,
    /// A whole number.
    Int,
    /// A number.
    Float,
    /// Any text.
    Text,
    /// A file or folder of the package.
    File,
    /// The option is not allowed: it reads or writes something that a job does not have.
    Refused,
}

impl OptionKind {
    /// Whether `value` may follow the option.
    pub(crate) fn takes(self, value: &str) -> bool {
        let number = value.parse::<f64>().is_ok_and(f64::is_finite);
        match self {
            Self::Flag | Self::Refused => false,
            Self::Int => value.parse::<i64>().is_ok(),
            Self::Float => number,
            Self::Text | Self::File => {
                let plain = value.len() <= 256 && !value.chars().any(char::is_control);
                plain && !value.is_empty() && (number || !value.starts_with('-'))
            }
        }
    }
}

/// Which frames to predict.
pub const FRAMES: &str = "--frames";
/// Which video of the labels to predict.
pub const VIDEO_INDEX: &str = "--video_index";

/// Other names of options: short ones, and those of other programs and versions.
const ALIASES: &[(&str, &str)] = &[
    ("-i", "--data_path"),
    ("-m", "--model_paths"),
    ("-o", "--output_path"),
    ("-b", "--batch_size"),
    ("-d", "--device"),
    ("-n", "--max_instances"),
    ("-t", "--tracking"),
    ("--model", "--model_paths"),
    ("--models", "--model_paths"),
    ("--model_path", "--model_paths"),
    ("--output", "--output_path"),
    ("--peak_conf_threshold", "--peak_threshold"),
];

/// Each option, by the name that all versions accept.
pub const OPTIONS: &[(&str, OptionKind)] = &[
    ("--anchor_part", OptionKind::Text),
    ("--appearance_threshold", OptionKind::Text),
    ("--appearance_weight", OptionKind::Float),
    ("--backbone_ckpt_path", OptionKind::File),
    ("--batch_size", OptionKind::Int),
    ("--bbox_nms_iou", OptionKind::Float),
    ("--candidates_method", OptionKind::Text),
    ("--center_nms_kernel", OptionKind::Int),
    ("--centroid_only", OptionKind::Flag),
    ("--centroid_output", OptionKind::Text),
    ("--centroid_peak_threshold", OptionKind::Float),
    ("--cpu-workers", OptionKind::Int),
    ("--crop_size", OptionKind::Int),
    ("--data_path", OptionKind::File),
    ("--device", OptionKind::Text),
    ("--dist_penalty_weight", OptionKind::Float),
    ("--distance_gate_alpha", OptionKind::Float),
    ("--embed", OptionKind::Text),
    ("--ensure_grayscale", OptionKind::Flag),
    ("--ensure_rgb", OptionKind::Flag),
    ("--euclidean_scale", OptionKind::Float),
    ("--exclude_user_labeled", OptionKind::Flag),
    ("--features", OptionKind::Text),
    ("--fg_threshold", OptionKind::Float),
    ("--filter_min_centroid_distance", OptionKind::Float),
    ("--filter_min_instance_score", OptionKind::Float),
    ("--filter_min_mean_node_score", OptionKind::Float),
    ("--filter_min_visible_node_fraction", OptionKind::Float),
    ("--filter_min_visible_nodes", OptionKind::Int),
    ("--filter_overlapping", OptionKind::Flag),
    ("--filter_overlapping_method", OptionKind::Text),
    ("--filter_overlapping_threshold", OptionKind::Float),
    (FRAMES, OptionKind::Text),
    ("--full_res_masks", OptionKind::Flag),
    ("--gui", OptionKind::Flag),
    ("--head_ckpt_path", OptionKind::File),
    ("--headers", OptionKind::Refused),
    ("--input_scale", OptionKind::Float),
    ("--integral_patch_size", OptionKind::Int),
    ("--integral_refinement", OptionKind::Text),
    ("--kf_init_frame_count", OptionKind::Int),
    ("--kf_node_indices", OptionKind::Text),
    ("--kf_reset_gap_size", OptionKind::Int),
    ("--kf_track_features", OptionKind::Text),
    ("--link_tracklets", OptionKind::Flag),
    ("--mask_backend", OptionKind::Text),
    ("--mask_cleanup", OptionKind::Flag),
    ("--mask_cleanup_radius", OptionKind::Int),
    ("--mask_output", OptionKind::Text),
    ("--max_edge_length_ratio", OptionKind::Float),
    ("--max_height", OptionKind::Int),
    ("--max_instances", OptionKind::Int),
    ("--max_tracks", OptionKind::Int),
    ("--max_width", OptionKind::Int),
    ("--merge_dilate", OptionKind::Int),
    ("--merge_fragments", OptionKind::Flag),
    ("--merge_method", OptionKind::Text),
    ("--merge_thresholds", OptionKind::Text),
    ("--merge_w_offset", OptionKind::Float),
    ("--merge_w_valley", OptionKind::Float),
    ("--min_hits", OptionKind::Int),
    ("--min_instance_peaks", OptionKind::Float),
    ("--min_line_scores", OptionKind::Float),
    ("--min_mask_area", OptionKind::Int),
    ("--min_match_points", OptionKind::Int),
    ("--min_match_similarity", OptionKind::Float),
    ("--min_new_track_points", OptionKind::Int),
    ("--model_paths", OptionKind::File),
    ("--mot_param", OptionKind::Text),
    ("--n_points", OptionKind::Int),
    ("--new_track_threshold", OptionKind::Float),
    ("--no-ensure_grayscale", OptionKind::Flag),
    ("--no-ensure_rgb", OptionKind::Flag),
    ("--no-full_res_masks", OptionKind::Flag),
    ("--no-mask_cleanup", OptionKind::Flag),
    ("--no-merge_fragments", OptionKind::Flag),
    ("--no-restore_source_videos", OptionKind::Flag),
    ("--no_empty_frames", OptionKind::Flag),
    ("--of_img_scale", OptionKind::Float),
    ("--of_max_levels", OptionKind::Int),
    ("--of_window_size", OptionKind::Int),
    ("--oks_stddev", OptionKind::Float),
    ("--only_labeled_frames", OptionKind::Flag),
    ("--only_predicted_frames", OptionKind::Flag),
    ("--only_suggested_frames", OptionKind::Flag),
    ("--output_format", OptionKind::Refused),
    ("--output_path", OptionKind::File),
    ("--overlay_path", OptionKind::Refused),
    ("--paf-workers", OptionKind::Int),
    ("--peak_threshold", OptionKind::Float),
    ("--polygon_epsilon", OptionKind::Float),
    ("--post_connect_single_breaks", OptionKind::Flag),
    ("--queue_maxsize", OptionKind::Int),
    ("--restore_source_videos", OptionKind::Flag),
    ("--robust_best_instance", OptionKind::Float),
    ("--runtime", OptionKind::Text),
    ("--sam3_model_id", OptionKind::Refused),
    ("--sam_anchor_ind", OptionKind::Int),
    ("--sam_checkpoint", OptionKind::File),
    ("--sam_disjointify_masks", OptionKind::Flag),
    ("--sam_model_type", OptionKind::Text),
    ("--sam_prompt_mode", OptionKind::Text),
    ("--save_embeddings", OptionKind::Text),
    ("--scoring_method", OptionKind::Text),
    ("--scoring_reduction", OptionKind::Text),
    ("--stream-to-file", OptionKind::Refused),
    ("--stream_mode", OptionKind::Refused),
    ("--track_buffer", OptionKind::Int),
    ("--track_high_threshold", OptionKind::Float),
    ("--track_low_threshold", OptionKind::Float),
    ("--track_matching_method", OptionKind::Text),
    ("--tracker", OptionKind::Text),
    ("--tracking", OptionKind::Flag),
    ("--tracking_clean_instance_count", OptionKind::Int),
    ("--tracking_clean_iou_threshold", OptionKind::Float),
    ("--tracking_pre_cull_iou_threshold", OptionKind::Float),
    ("--tracking_pre_cull_to_target", OptionKind::Int),
    ("--tracking_target_instance_count", OptionKind::Int),
    ("--tracking_window_size", OptionKind::Int),
    ("--use_flow", OptionKind::Flag),
    ("--use_kalman", OptionKind::Flag),
    ("--verbosity", OptionKind::Text),
    ("--video_dataset", OptionKind::Text),
    (VIDEO_INDEX, OptionKind::Int),
    ("--video_input_format", OptionKind::Text),
    ("--write-interval", OptionKind::Refused),
];

/// The kind of value that the option takes.
pub fn kind(name: &str) -> Option<OptionKind> {
    OPTIONS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
}

/// The option that `written` names, in its usual spelling.
pub(crate) fn find(written: &str) -> Option<(&'static str, OptionKind)> {
    let exactly = |name: &str| OPTIONS.iter().copied().find(|(known, _)| *known == name);
    let long = written.strip_prefix("--").map(|rest| format!("--{}", rest.replace('-', "_")));
    let alias = |name: &str| {
        let (_, long) = ALIASES.iter().find(|(alias, _)| *alias == name)?;
        exactly(long)
    };
    let spelled =
        || OPTIONS.iter().copied().find(|(known, _)| long.as_deref() == Some(&spell(known)));
    exactly(written).or_else(|| alias(written)).or_else(|| alias(long.as_deref()?)).or_else(spelled)
}

/// Writes names such as `--no-ensure_rgb` with underscores only.
fn spell(name: &str) -> String {
    format!("--{}", name.trim_start_matches('-').replace('-', "_"))
}
