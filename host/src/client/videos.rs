//! Finds the videos that labels name and a package lacks: on a worker's mount, or on this machine,
//! from where they are sent along.

use super::display::say;
use super::error::PackageFault;
use crate::config::PathMapping;
use sleap_rtc_base::mounts::is_inside;
use sleap_rtc_package::check::MissingVideo;
use sleap_rtc_package::hollow;
use sleap_rtc_package::{Listing, Member, VIDEO_PATHS, VideoPath, VideoPaths, VideoPlace};
use sleap_rtc_protocol::path::RelPath;
use sleap_rtc_protocol::signaling::VideoQuery;
use sleap_rtc_transfer::{Part, PartSource};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// The places of videos that are not sent beside their labels.
const FOLDER: &str = "videos";
/// The most videos that are listed for the user, one per line.
const MAX_SAID: usize = 5;
/// The longest path from a worker that is accepted, in bytes.
const MAX_PATH_BYTES: usize = 4096;

/// Asks workers which of these videos are on their mounts. Returns the path of each. Blocks.
pub type Ask = Box<dyn Fn(&[VideoQuery]) -> Vec<Option<String>> + Send>;

/// Searches for videos, and keeps the results.
#[derive(Default)]
pub struct VideoSearch {
    path_map: Vec<PathMapping>,
    ask: Option<Ask>,
    /// A folder that the worker sees too, so its files are not sent.
    shared_root: Option<PathBuf>,
    found: VideoPaths,
    /// The places in the package of files that are sent, by their paths on this machine.
    sent: HashMap<PathBuf, RelPath>,
    /// The folders of videos that are not beside their labels, in order.
    folders: Vec<PathBuf>,
    said: usize,
}

impl VideoSearch {
    /// A search that follows `path_map`, and first asks workers.
    pub fn new(path_map: &[PathMapping], ask: Ask, shared_root: Option<&Path>) -> Self {
        let shared_root = shared_root.map(Path::to_owned);
        Self { path_map: path_map.to_vec(), ask: Some(ask), shared_root, ..Self::default() }
    }

    /// Whether the worker reads this file by its absolute path: on its mounts, or in the shared
    /// folder.
    pub(crate) fn sees(&self, file: &str) -> bool {
        let path = Path::new(file);
        let is_shared = |root: &PathBuf| {
            path.is_absolute() && path.is_file() && is_inside(root, path).is_ok_and(|is| is)
        };
        self.found.on_worker().any(|seen| seen == file)
            || self.shared_root.as_ref().is_some_and(is_shared)
    }

    /// Records the name that results must use for the file at `place` in the package.
    pub(crate) fn note(&mut self, name: &Path, place: RelPath) {
        let name = std::path::absolute(name).unwrap_or_else(|_| name.to_owned());
        let name = name.to_string_lossy().into_owned();
        self.found.0.push(VideoPath { name, place: VideoPlace::Package(place) });
    }

    /// Finds all `missing` videos of `labels`, and adds them to the package. `false` if one of them
    /// is not found. Relative names start at `home`.
    pub(crate) fn find(
        &mut self,
        listing: &mut Listing,
        labels: &RelPath,
        missing: &[MissingVideo],
        home: &Path,
    ) -> Result<bool, PackageFault> {
        let here: Vec<Option<PathBuf>> =
            missing.iter().map(|video| self.on_this_machine(&video.name, home)).collect();
        let there = self.on_workers(missing, &here);
        let mut parts = Vec::new();
        for ((video, here), there) in missing.iter().zip(here).zip(there) {
            let place = match (there, here) {
                (Some(path), _) => {
                    self.say(&format!("The worker reads {} from {path}", video.name));
                    VideoPlace::Worker(path)
                }
                (None, Some(file)) if self.shared_root.is_none() => {
                    VideoPlace::Package(self.send(listing, &mut parts, labels, video, file)?)
                }
                _ => {
                    self.explain_map(&video.name);
                    return Ok(false);
                }
            };
            self.found.0.push(VideoPath { name: video.name.clone(), place });
        }
        listing.add(Part::members(parts)?)?;
        self.write_into(listing)?;
        Ok(true)
    }

    /// The worker's path of a video that lies here, if a worker sees it.
    pub(crate) fn on_worker(&mut self, file: &Path) -> Option<String> {
        let whole = std::path::absolute(file).ok()?.to_string_lossy().into_owned();
        let video = MissingVideo { name: whole.clone(), is_picture: false };
        let path = self.on_workers(&[video], &[Some(file.to_owned())]).pop()??;
        self.say(&format!("The worker reads {whole} from {path}"));
        let place = VideoPlace::Worker(path.clone());
        self.found.0.push(VideoPath { name: path.clone(), place: place.clone() });
        // The name that results use for it.
        self.found.0.push(VideoPath { name: whole, place });
        Some(path)
    }

    /// Writes the places of the videos into the package.
    pub(crate) fn write_into(&self, listing: &mut Listing) -> Result<(), PackageFault> {
        listing.keep(|path| path.as_str() != VIDEO_PATHS);
        if self.found.0.is_empty() {
            return Ok(());
        }
        let unwritable = PackageFault::unreadable(Path::new(VIDEO_PATHS));
        let json = serde_json::to_vec(&self.found).map_err(|error| unwritable(error.into()))?;
        let path = RelPath::new(VIDEO_PATHS)?;
        Ok(listing.add(vec![Member::bytes(path, json)])?)
    }

    fn mapped(&self, name: &str) -> Vec<String> {
        self.path_map.iter().filter_map(|mapping| mapping.apply(name)).collect()
    }

    /// Says where the path map leads, if it does and nothing is there.
    fn explain_map(&mut self, name: &str) {
        let places = self.mapped(name);
        if !places.is_empty() {
            let places = places.join(" and ");
            self.say(&format!(
                "--path-map leads from {name} to {places}, and neither this machine nor a worker has that file"
            ));
        }
    }

    /// The path of the file on this machine: its name, its mapped name, or beside the labels.
    fn on_this_machine(&self, name: &str, home: &Path) -> Option<PathBuf> {
        let bare = name.rsplit(['/', '\\']).next().unwrap_or(name);
        let mapped = self.mapped(name).into_iter().map(PathBuf::from);
        let places = std::iter::once(PathBuf::from(name)).chain(mapped);
        let beside = [home.join(name.replace('\\', "/")), home.join(bare)];
        places.chain(beside).find(|path| path.is_file())
    }

    /// The paths at which workers see the files, if they do.
    fn on_workers(
        &self,
        missing: &[MissingVideo],
        here: &[Option<PathBuf>],
    ) -> Vec<Option<String>> {
        let Some(ask) = &self.ask else { return vec![None; missing.len()] };
        let query = |(video, here): (&MissingVideo, &Option<PathBuf>)| {
            let whole = here.as_deref().and_then(|path| std::path::absolute(path).ok());
            let whole = whole.map(|path| path.to_string_lossy().into_owned());
            let own = [Some(video.name.clone()), whole];
            let own: Vec<String> = own.into_iter().flatten().collect();
            let mut names: Vec<String> = own.iter().flat_map(|name| self.mapped(name)).collect();
            names.extend(own);
            let mut unique = HashSet::new();
            names.retain(|name| unique.insert(name.clone()));
            let size = here.as_ref().and_then(|path| path.metadata().ok()).map(|there| there.len());
            VideoQuery { names, size }
        };
        let queries: Vec<VideoQuery> = missing.iter().zip(here).map(query).collect();
        let mut answers = ask(&queries);
        answers.resize(missing.len(), None);
        let is_path = |path: &String| path.starts_with('/') && path.len() <= MAX_PATH_BYTES;
        answers.into_iter().map(|answer| answer.filter(is_path)).collect()
    }

    /// Adds the file to the package: beside the labels, where a trainer looks for it by its file
    /// name, or else in a separate folder. Returns its place.
    fn send(
        &mut self,
        listing: &Listing,
        parts: &mut Vec<Part>,
        labels: &RelPath,
        video: &MissingVideo,
        file: PathBuf,
    ) -> Result<RelPath, PackageFault> {
        let file = file.canonicalize().map_err(PackageFault::unreadable(&file))?;
        if let Some(place) = self.sent.get(&file) {
            return Ok(place.clone());
        }
        let unreadable = PackageFault::unreadable(&file);
        if let Some(is) = hollow(std::fs::File::open(&file).map_err(unreadable)?) {
            return Err(PackageFault::NotAVideo { file, is, labels: labels.clone() });
        }
        let bare = video.name.rsplit(['/', '\\']).next().unwrap_or(&video.name);
        let folder = labels.as_str().strip_suffix(labels.file_name()).unwrap_or_default();
        let is_free = |path: &RelPath| {
            let same = |other: &RelPath| other.as_str().eq_ignore_ascii_case(path.as_str());
            !listing.paths().any(same) && !self.sent.values().any(same)
        };
        let beside = RelPath::new(format!("{folder}{bare}")).ok();
        let place = match beside.filter(|path| !video.is_picture && is_free(path)) {
            Some(place) => place,
            None => self.apart(&file, bare)?,
        };
        self.say(&format!("The video {} is sent along with {labels}", file.display()));
        self.sent.insert(file.clone(), place.clone());
        parts.push(Part { path: place.clone(), source: PartSource::File(file) });
        Ok(place)
    }

    /// The place in the package for files of the same folder.
    fn apart(&mut self, file: &Path, bare: &str) -> Result<RelPath, PackageFault> {
        let folder = file.parent().unwrap_or(Path::new(""));
        let known = self.folders.iter().position(|known| known == folder);
        let number = known.unwrap_or_else(|| {
            self.folders.push(folder.to_owned());
            self.folders.len() - 1
        });
        let own = RelPath::new(format!("{FOLDER}/{number}/{bare}"));
        let otherwise = || format!("{FOLDER}/{number}/video-{}", self.sent.len());
        Ok(own.or_else(|_| RelPath::new(otherwise()))?)
    }

    fn say(&mut self, text: &str) {
        self.said += 1;
        match self.said {
            ..=MAX_SAID => say(text),
            count if count == MAX_SAID + 1 => say("Further videos and pictures are not listed"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    fn listing(names: &[&str]) -> Listing {
        let part = |name: &&str| Part {
            path: RelPath::new(*name).unwrap(),
            source: PartSource::Bytes(vec![1]),
        };
        Listing::new(Part::members(names.iter().map(part).collect()).unwrap(), Vec::new()).unwrap()
    }

    fn video(name: &str) -> MissingVideo {
        MissingVideo { name: name.to_owned(), is_picture: false }
    }

    fn paths(listing: &Listing) -> Vec<String> {
        listing.paths().map(ToString::to_string).collect()
    }

    #[test]
    fn videos_of_this_machine_are_sent_once_each_under_names_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().canonicalize().unwrap();
        for name in ["day1/a.mp4", "day2/a.mp4", "b.mp4", "p/1.png"] {
            std::fs::create_dir_all(home.join(name).parent().unwrap()).unwrap();
            std::fs::write(home.join(name), name).unwrap();
        }
        let mut search = VideoSearch::default();
        let mut package = listing(&["labels.slp"]);
        let labels = RelPath::new("labels.slp").unwrap();
        let whole = |name: &str| home.join(name).to_string_lossy().into_owned();
        let picture = MissingVideo { name: whole("p/1.png"), is_picture: true };
        let missing = [
            video(&whole("day1/a.mp4")),
            video(&whole("day2/a.mp4")),
            video("C:\\data\\b.mp4"),
            picture,
            video("day1/a.mp4"),
        ];
        assert!(search.find(&mut package, &labels, &missing, &home).unwrap());
        let expected =
            ["labels.slp", "a.mp4", "videos/0/a.mp4", "b.mp4", "videos/1/1.png", VIDEO_PATHS];
        assert_eq!(paths(&package), expected);
        let nowhere = [video("/nowhere.mp4")];
        assert!(!search.find(&mut package, &labels, &nowhere, &home).unwrap());
    }

    #[test]
    fn a_file_that_is_no_video_is_not_sent_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let labels = RelPath::new("labels.slp").unwrap();
        for (content, is) in
            [("", "empty"), ("version https://git-lfs.github.com/spec/v1\n", "Git LFS")]
        {
            std::fs::write(folder.path().join("a.mp4"), content).unwrap();
            let mut search = VideoSearch::default();
            let missing = [video("C:\\data\\a.mp4")];
            let found =
                search.find(&mut listing(&["labels.slp"]), &labels, &missing, folder.path());
            let fault = found.unwrap_err().to_string();
            assert!(fault.contains(is) && fault.contains("labels.slp names it"), "{fault}");
        }
    }

    #[test]
    fn workers_are_asked_by_every_name_and_what_they_see_is_not_sent() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.mp4"), "12345").unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        let ask: Ask = Box::new(move |videos| {
            seen.lock().unwrap().extend(videos.to_vec());
            vec![Some("/mnt/lab/a.mp4".to_owned()), Some("not a path".to_owned())]
        });
        let map = [PathMapping::new("Z:\\lab", "/mnt/lab").unwrap()];
        let mut search = VideoSearch::new(&map, ask, None);
        let mut package = listing(&["labels.slp"]);
        let labels = RelPath::new("labels.slp").unwrap();
        let missing = [video("Z:\\lab\\a.mp4"), video("Z:\\lab\\b.mp4")];
        assert!(!search.find(&mut package, &labels, &missing, folder.path()).unwrap());
        let first = asked.lock().unwrap()[0].clone();
        assert_eq!(first.size, Some(5));
        let whole = folder.path().join("a.mp4").to_string_lossy().into_owned();
        assert_eq!(first.names, ["/mnt/lab/a.mp4", "Z:\\lab\\a.mp4", &whole]);
        assert!(search.find(&mut package, &labels, &missing[..1], folder.path()).unwrap());
        assert_eq!(paths(&package), ["labels.slp", VIDEO_PATHS]);
        assert!(search.sees("/mnt/lab/a.mp4"));
    }
}
