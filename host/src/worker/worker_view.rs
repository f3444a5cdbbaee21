//! The facts about this worker: as the room sees them, and as its own policies see them when they decide
//! about a job.

use sleap_rtc_protocol::capabilities::{Gpu, WorkerFacts};
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::worker::{Slot, WorkerStatus};

/// A slot, as admission sees it.
pub(crate) struct SlotView {
    /// Its state.
    pub(crate) slot: Slot,
    /// Its GPUs by their positions in the pool; `None` for a slot without GPUs of its own.
    pub(crate) gpus: Option<Vec<usize>>,
    /// Whether it can run a job.
    pub(crate) is_usable: bool,
}

/// The current facts about this worker. One task changes them, many read them.
pub(crate) struct WorkerView {
    /// As the room sees them.
    pub(crate) worker: WorkerFacts,
    /// All slots.
    pub(crate) slots: Vec<SlotView>,
    /// The GPUs of the pool; `None` for one that is lost.
    pub(crate) gpus: Vec<Option<Gpu>>,
}

impl WorkerView {
    /// The facts by which a policy judges a job of `client`: a slot that is reserved for this client counts
    /// as free, and the GPUs are those that the job could get.
    pub(crate) fn for_job_of(&self, client: &PeerId) -> WorkerFacts {
        let mut facts = self.worker.clone();
        let open: Vec<&SlotView> = match self.own_slot(client) {
            Some(own) => {
                facts.slots_free += 1;
                if matches!(facts.status, WorkerStatus::Reserved | WorkerStatus::Busy) {
                    facts.status = WorkerStatus::Available;
                }
                vec![own]
            }
            None => {
                let is_open = |view: &&SlotView| view.slot == Slot::Free && view.is_usable;
                self.slots.iter().filter(is_open).collect()
            }
        };
        // Without a free slot the job is refused anyway, so the GPUs stay those that the user knows.
        if !open.is_empty() {
            let could_get = |position: usize| {
                open.iter()
                    .any(|view| view.gpus.as_ref().is_none_or(|gpus| gpus.contains(&position)))
            };
            let gpus = self.gpus.iter().enumerate().filter(|(position, _)| could_get(*position));
            facts.accelerators.gpus = gpus.filter_map(|(_, gpu)| gpu.clone()).collect();
        }
        facts
    }

    /// Whether a slot that a job of `client` could get is able to run it, whether or not it is free.
    pub(crate) fn can_run_job_of(&self, client: &PeerId) -> bool {
        match self.own_slot(client) {
            Some(own) => own.is_usable,
            None => self.slots.is_empty() || self.slots.iter().any(|view| view.is_usable),
        }
    }

    fn own_slot(&self, client: &PeerId) -> Option<&SlotView> {
        let is_own =
            |view: &&SlotView| matches!(&view.slot, Slot::Reserved { peer, .. } if peer == client);
        self.slots.iter().find(is_own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sleap_rtc_protocol::ids::JobId;
    use sleap_rtc_protocol::signaling::{Metadata, PeerInfo, Role};
    use std::time::Instant;

    #[test]
    fn a_policy_sees_what_the_job_could_get() {
        let peer = |name: &str| PeerId::new(name).unwrap();
        let properties = serde_json::json!({
            "status": "busy", "slots_free": 0, "max_concurrent_jobs": 3, "gpus": [
                {"model": "A", "memory_mib": 1}, {"model": "B", "memory_mib": 2},
                {"model": "C", "memory_mib": 3},
            ],
        });
        let properties = properties.as_object().cloned().unwrap();
        let worker = WorkerFacts::from_peer(&PeerInfo {
            peer_id: peer("w"),
            role: Role::Worker,
            metadata: Metadata { tags: vec![], properties },
            connected_at: serde_json::Value::Null,
        });
        let reserved = Slot::Reserved { peer: peer("ada"), until: Instant::now() };
        let running = Slot::Running { job: JobId::new("j").unwrap() };
        let slots = [running.clone(), reserved, running.clone()];
        let view =
            |(position, slot)| SlotView { slot, gpus: Some(vec![position]), is_usable: true };
        let slots = slots.into_iter().enumerate().map(view).collect();
        let gpus = worker.accelerators.gpus.iter().cloned().map(Some).collect();
        let mut facts = WorkerView { worker, slots, gpus };
        let seen = |facts: &WorkerView, who| {
            let seen = facts.for_job_of(&peer(who));
            let models: String = seen.accelerators.gpus.iter().map(|gpu| &*gpu.model).collect();
            (seen.status, seen.slots_free, models)
        };
        assert_eq!(seen(&facts, "ada"), (WorkerStatus::Available, 1, "B".into()));
        assert_eq!(seen(&facts, "bob"), (WorkerStatus::Busy, 0, "ABC".into()));
        facts.slots[2].slot = Slot::Free;
        assert_eq!(seen(&facts, "bob").2, "C");
        facts.slots[2].gpus = None;
        assert_eq!(seen(&facts, "bob").2, "ABC");
        // A lost GPU is not offered, and a slot that has no other GPU cannot run a job.
        facts.gpus[1] = None;
        facts.slots[1].is_usable = false;
        assert_eq!(seen(&facts, "ada").2, "");
        assert!(!facts.can_run_job_of(&peer("ada")) && facts.can_run_job_of(&peer("bob")));
    }
}
