//! What is known of this worker: as the room sees it, and as its own policies do when they decide
//! about one job.

use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::worker::{Slot, WorkerStatus};

/// One slot: what is in it, and its GPUs (`None`: any).
pub(super) type SlotView = (Slot, Option<Vec<u32>>);

/// The present facts. One task changes them, many read.
pub(super) struct Facts {
    /// As the room sees them.
    pub(super) worker: WorkerFacts,
    /// Slot by slot.
    pub(super) slots: Vec<SlotView>,
}

impl Facts {
    /// What a policy should judge when it is asked about a job of `client`: a slot that is reserved
    /// for this very client counts as free, and the GPUs are those that the job could get.
    pub(super) fn for_job_of(&self, client: &PeerId) -> WorkerFacts {
        let mut facts = self.worker.clone();
        let own =
            |(slot, _): &&SlotView| matches!(slot, Slot::Reserved { peer, .. } if peer == client);
        let open: Vec<&SlotView> = match self.slots.iter().find(own) {
            Some(own) => {
                facts.slots_free += 1;
                if matches!(facts.status, WorkerStatus::Reserved | WorkerStatus::Busy) {
                    facts.status = WorkerStatus::Available;
                }
                vec![own]
            }
            None => self.slots.iter().filter(|(slot, _)| *slot == Slot::Free).collect(),
        };
        // Without a free slot the answer is no anyway, and the GPUs are what the user knows.
        if !open.is_empty() {
            let could_get = |index: u32| {
                open.iter().any(|(_, gpus)| gpus.as_ref().is_none_or(|gpus| gpus.contains(&index)))
            };
            let mut index = 0..;
            facts.accelerators.gpus.retain(|_| index.next().is_some_and(could_get));
        }
        facts
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
        let slots = slots.into_iter().zip(0..).map(|(slot, gpu)| (slot, Some(vec![gpu]))).collect();
        let mut facts = Facts { worker, slots };
        let seen = |facts: &Facts, who| {
            let seen = facts.for_job_of(&peer(who));
            let models: String = seen.accelerators.gpus.iter().map(|gpu| &*gpu.model).collect();
            (seen.status, seen.slots_free, models)
        };
        assert_eq!(seen(&facts, "ada"), (WorkerStatus::Available, 1, "B".into()));
        assert_eq!(seen(&facts, "bob"), (WorkerStatus::Busy, 0, "ABC".into()));
        facts.slots[2].0 = Slot::Free;
        assert_eq!(seen(&facts, "bob").2, "C");
        facts.slots[2].1 = None;
        assert_eq!(seen(&facts, "bob").2, "ABC");
    }
}
