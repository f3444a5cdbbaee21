//! The members of a room, and the removal of one, as people read them.

use super::Members;
use crate::dates::{ago, day};
use serde::{Deserialize, Serialize};
use sleap_rtc_base::clock::now_s;
use sleap_rtc_protocol::text::Printable;
use sleap_rtc_trust::certificate::MemberRole;
use sleap_rtc_trust::device::DeviceId;
use sleap_rtc_trust::removal::JobsLeft;

const NAME_CHARS: usize = 64;

/// Who is in a room, and who was removed from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembersReport {
    now_s: u64,
    members: Vec<MemberRow>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct MemberRow {
    /// Empty for a device that came with the room's token.
    name: String,
    key: String,
    role: MemberRole,
    since_s: u64,
    seen_s: Option<u64>,
    until_s: Option<u64>,
    removed_s: Option<u64>,
}

impl Members {
    /// The members, by role and name; then those that were removed.
    pub(crate) fn report(&self) -> MembersReport {
        let list = self.list.borrow();
        let row = |member: &super::Member| {
            let removal = list.removals().of_device(&member.device);
            let removal = removal.filter(|_| list.is_removed(&member.device));
            MemberRow {
                name: member.name().to_owned(),
                key: member.device.short(),
                role: member.role(),
                since_s: member.since_s,
                seen_s: member.seen_s,
                until_s: member.until_s(),
                removed_s: removal.map(|removal| removal.at_s),
            }
        };
        let mut members: Vec<MemberRow> = list.members().map(row).collect();
        members.sort_by_key(|row| {
            let is_client = row.role == MemberRole::Client;
            (row.removed_s.is_some(), is_client, row.name.clone(), row.key.clone())
        });
        MembersReport { now_s: now_s(), members }
    }
}

impl MembersReport {
    /// A table for people.
    pub fn table(&self) -> String {
        const HEAD: [&str; 6] = ["NAME", "KEY", "ROLE", "SINCE", "LAST SEEN", "UNTIL"];
        let mut rows = vec![HEAD.map(str::to_owned)];
        rows.extend(self.members.iter().map(|member| member.cells(self.now_s)));
        let widths: [usize; 6] = std::array::from_fn(|column| {
            rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        });
        let line = |row: &[String; 6]| {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        rows.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

impl MemberRow {
    fn cells(&self, now_s: u64) -> [String; 6] {
        let name = match self.name.is_empty() {
            true => "(by the token)".to_owned(),
            false => Printable::line(&self.name, NAME_CHARS).into(),
        };
        let until = match (self.removed_s, self.until_s) {
            (Some(at_s), _) => format!("removed {}", day(at_s)),
            (None, Some(until_s)) if until_s < now_s => format!("expired {}", day(until_s)),
            (None, Some(until_s)) => day(until_s),
            (None, None) => "-".to_owned(),
        };
        let seen = self.seen_s.map_or_else(|| "never".to_owned(), |at_s| ago(now_s, at_s));
        let key = Printable::line(&self.key, NAME_CHARS).into();
        [name, key, self.role.to_string(), day(self.since_s), seen, until]
    }
}

/// Another worker of the room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OtherWorker {
    pub(crate) device: DeviceId,
    pub(crate) name: String,
    pub(crate) seen_s: Option<u64>,
}

/// What came of a removal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovalReport {
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) jobs: JobsLeft,
    /// Its jobs on this worker that run or wait.
    pub(crate) unfinished: usize,
    /// The other workers that have confirmed.
    pub(crate) refused_by: Vec<OtherWorker>,
    /// Those that have not.
    pub(crate) unheard: Vec<OtherWorker>,
    /// Whether clients without keys are served here.
    pub(crate) python: bool,
}

impl RemovalReport {
    /// Sentences for people.
    pub fn text(&self) -> String {
        let name = match self.name.is_empty() {
            true => format!("the device with the key {}…", Printable::line(&self.key, NAME_CHARS)),
            false => format!("{} (key {}…)", Printable::line(&self.name, NAME_CHARS), self.key),
        };
        let mut lines =
            vec![format!("Removed {name} from the room. This worker refuses it from now on.")];
        if !self.refused_by.is_empty() {
            lines.push(format!(
                "So do the others that have confirmed it: {}",
                names(&self.refused_by)
            ));
        }
        if !self.unheard.is_empty() {
            lines.push(format!(
                "Not confirmed by: {}. These workers are offline, or the server withholds the message. They learn of it from \
                 the next worker or client that connects to them; to be sure, run the same command there.",
                names(&self.unheard)
            ));
        }
        match (self.unfinished, self.jobs) {
            (0, _) => {}
            (jobs, JobsLeft::Continue) => lines.push(format!(
                "Its jobs that run or wait here ({jobs}) continue, and nobody can fetch their results: \
                 `sleap-rtc jobs --local` lists them, and `sleap-rtc cancel JOB --local` ends one."
            )),
            (jobs, JobsLeft::Cancel) => {
                lines.push(format!("Its jobs that run or wait here ({jobs}) are cancelled."));
            }
        }
        lines.push(
            "The room's token has changed. Devices that have paired need nothing; all others need the new token, which the \
             workers have just printed."
                .to_owned(),
        );
        if self.python {
            lines.push(
                "Clients without keys are still accepted (`python_clients = true`), so a removed member can come back as one: it \
                 knows the first part of the token."
                    .to_owned(),
            );
        }
        lines.join("\n")
    }
}

fn names(workers: &[OtherWorker]) -> String {
    let names = workers.iter().map(|worker| Printable::line(&worker.name, NAME_CHARS).to_string());
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use sleap_rtc_trust::device::DeviceKey;

    fn row(
        name: &str,
        role: MemberRole,
        until_s: Option<u64>,
        removed_s: Option<u64>,
    ) -> MemberRow {
        let (key, since_s) = ("1234567890".to_owned(), 1_796_000_000);
        MemberRow {
            name: name.into(),
            key,
            role,
            since_s,
            seen_s: Some(since_s),
            until_s,
            removed_s,
        }
    }

    #[test]
    fn people_read_a_table() {
        let now_s = 1_796_083_199;
        let members = vec![
            row("gpu2", MemberRole::Worker, None, None),
            row("", MemberRole::Client, None, None),
            row("ada@laptop", MemberRole::Client, Some(now_s + 86_400 * 90), None),
            row("bob\u{1b}[2J@x", MemberRole::Client, Some(now_s - 1), None),
            row("eve@x", MemberRole::Client, None, Some(now_s)),
        ];
        insta::assert_snapshot!(MembersReport { now_s, members }.table());
    }

    #[test]
    fn people_read_what_came_of_a_removal() {
        let other = |name: &str| OtherWorker {
            device: DeviceKey::from_bytes([1; 32]).id(),
            name: name.into(),
            seen_s: None,
        };
        let report = RemovalReport {
            name: "bob@x".into(),
            key: "1234567890".into(),
            jobs: JobsLeft::Continue,
            unfinished: 1,
            refused_by: vec![other("gpu2"), other("gpu3")],
            unheard: vec![other("gpu4")],
            python: true,
        };
        let unnamed = RemovalReport {
            name: String::new(),
            jobs: JobsLeft::Cancel,
            refused_by: vec![],
            unheard: vec![],
            python: false,
            ..report.clone()
        };
        insta::assert_snapshot!([report.text(), unnamed.text()].join("\n\n"));
    }
}
