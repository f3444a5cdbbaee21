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
        let mut unreliable = Self { path, failed_s: BTreeMap::new() };
        unreliable.load_again();
        unreliable
    }

    /// Reads what other submissions have recorded meanwhile.
    fn load_again(&mut self) {
        if let Ok(Some(failed_s)) = json_file::load(&self.path) {
            self.failed_s = failed_s;
        }
    }

    /// When `worker` last failed, in seconds since 1970, if that was recently.
    fn failed_at_s(&self, worker: &PeerId) -> Option<u64> {
        self.failed_s.get(worker).copied().filter(|at_s| is_recent(*at_s))
    }

    /// Splits `ranking` into those that have not failed lately, and those that have. Among these the one
    /// with the latest failure is last: on a busy machine even good workers fail once.
    pub(crate) fn split<'w, T>(
        &self,
        ranking: impl IntoIterator<Item = T>,
        worker: impl Fn(&T) -> Option<&'w PeerId>,
    ) -> (Vec<T>, Vec<T>) {
        let failed_at_s = |choice: &T| self.failed_at_s(worker(choice)?);
        let (mut failed, fine): (Vec<T>, Vec<T>) =
            ranking.into_iter().partition(|choice| failed_at_s(choice).is_some());
        failed.sort_by_key(failed_at_s);
        (fine, failed)
    }

    /// Records that `worker` did not answer, or disconnected.
    pub(crate) fn failed(&mut self, worker: &PeerId) {
        self.load_again();
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
        self.load_again();
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
        let has_failed = |number| load().failed_at_s(&worker(number)).is_some();
        assert!(has_failed(1) && !has_failed(2));
        load().worked(&worker(1));
        assert!(!has_failed(1));
        let mut unreliable = load();
        for (number, at_s) in [(1, now_s() - REMEMBERED_S), (2, now_s() + 3600), (3, now_s() - 9)] {
            unreliable.failed_s.insert(worker(number), at_s);
        }
        assert_eq!(
            [1, 2, 3].map(|number| unreliable.failed_at_s(&worker(number)).is_some()),
            [false, false, true]
        );
    }

    #[test]
    fn whoever_failed_last_is_last() {
        let folder = tempfile::tempdir().unwrap();
        let mut unreliable = Unreliable::load(folder.path());
        for (number, ago_s) in [(1, 5), (2, 60), (4, 30)] {
            unreliable.failed_s.insert(worker(number), now_s() - ago_s);
        }
        let workers: Vec<PeerId> = (0..5).map(worker).collect();
        let (fine, failed) = unreliable.split(&workers, |worker| Some(*worker));
        assert_eq!(fine, [&worker(0), &worker(3)]);
        assert_eq!(failed, [&worker(2), &worker(4), &worker(1)]);
    }

    #[test]
    fn submissions_at_the_same_time_lose_no_failure_of_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let (mut one, mut other) =
            (Unreliable::load(folder.path()), Unreliable::load(folder.path()));
        one.failed(&worker(1));
        other.failed(&worker(2));
        one.worked(&worker(3));
        other.worked(&worker(1));
        let both = Unreliable::load(folder.path());
        let failed = [1, 2].map(|number| both.failed_at_s(&worker(number)).is_some());
        assert_eq!(failed, [false, true]);
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
