//! Where the videos are that a package's labels name: the client writes it down, since only it knows
//! what the names mean on its machine, and the worker follows it.

use serde::{Deserialize, Serialize};
use sleap_rtc_protocol::path::RelPath;

/// The file of a package that says so.
pub const VIDEO_PATHS: &str = "video-paths.json";

/// Where one video is, or one picture of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoPath {
    /// Its name on the user's machine, as the labels have it.
    pub name: String,
    /// Where the trainer finds it.
    #[serde(flatten)]
    pub place: VideoPlace,
}

/// Where a trainer finds a video.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VideoPlace {
    /// In the package.
    Package(RelPath),
    /// On one of the worker's mounts, by its whole path there.
    Worker(String),
}

impl VideoPlace {
    /// The path for the trainer, which works at the package's top.
    pub fn path(&self) -> &str {
        match self {
            Self::Package(path) => path.as_str(),
            Self::Worker(path) => path,
        }
    }
}

/// All that a package says of its videos.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VideoPaths(pub Vec<VideoPath>);

impl VideoPaths {
    /// Where the video of this name is.
    pub fn find(&self, name: &str) -> Option<&VideoPlace> {
        self.0.iter().find(|video| same_name(&video.name, name)).map(|video| &video.place)
    }

    /// Those that a trainer does not find by itself: other than under its own name, or beside the
    /// labels at `labels`. Names as sleap-io has them once it has read them.
    pub fn moved(&self, labels: &RelPath) -> Vec<(String, String)> {
        let folder =
            |path: &RelPath| path.as_str().rsplit_once('/').map_or("", |(f, _)| f).to_owned();
        let is_beside = |name: &str, place: &VideoPlace| match place {
            // What results are to call the labels themselves.
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

/// Windows' separators as sleap-io reads them.
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
    fn what_a_trainer_finds_by_itself_is_not_moved() {
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
