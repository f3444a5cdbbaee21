//! The places of the videos that a package's labels name. The client writes this list, because only it
//! can resolve the names on its machine, and the worker follows it.

use serde::{Deserialize, Serialize};
use sleap_rtc_protocol::path::RelPath;

/// The file of a package that contains this list.
pub const VIDEO_PATHS: &str = "video-paths.json";

/// The place of one video, or of one of its pictures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoPath {
    /// The path on the user's machine, as the labels name it.
    pub name: String,
    /// The place where the trainer finds it.
    #[serde(flatten)]
    pub place: VideoPlace,
}

/// The place from which a trainer reads a video.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VideoPlace {
    /// In the package.
    Package(RelPath),
    /// On one of the worker's mounts, by its absolute path there.
    Worker(String),
}

impl VideoPlace {
    /// The path for the trainer, which works in the package's top folder.
    pub fn path(&self) -> &str {
        match self {
            Self::Package(path) => path.as_str(),
            Self::Worker(path) => path,
        }
    }
}

/// The places of all videos that the client had to resolve.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VideoPaths(pub Vec<VideoPath>);

impl VideoPaths {
    /// The place of the video with this name.
    pub fn find(&self, name: &str) -> Option<&VideoPlace> {
        self.0.iter().find(|video| same_name(&video.name, name)).map(|video| &video.place)
    }

    /// The videos that a trainer does not find by itself: neither under their own name, nor next to
    /// the labels at `labels`. The names have the form that sleap-io gives them.
    pub fn moved(&self, labels: &RelPath) -> Vec<(String, String)> {
        let folder =
            |path: &RelPath| path.as_str().rsplit_once('/').map_or("", |(f, _)| f).to_owned();
        let is_beside = |name: &str, place: &VideoPlace| match place {
            // The name for the labels themselves in the results.
            VideoPlace::Package(path) if path == labels => true,
            VideoPlace::Package(path) => {
                folder(path) == folder(labels) && base_name(name) == path.file_name()
            }
            VideoPlace::Worker(path) => path == name,
        };
        let moved = self.0.iter().filter(|video| !is_beside(&video.name, &video.place));
        moved.map(|video| (forward(&video.name), video.place.path().to_owned())).collect()
    }

    /// The paths on the worker's mounts.
    pub fn on_worker(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|video| match &video.place {
            VideoPlace::Worker(path) => Some(path.as_str()),
            VideoPlace::Package(_) => None,
        })
    }
}

/// Replaces Windows' separators, as sleap-io does.
fn forward(name: &str) -> String {
    name.replace('\\', "/")
}

fn base_name(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or(name)
}

fn same_name(one: &str, other: &str) -> bool {
    let plain = |c: char| if c == '\\' { '/' } else { c };
    one.len() == other.len() && one.chars().map(plain).eq(other.chars().map(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn videos_that_the_trainer_finds_are_not_moved() {
        let in_package = |path: &str| VideoPlace::Package(RelPath::new(path).unwrap());
        let video = |name: &str, place| VideoPath { name: name.to_owned(), place };
        let videos = VideoPaths(vec![
            video("C:\\data\\a.mp4", in_package("a.mp4")),
            video("/data/day2/a.mp4", in_package("videos/1/a.mp4")),
            video("/mnt/b.mp4", VideoPlace::Worker("/mnt/b.mp4".into())),
            video("Z:\\c.mp4", VideoPlace::Worker("/mnt/c.mp4".into())),
            video("/home/ada/my labels.slp", in_package("labels.slp")),
        ]);
        let moved = videos.moved(&RelPath::new("labels.slp").unwrap());
        let expected = [("/data/day2/a.mp4", "videos/1/a.mp4"), ("Z:/c.mp4", "/mnt/c.mp4")];
        assert_eq!(moved, expected.map(|(name, place)| (name.to_owned(), place.to_owned())));
        assert_eq!(videos.find("C:/data/a.mp4"), Some(&in_package("a.mp4")));
        assert_eq!(videos.find("C:/data/b.mp4"), None);
        let json = serde_json::to_string(&videos).unwrap();
        assert!(json.contains(r#"{"name":"/mnt/b.mp4","worker":"/mnt/b.mp4"}"#), "{json}");
        assert_eq!(serde_json::from_str::<VideoPaths>(&json).unwrap(), videos);
    }
}
