//! Workers that did not answer or disconnected when this user last tried them. For a while they are
//! asked after all others. Kept in a file, because each submission is a separate process.

use sleap_rtc_base::clock::now_s;
use sleap_rtc_base::json_file;
use sleap_rtc_protocol::ids::PeerId;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How long a failure counts, in seconds.
const REMEMBERED_S: u64 = 600;
/// The most workers that are remembered, those with the latest failures.
const MAX_WORKERS: usize = 64;

/// The workers that failed recently.
#[derive(Debug)]
pub(crate) struct Unreliable {
    path: PathBuf,
    /// The time of each worker's last failure, in seconds since 1970.
    failed_s: BTreeMap<PeerId, u64>,
}

impl Unreliable {
    /// Reads the file in the client's state folder. An unreadable file counts as empty.
    pub(crate) fn load(state_dir: &Path) -> Self {
        let path = state_dir.join("unreliable-workers.json");
        let failed_s = json_file::load(&path).ok().flatten().unwrap_or_default();
        Self { path, failed_s }
    }

    /// Whether `worker` has failed recently.
    pub(crate) fn contains(&self, worker: &PeerId) -> bool {
        self.failed_s.get(worker).is_some_and(|at_s| is_recent(*at_s))
    }

    /// Records that `worker` did not answer, or disconnected.
    pub(crate) fn failed(&mut self, worker: &PeerId) {
        self.failed_s.insert(worker.clone(), now_s());
        self.failed_s.retain(|_, at_s| is_recent(*at_s));
        while self.failed_s.len() > MAX_WORKERS {
            let oldest = self.failed_s.iter().min_by_key(|(_, at_s)| **at_s);
            let Some(oldest) = oldest.map(|(worker, _)| worker.clone()) else { break };
            self.failed_s.remove(&oldest);
        }
        self.save();
    }

    /// Forgets the failures of `worker`, which has taken a job.
    pub(crate) fn worked(&mut self, worker: &PeerId) {
        if self.failed_s.remove(worker).is_some() {
            self.save();
        }
    }

    /// The file only affects the order of the next questions.
    fn save(&self) {
        if let Err(error) = json_file::save(&self.path, &self.failed_s) {
            tracing::debug!(file = %self.path.display(), %error, "cannot record a failure");
        }
    }
}

/// Whether a failure at `at_s` still counts. One in the future does not, because the clock was
/// wrong then.
fn is_recent(at_s: u64) -> bool {
    let now_s = now_s();
    at_s <= now_s && now_s - at_s < REMEMBERED_S
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(number: usize) -> PeerId {
        PeerId::new(format!("w{number:03}")).unwrap()
    }

    #[test]
    fn failures_are_remembered_for_a_while_and_forgotten_when_the_worker_works() {
        let folder = tempfile::tempdir().unwrap();
        let load = || Unreliable::load(folder.path());
        load().failed(&worker(1));
        assert!(load().contains(&worker(1)) && !load().contains(&worker(2)));
        load().worked(&worker(1));
        assert!(!load().contains(&worker(1)));
        let mut unreliable = load();
        for (number, at_s) in [(1, now_s() - REMEMBERED_S), (2, now_s() + 3600), (3, now_s() - 9)] {
            unreliable.failed_s.insert(worker(number), at_s);
        }
        assert_eq!(
            [1, 2, 3].map(|number| unreliable.contains(&worker(number))),
            [false, false, true]
        );
    }

    #[test]
    fn the_file_is_bounded_and_a_damaged_one_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let mut unreliable = Unreliable::load(folder.path());
        (0..200).for_each(|number| unreliable.failed(&worker(number)));
        assert_eq!(Unreliable::load(folder.path()).failed_s.len(), MAX_WORKERS);
        std::fs::write(&unreliable.path, "{\"w1\": -1").unwrap();
        assert!(Unreliable::load(folder.path()).failed_s.is_empty());
    }
}
