//! What `squeue` says about jobs.

use super::commands::{SlurmError, call};
use std::collections::HashMap;

/// Where a job stands in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlurmState {
    /// It waits for a node.
    Pending {
        /// Why it waits.
        reason: PendingReason,
        /// When it is expected to start, in milliseconds since 1970.
        starts_ms: Option<u64>,
    },
    /// It has a node, on which it starts, runs or ends.
    Active,
    /// It is over, with this state in Slurm's words.
    Over(String),
}

/// Why a job waits, in Slurm's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingReason(pub String);

impl PendingReason {
    /// The reason as a sentence. Slurm has about a hundred words; these are the frequent ones.
    pub fn message(&self) -> String {
        let word = &self.0;
        let meaning = match word.as_str() {
            "None" | "" => return "waits in Slurm's queue".to_owned(),
            "Priority" => "jobs with a higher priority come first",
            "Resources" => "all suitable nodes are busy",
            "BeginTime" => "its earliest start has not come yet",
            "Dependency" => "it waits for another job",
            "ReqNodeNotAvail" => "a node that it needs is not available",
            _ if self.is_final() => {
                "as it is, Slurm never starts it: ask the worker's operator, or cancel the job"
            }
            _ if word.starts_with("QOS") || word.starts_with("Assoc") => {
                "a limit of the account or of its quality of service is reached"
            }
            _ => "Slurm's own word",
        };
        format!("waits in Slurm's queue: {word} ({meaning})")
    }

    /// Whether nothing but a decision of a person lets the job start.
    pub fn is_final(&self) -> bool {
        const FINAL: [&str; 14] = [
            "AccountNotAllowed",
            "AssocMaxWallDurationPerJobLimit",
            "BadConstraints",
            "DependencyNeverSatisfied",
            "InactiveLimit",
            "InvalidAccount",
            "InvalidQOS",
            "JobHeldAdmin",
            "JobHeldUser",
            "PartitionInactive",
            "PartitionNodeLimit",
            "PartitionTimeLimit",
            "QOSMaxWallDurationPerJobLimit",
            "QOSNotAllowed",
        ];
        FINAL.contains(&self.0.as_str())
    }
}

/// Asks about all `names` in one call. A job that Slurm does not know is missing from the answer.
pub async fn job_states(names: &[String]) -> Result<HashMap<String, SlurmState>, SlurmError> {
    let list = format!("--name={}", names.join(","));
    let arguments = ["--noheader", "--states=all", &list, "--format=%T|%r|%S|%j"];
    let printed = call("squeue", &arguments.map(str::to_owned), None, &[]).await?.stdout;
    Ok(printed.lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<(String, SlurmState)> {
    let mut parts = line.splitn(4, '|').map(str::trim);
    let (state, reason, starts) = (parts.next()?, parts.next()?, parts.next()?);
    let name = parts.next()?.to_owned();
    let state = match state {
        "PENDING" => {
            let starts_ms = starts.parse::<u64>().ok().and_then(|s| s.checked_mul(1000));
            SlurmState::Pending { reason: PendingReason(reason.to_owned()), starts_ms }
        }
        "BOOT_FAIL" | "CANCELLED" | "COMPLETED" | "DEADLINE" | "FAILED" | "NODE_FAIL"
        | "OUT_OF_MEMORY" | "PREEMPTED" | "REVOKED" | "TIMEOUT" => {
            SlurmState::Over(state.to_owned())
        }
        // RUNNING, CONFIGURING, COMPLETING, SUSPENDED, STOPPED, REQUEUED, …
        _ => SlurmState::Active,
    };
    Some((name, state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_squeue_are_read() {
        let pending = |word: &str, starts_ms| {
            let reason = PendingReason(word.to_owned());
            SlurmState::Pending { reason, starts_ms }
        };
        for (line, expected) in [
            ("PENDING|Resources|1796067688|a", pending("Resources", Some(1_796_067_688_000))),
            ("PENDING|PartitionTimeLimit|N/A|a", pending("PartitionTimeLimit", None)),
            ("RUNNING|None|1796067088|a", SlurmState::Active),
            ("COMPLETING|None|1796067088|a", SlurmState::Active),
            ("NODE_FAIL|NodeDown|1796067088|a", SlurmState::Over("NODE_FAIL".into())),
        ] {
            assert_eq!(parse(line), Some(("a".to_owned(), expected)), "{line}");
        }
        assert_eq!(parse("slurm_load_jobs error"), None);
    }

    #[test]
    fn a_reason_is_shown_in_slurms_word_and_explained() {
        let message = |word: &str| PendingReason(word.to_owned()).message();
        assert!(message("Resources").contains("Resources (all suitable nodes are busy)"));
        assert!(message("PartitionTimeLimit").contains("never starts it"));
        assert!(message("QOSMaxJobsPerUserLimit").contains("limit of the account"));
        assert_eq!(message("None"), "waits in Slurm's queue");
    }
}
