//! The options of `sleap-nn track` and `predict`, of all supported versions.
//!
//! An option that is not here is refused by name: a prediction without it would be another one.
//! The test `every_option_of_an_installed_sleap_nn_is_known`, run by hand, compares this table with
//! what a real sleap-nn says of itself.

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Flag,
    /// A whole number.
    Int,
    /// A number.
    Float,
    /// Any text.
    Text,
    /// A file or folder of the package.
    File,
    /// It writes to, or reads from, places that a job has not.
    Refused,
}

impl Kind {
    /// Whether `value` may follow the option.
    pub(super) fn takes(self, value: &str) -> bool {
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

/// Names that stand for others: short ones, and those of other programs and versions.
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

/// Each option by the name that every version with it takes.
pub const OPTIONS: &[(&str, Kind)] = &[
    ("--anchor_part", Kind::Text),
    ("--appearance_threshold", Kind::Text),
    ("--appearance_weight", Kind::Float),
    ("--backbone_ckpt_path", Kind::File),
    ("--batch_size", Kind::Int),
    ("--bbox_nms_iou", Kind::Float),
    ("--candidates_method", Kind::Text),
    ("--center_nms_kernel", Kind::Int),
    ("--centroid_only", Kind::Flag),
    ("--centroid_output", Kind::Text),
    ("--centroid_peak_threshold", Kind::Float),
    ("--cpu-workers", Kind::Int),
    ("--crop_size", Kind::Int),
    ("--data_path", Kind::File),
    ("--device", Kind::Text),
    ("--dist_penalty_weight", Kind::Float),
    ("--distance_gate_alpha", Kind::Float),
    ("--embed", Kind::Text),
    ("--ensure_grayscale", Kind::Flag),
    ("--ensure_rgb", Kind::Flag),
    ("--euclidean_scale", Kind::Float),
    ("--exclude_user_labeled", Kind::Flag),
    ("--features", Kind::Text),
    ("--fg_threshold", Kind::Float),
    ("--filter_min_centroid_distance", Kind::Float),
    ("--filter_min_instance_score", Kind::Float),
    ("--filter_min_mean_node_score", Kind::Float),
    ("--filter_min_visible_node_fraction", Kind::Float),
    ("--filter_min_visible_nodes", Kind::Int),
    ("--filter_overlapping", Kind::Flag),
    ("--filter_overlapping_method", Kind::Text),
    ("--filter_overlapping_threshold", Kind::Float),
    (FRAMES, Kind::Text),
    ("--full_res_masks", Kind::Flag),
    ("--gui", Kind::Flag),
    ("--head_ckpt_path", Kind::File),
    ("--headers", Kind::Refused),
    ("--input_scale", Kind::Float),
    ("--integral_patch_size", Kind::Int),
    ("--integral_refinement", Kind::Text),
    ("--kf_init_frame_count", Kind::Int),
    ("--kf_node_indices", Kind::Text),
    ("--kf_reset_gap_size", Kind::Int),
    ("--kf_track_features", Kind::Text),
    ("--link_tracklets", Kind::Flag),
    ("--mask_backend", Kind::Text),
    ("--mask_cleanup", Kind::Flag),
    ("--mask_cleanup_radius", Kind::Int),
    ("--mask_output", Kind::Text),
    ("--max_edge_length_ratio", Kind::Float),
    ("--max_height", Kind::Int),
    ("--max_instances", Kind::Int),
    ("--max_tracks", Kind::Int),
    ("--max_width", Kind::Int),
    ("--merge_dilate", Kind::Int),
    ("--merge_fragments", Kind::Flag),
    ("--merge_method", Kind::Text),
    ("--merge_thresholds", Kind::Text),
    ("--merge_w_offset", Kind::Float),
    ("--merge_w_valley", Kind::Float),
    ("--min_hits", Kind::Int),
    ("--min_instance_peaks", Kind::Float),
    ("--min_line_scores", Kind::Float),
    ("--min_mask_area", Kind::Int),
    ("--min_match_points", Kind::Int),
    ("--min_match_similarity", Kind::Float),
    ("--min_new_track_points", Kind::Int),
    ("--model_paths", Kind::File),
    ("--mot_param", Kind::Text),
    ("--n_points", Kind::Int),
    ("--new_track_threshold", Kind::Float),
    ("--no-ensure_grayscale", Kind::Flag),
    ("--no-ensure_rgb", Kind::Flag),
    ("--no-full_res_masks", Kind::Flag),
    ("--no-mask_cleanup", Kind::Flag),
    ("--no-merge_fragments", Kind::Flag),
    ("--no-restore_source_videos", Kind::Flag),
    ("--no_empty_frames", Kind::Flag),
    ("--of_img_scale", Kind::Float),
    ("--of_max_levels", Kind::Int),
    ("--of_window_size", Kind::Int),
    ("--oks_stddev", Kind::Float),
    ("--only_labeled_frames", Kind::Flag),
    ("--only_predicted_frames", Kind::Flag),
    ("--only_suggested_frames", Kind::Flag),
    ("--output_format", Kind::Refused),
    ("--output_path", Kind::File),
    ("--overlay_path", Kind::Refused),
    ("--paf-workers", Kind::Int),
    ("--peak_threshold", Kind::Float),
    ("--polygon_epsilon", Kind::Float),
    ("--post_connect_single_breaks", Kind::Flag),
    ("--queue_maxsize", Kind::Int),
    ("--restore_source_videos", Kind::Flag),
    ("--robust_best_instance", Kind::Float),
    ("--runtime", Kind::Text),
    ("--sam3_model_id", Kind::Refused),
    ("--sam_anchor_ind", Kind::Int),
    ("--sam_checkpoint", Kind::File),
    ("--sam_disjointify_masks", Kind::Flag),
    ("--sam_model_type", Kind::Text),
    ("--sam_prompt_mode", Kind::Text),
    ("--save_embeddings", Kind::Text),
    ("--scoring_method", Kind::Text),
    ("--scoring_reduction", Kind::Text),
    ("--stream-to-file", Kind::Refused),
    ("--stream_mode", Kind::Refused),
    ("--track_buffer", Kind::Int),
    ("--track_high_threshold", Kind::Float),
    ("--track_low_threshold", Kind::Float),
    ("--track_matching_method", Kind::Text),
    ("--tracker", Kind::Text),
    ("--tracking", Kind::Flag),
    ("--tracking_clean_instance_count", Kind::Int),
    ("--tracking_clean_iou_threshold", Kind::Float),
    ("--tracking_pre_cull_iou_threshold", Kind::Float),
    ("--tracking_pre_cull_to_target", Kind::Int),
    ("--tracking_target_instance_count", Kind::Int),
    ("--tracking_window_size", Kind::Int),
    ("--use_flow", Kind::Flag),
    ("--use_kalman", Kind::Flag),
    ("--video_dataset", Kind::Text),
    (VIDEO_INDEX, Kind::Int),
    ("--video_input_format", Kind::Text),
    ("--write-interval", Kind::Refused),
];

/// What the option of this name takes.
pub fn kind(name: &str) -> Option<Kind> {
    OPTIONS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
}

/// The option that `written` names, in its usual spelling.
pub(super) fn find(written: &str) -> Option<(&'static str, Kind)> {
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

/// `--no-ensure_rgb` and the like as they would be without hyphens.
fn spell(name: &str) -> String {
    format!("--{}", name.trim_start_matches('-').replace('-', "_"))
}
