//! One worker's list of the room's members: devices that have paired, devices that came with the room's
//! token, and removed devices. Merging two lists in either direction gives the same list.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sleap_rtc_trust::certificate::{Certificate, MemberRole};
use sleap_rtc_trust::device::DeviceId;
use sleap_rtc_trust::removal::{RemovalNote, Removals};
use std::collections::BTreeMap;

/// The most members in a list. Beyond that, those that were last seen longest ago are dropped.
const MAX_MEMBERS: usize = 1_000;

/// A device that has been in the room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) device: DeviceId,
    /// Absent from one that came with the room's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) certificate: Option<Certificate>,
    /// Since when it is known, in seconds since 1970.
    pub(crate) since_s: u64,
    /// When it last proved who it is to a worker, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) seen_s: Option<u64>,
}

impl Member {
    /// What people call it; empty where nobody has said.
    pub(crate) fn name(&self) -> &str {
        self.certificate.as_ref().map_or("", |of| of.subject().name.as_str())
    }

    pub(crate) fn role(&self) -> MemberRole {
        self.certificate.as_ref().map_or(MemberRole::Client, |of| of.subject().role)
    }

    /// Until when it is a member, in seconds since 1970; `None` for ever.
    pub(crate) fn until_s(&self) -> Option<u64> {
        self.certificate.as_ref()?.subject().not_after_s
    }

    pub(crate) fn issued_s(&self) -> Option<u64> {
        self.certificate.as_ref().map(|of| of.subject().issued_s)
    }

    /// Merges the newer parts of `other`. Returns whether anything but the time of the last sighting has
    /// changed.
    fn merge(&mut self, other: Self) -> bool {
        let before = (self.certificate.clone(), self.since_s);
        // If two were issued in the same second, all workers choose the same one.
        let order = |of: &Option<Certificate>| {
            of.as_ref().map(|of| (of.subject().issued_s, of.to_string()))
        };
        if order(&other.certificate) > order(&self.certificate) {
            self.certificate = other.certificate;
        }
        self.since_s = self.since_s.min(other.since_s);
        self.seen_s = self.seen_s.max(other.seen_s);
        before != (self.certificate.clone(), self.since_s)
    }
}

/// The members and the removed devices of one room, as one worker knows them. As JSON: `{"members": […],
/// "removals": […]}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MemberList {
    members: BTreeMap<DeviceId, Member>,
    removals: Removals,
}

/// A list on disk, or a part of one on its way to another worker.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct MemberListEntries {
    #[serde(default)]
    pub(crate) members: Vec<Member>,
    #[serde(default)]
    pub(crate) removals: Vec<RemovalNote>,
}

impl MemberList {
    /// Merges the newer parts of `entries`, whose removals `authority` must have signed. Returns whether
    /// anything but the times of sightings has changed.
    pub(crate) fn merge(&mut self, authority: &DeviceId, entries: MemberListEntries) -> bool {
        let mut changed = !self.removals.take(authority, &entries.removals).is_empty();
        for member in entries.members {
            changed |= self.merge_member(member);
        }
        changed
    }

    /// Merges one member. Returns whether anything but the time of its last sighting has changed.
    pub(crate) fn merge_member(&mut self, member: Member) -> bool {
        let changed = match self.members.get_mut(&member.device) {
            Some(known) => known.merge(member),
            None => {
                self.members.insert(member.device, member);
                true
            }
        };
        while self.members.len() > MAX_MEMBERS {
            let oldest = self.members.values().min_by_key(|member| member.seen_s);
            let oldest = oldest.map(|member| member.device);
            oldest.and_then(|device| self.members.remove(&device));
        }
        changed
    }

    /// All members and removals.
    pub(crate) fn entries(&self) -> MemberListEntries {
        let members = self.members.values().cloned().collect();
        MemberListEntries { members, removals: self.removals.notes() }
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    pub(crate) fn removals(&self) -> &Removals {
        &self.removals
    }

    /// Whether `device` was removed, and not admitted again since.
    pub(crate) fn is_removed(&self, device: &DeviceId) -> bool {
        let issued_s = self.members.get(device).and_then(Member::issued_s);
        self.removals.cover(device, issued_s)
    }

    /// A digest that is equal for equal lists, no matter when their members were last seen.
    pub(crate) fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        for member in self.members.values() {
            let certificate = member.certificate.as_ref().map(ToString::to_string);
            hasher.update(format!("{} {certificate:?} {}\n", member.device, member.since_s));
        }
        for note in self.removals.notes() {
            hasher.update(format!("{note}\n"));
        }
        hex::encode(hasher.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sleap_rtc_trust::certificate::Subject;
    use sleap_rtc_trust::device::DeviceKey;
    use sleap_rtc_trust::removal::{JobsLeft, Removal};

    fn key(seed: u8) -> DeviceKey {
        DeviceKey::from_bytes([seed; 32])
    }

    fn member(device: u8, issued_s: Option<u64>, since_s: u64) -> Member {
        let device = key(device).id();
        let issue = |issued_s| {
            let subject = Subject::new(device, MemberRole::Client, "ada@laptop", issued_s);
            Certificate::issue(&key(0), subject)
        };
        let certificate = issued_s.map(issue);
        Member { device, certificate, since_s, seen_s: Some(since_s) }
    }

    fn note(device: u8, at_s: u64) -> RemovalNote {
        let (device, jobs) = (key(device).id(), JobsLeft::Continue);
        RemovalNote::issue(&key(0), Removal { at_s, token_number: 1, jobs, device })
    }

    #[test]
    fn a_member_that_is_removed_and_pairs_again_is_one_again() {
        let (mut list, authority) = (MemberList::default(), key(0).id());
        list.merge_member(member(1, Some(10), 10));
        assert!(!list.is_removed(&key(1).id()));
        list.merge(&authority, MemberListEntries { members: vec![], removals: vec![note(1, 10)] });
        assert!(list.is_removed(&key(1).id()) && !list.is_removed(&key(2).id()));
        list.merge_member(member(1, Some(11), 11));
        assert!(!list.is_removed(&key(1).id()));
        assert_eq!(list.members().count(), 1);
    }

    #[test]
    fn a_full_list_keeps_those_that_were_seen_last() {
        let mut list = MemberList::default();
        for at in 0..=MAX_MEMBERS as u64 {
            let mut seed = [1; 32];
            seed[..8].copy_from_slice(&at.to_be_bytes());
            let device = DeviceKey::from_bytes(seed).id();
            let seen_s = Some(10_000 - at);
            list.merge_member(Member { device, certificate: None, since_s: 1, seen_s });
        }
        assert_eq!(list.members().count(), MAX_MEMBERS);
        assert!(list.members().all(|member| member.seen_s > Some(10_000 - MAX_MEMBERS as u64)));
    }

    fn entry() -> impl Strategy<Value = MemberListEntries> {
        let member = (1..4u8, prop::option::of(0..4u64), 0..4u64)
            .prop_map(|(device, issued_s, since_s)| member(device, issued_s, since_s));
        let removal = (1..4u8, 0..4u64).prop_map(|(device, at_s)| note(device, at_s));
        let members = prop::collection::vec(member, 0..3);
        (members, prop::collection::vec(removal, 0..2))
            .prop_map(|(members, removals)| MemberListEntries { members, removals })
    }

    proptest! {
        #[test]
        fn lists_that_take_each_others_entries_are_equal(
            here in prop::collection::vec(entry(), 0..4), there in prop::collection::vec(entry(), 0..4),
        ) {
            let authority = key(0).id();
            let list = |entries: &[MemberListEntries]| {
                let mut list = MemberList::default();
                for entries in entries {
                    list.merge(&authority, entries.clone());
                }
                list
            };
            let (mut a, mut b) = (list(&here), list(&there));
            let is_new = a.digest() != b.digest();
            prop_assert!(a.merge(&authority, b.entries()) || b.merge(&authority, a.entries()) || !is_new);
            b.merge(&authority, a.entries());
            prop_assert_eq!(a.digest(), b.digest());
            prop_assert_eq!(&a, &b);
            prop_assert!(!a.merge(&authority, b.entries()), "nothing is new");
        }
    }
}
