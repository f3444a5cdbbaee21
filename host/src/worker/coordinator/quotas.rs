//! How much of the worker each peer, each address and each job may use at once, and how often they may ask.

use parking_lot::Mutex;
use sleap_rtc_base::rate_limit::RateLimit;
use sleap_rtc_protocol::ids::{AddressTag, JobId, PeerId};
use sleap_rtc_protocol::standing::Caller;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What has a share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    Peer(PeerId),
    Address(AddressTag),
    Job(JobId),
}

/// The most that may be in use at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QuotaLimits {
    pub(crate) total: usize,
    pub(crate) per_peer: usize,
    pub(crate) per_address: usize,
    pub(crate) per_job: usize,
}

impl QuotaLimits {
    fn of(&self, owner: &Owner) -> usize {
        match owner {
            Owner::Peer(_) => self.per_peer,
            Owner::Address(_) => self.per_address,
            Owner::Job(_) => self.per_job,
        }
    }
}

/// Permits for something of which there is little, with a share for each owner.
#[derive(Debug)]
pub(crate) struct Quotas {
    limits: QuotaLimits,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    total: usize,
    by_owner: HashMap<Owner, usize>,
}

/// One use. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Permit {
    quotas: Arc<Quotas>,
    owners: Vec<Owner>,
}

impl Quotas {
    pub(crate) fn new(limits: QuotaLimits) -> Arc<Self> {
        Arc::new(Self { limits, used: Mutex::default() })
    }

    /// A permit for `caller`, about `job` if it is about one. Returns `None` if it has its share already,
    /// or if nothing is left.
    pub(crate) fn take(self: &Arc<Self>, caller: &Caller, job: Option<&JobId>) -> Option<Permit> {
        let peer = std::iter::once(Owner::Peer(caller.peer.clone()));
        let address = caller.address.clone().map(Owner::Address);
        let owners: Vec<Owner> = peer.chain(address).chain(job.cloned().map(Owner::Job)).collect();
        let mut used = self.used.lock();
        let is_full = |owner: &Owner| {
            used.by_owner.get(owner).is_some_and(|used| *used >= self.limits.of(owner))
        };
        if used.total >= self.limits.total || owners.iter().any(is_full) {
            return None;
        }
        used.total += 1;
        for owner in &owners {
            *used.by_owner.entry(owner.clone()).or_default() += 1;
        }
        Some(Permit { quotas: self.clone(), owners })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut used = self.quotas.used.lock();
        used.total -= 1;
        for owner in &self.owners {
            if let Some(count) = used.by_owner.get_mut(owner) {
                *count -= 1;
                if *count == 0 {
                    used.by_owner.remove(owner);
                }
            }
        }
    }
}

/// A peer may send this many frames at once, and then one in `PER_FRAME`. So may an address, in which a
/// whole lab may be, ten times.
const BURST_FRAMES: u32 = 500;
const PER_FRAME: Duration = Duration::from_millis(100);
const PEERS_PER_ADDRESS: u32 = 10;
/// The most owners whose frames are counted.
const MAX_COUNTED: usize = 4096;

/// How often peers ask.
#[derive(Debug, Default)]
pub(crate) struct Rates(HashMap<Owner, RateLimit>);

impl Rates {
    /// Counts a frame of `caller`. Returns whether it is within the rate.
    pub(crate) fn allow(&mut self, caller: &Caller, now: Instant) -> bool {
        if self.0.len() >= MAX_COUNTED {
            self.0.retain(|_, limit| !limit.is_unused(now));
        }
        if self.0.len() >= MAX_COUNTED {
            // A flood under ever new names must not shut out everybody else.
            self.0.clear();
        }
        let burst = PER_FRAME * BURST_FRAMES;
        let mut within = |owner: Owner, cost: Duration| {
            let limit = self.0.entry(owner).or_insert_with(|| RateLimit::new(now));
            limit.try_charge(cost, burst, now).is_some()
        };
        let peer = within(Owner::Peer(caller.peer.clone()), PER_FRAME);
        let address = caller.address.clone().map(Owner::Address);
        peer && address.is_none_or(|address| within(address, PER_FRAME / PEERS_PER_ADDRESS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(peer: usize, address: Option<&str>) -> Caller {
        Caller {
            peer: PeerId::new(format!("p{peer}")).unwrap(),
            address: address.map(|tag| AddressTag::new(tag).unwrap()),
        }
    }

    #[test]
    fn nobody_has_more_than_a_share_and_what_is_given_back_can_be_had_again() {
        let limits = QuotaLimits { total: 5, per_peer: 2, per_address: 3, per_job: 1 };
        let quotas = Quotas::new(limits);
        let job = JobId::new("job-1").unwrap();
        let mut held: Vec<Permit> =
            (0..9).filter_map(|_| quotas.take(&caller(1, Some("a")), None)).collect();
        assert_eq!(held.len(), 2);
        held.extend((2..9).filter_map(|peer| quotas.take(&caller(peer, Some("a")), None)));
        assert_eq!(held.len(), 3);
        held.extend((2..9).filter_map(|peer| quotas.take(&caller(peer, None), Some(&job))));
        assert_eq!(held.len(), 4);
        held.extend((10..20).filter_map(|peer| quotas.take(&caller(peer, None), None)));
        assert_eq!(held.len(), 5);
        drop(held);
        assert!(quotas.used.lock().by_owner.is_empty());
        assert!(quotas.take(&caller(1, Some("a")), Some(&job)).is_some());
    }

    #[test]
    fn a_flood_is_cut_to_the_rate_of_its_peer_and_its_address() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        let one = caller(1, Some("a"));
        assert_eq!((0..1000).filter(|_| rates.allow(&one, start)).count(), 500);
        assert!(!rates.allow(&one, start + PER_FRAME / 2));
        assert!(rates.allow(&one, start + PER_FRAME));
        let peers = (2..60).flat_map(|peer| std::iter::repeat_n(peer, 100));
        let many = peers.filter(|peer| rates.allow(&caller(*peer, Some("a")), start)).count();
        assert!((4450..4550).contains(&many), "{many}");
        assert!(rates.allow(&caller(1000, Some("b")), start));
        for peer in 0..100_000 {
            assert!(rates.allow(&caller(2000 + peer, None), start));
            assert!(rates.0.len() <= MAX_COUNTED + 1);
        }
        assert!(rates.allow(&caller(7, None), start + Duration::from_secs(60)));
    }
}
