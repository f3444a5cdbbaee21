//! Checks the head of a model: its parts, and the nodes and tracks of the labels that it names.

use crate::config::Settings;
use crate::labels::Labels;

const HEADS: &str = "model_config.head_configs";
/// The parts of each head. sleap-nn ends if one is missing.
const PARTS: [(&str, &[&str]); 6] = [
    ("single_instance", &["confmaps"]),
    ("centroid", &["confmaps"]),
    ("centered_instance", &["confmaps"]),
    ("bottomup", &["confmaps", "pafs"]),
    ("multi_class_bottomup", &["confmaps", "class_maps"]),
    ("multi_class_topdown", &["confmaps", "class_vectors"]),
];
/// The beginning of heads that tell individuals apart by their tracks.
const BY_TRACK: &str = "multi_class_";
/// Where such heads say that they tell individuals apart by something else.
const BY_IDENTITY: [&str; 2] = ["class_maps.class_output", "class_vectors.class_output"];
/// The keys, in parts of a head, that name nodes of the skeleton.
const NODES: [&str; 2] = ["anchor_part", ALL_NODES];
/// The one whose order is that of a model's channels, of which sleap-nn makes one for each node.
const ALL_NODES: &str = "part_names";

/// Refuses a head without one of its parts.
pub(crate) fn check_parts(settings: &Settings<'_>) -> Result<(), String> {
    for (head, parts) in set_heads(settings) {
        let set = settings.keys_set(&format!("{HEADS}.{head}"));
        if let Some(lacking) = parts.iter().find(|part| !set.iter().any(|own| own == *part)) {
            return Err(format!(
                "{HEADS}.{head} does not set {lacking}, and sleap-nn needs {}",
                parts.join(" and ")
            ));
        }
    }
    Ok(())
}

/// Refuses nodes that the labels' skeleton lacks, and a model of tracks for labels without any.
pub(crate) fn check_labels(settings: &Settings<'_>, labels: &Labels) -> Result<(), String> {
    for (head, parts) in set_heads(settings) {
        let keys =
            parts.iter().flat_map(|part| NODES.map(|key| format!("{HEADS}.{head}.{part}.{key}")));
        for key in keys {
            let nodes = labels.nodes.iter().flatten();
            let is_node = |name: &String| nodes.clone().any(|node| node == name);
            let written = settings.texts(&key);
            let unknown = written.iter().find(|name| !is_node(name));
            if let (Some(name), Some(nodes)) = (unknown, &labels.nodes) {
                return Err(format!(
                    "{key} names {name}, and the labels' skeleton has {}",
                    nodes.join(", ")
                ));
            }
            let differ = labels.nodes.as_ref().filter(|nodes| **nodes != written);
            if let Some(nodes) = differ.filter(|_| key.ends_with(ALL_NODES) && !written.is_empty())
            {
                return Err(format!(
                    "{key} must name all nodes of the labels' skeleton in their order ({}): write null, which \
                     stands for them",
                    nodes.join(", ")
                ));
            }
        }
        let by = BY_IDENTITY.iter().find_map(|key| settings.text(&format!("{HEADS}.{head}.{key}")));
        let by_track = head.starts_with(BY_TRACK) && by.is_none_or(|by| by == "track");
        if by_track && labels.tracks == Some(0) {
            return Err(format!(
                "a model of the type {head} learns tracks, and the labels have none"
            ));
        }
    }
    Ok(())
}

/// The heads that are set, after the script's changes.
fn set_heads(
    settings: &Settings<'_>,
) -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    let set = settings.keys_set(HEADS);
    PARTS.into_iter().filter(move |(head, _)| set.iter().any(|own| own == head))
}
