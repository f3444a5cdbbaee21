//! Reads a package's list of videos, and checks that the videos exist.

use super::CheckError;
use crate::files::{Found, PackageFiles, bytes};
use crate::videos::{VIDEO_PATHS, VideoPaths, VideoPlace};
use sleap_rtc_protocol::path::RelPath;

/// The longest list to read, in bytes. The pictures of a long video fit.
const MAX_BYTES: u64 = 16 << 20;

/// Reads the package's list of videos, if it has one, and checks that the videos exist.
pub(crate) fn read(package: &dyn PackageFiles) -> Result<VideoPaths, CheckError> {
    let videos = listed(package)?;
    for video in &videos.0 {
        match &video.place {
            VideoPlace::Package(place) if package.look(place) != Found::File => {
                let (name, by) = (place.to_string(), VIDEO_PATHS.to_owned());
                return Err(CheckError::Missing { name, by });
            }
            VideoPlace::Worker(place) if !package.sees(place) => {
                let (video, place) = (video.name.clone(), place.clone());
                return Err(CheckError::NotMounted { video, place });
            }
            VideoPlace::Package(_) | VideoPlace::Worker(_) => {}
        }
    }
    Ok(videos)
}

/// Reads the list without checks.
pub(crate) fn listed(package: &dyn PackageFiles) -> Result<VideoPaths, CheckError> {
    let list = RelPath::new(VIDEO_PATHS).ok().filter(|path| package.look(path) == Found::File);
    let Some(config) = list else { return Ok(VideoPaths::default()) };
    let text = bytes(package, &config, MAX_BYTES);
    let read = match text.as_deref().map(serde_json::from_slice) {
        Some(Ok(videos)) => return Ok(videos),
        Some(Err(error)) => error.to_string(),
        None => format!("it is longer than {MAX_BYTES} bytes"),
    };
    Err(CheckError::Config { config, why: read })
}
