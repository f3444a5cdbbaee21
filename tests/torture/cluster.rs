//! The Slurm that has the jobs of a round.

use crate::plan::Blow;
use sleap_rtc_protocol::ids::JobId;
use std::path::PathBuf;
use support::{Site, TestSlurm};

const NODES: usize = 2;

/// A Slurm of two nodes. Its daemons are in a folder of their own, apart from what a round must leave clean.
pub struct Cluster {
    slurm: TestSlurm,
    _site: Site,
}

impl Cluster {
    pub fn start() -> Self {
        let site = Site::new();
        let slurm = TestSlurm::start(&site, NODES).expect("Slurm is installed");
        Self { slurm, _site: site }
    }

    /// The configuration, for `SLURM_CONF`.
    pub fn conf(&self) -> PathBuf {
        self.slurm.conf()
    }

    /// Lets jobs wait until [`Self::free`].
    pub fn occupy(&self) {
        self.slurm.occupy();
    }

    pub fn free(&self) {
        self.slurm.free();
    }

    /// Strikes, and starts again what was killed.
    pub fn strike(&self, blow: Blow, job: &JobId) {
        match blow {
            Blow::Slurmd => {
                let node = self.node_of(job);
                self.slurm.kill_node_daemon(node);
                self.slurm.start_node(node);
            }
            Blow::Node => {
                let node = self.node_of(job);
                self.slurm.kill_node(node);
                self.slurm.start_node(node);
            }
            Blow::Slurmctld => {
                self.slurm.kill_controller();
                self.slurm.start_controller();
            }
            Blow::Scancel => _ = self.slurm.ask("scancel", &["--name", &name(job)]),
        }
    }

    /// Whether Slurm has the job.
    pub fn has(&self, job: &JobId) -> bool {
        !self.slurm.ask("squeue", &["--noheader", "--name", &name(job)]).trim().is_empty()
    }

    /// The node that has the job, or the first one.
    fn node_of(&self, job: &JobId) -> usize {
        let node = self.slurm.ask("squeue", &["--noheader", "--format=%N", "--name", &name(job)]);
        node.trim().trim_start_matches("node").parse().unwrap_or(1)
    }

    /// The states of all jobs that are not over.
    pub fn queue(&self) -> String {
        self.slurm.queue()
    }
}

/// The job's name in Slurm.
fn name(job: &JobId) -> String {
    format!("sleap-rtc-{job}")
}
