//! Faults while a connection is in use: UDP fails and returns, the relay restarts, the server's
//! certificate is renewed. A transfer continues over the same connection.

use crate::network::made;
use crate::reconnect::Desk;
use crate::support::*;
use crate::ways::Lab;
use rustix::process::{Pid, Signal, kill_process};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// An upload at a bounded rate, and where it arrives.
pub struct Upload {
    pub lab: Lab,
    pub client: Process,
    state: PathBuf,
}

impl Upload {
    /// An upload of this many MiB at 6 MB/s, which has begun.
    pub fn begin(network: std::io::Result<Network>, mib: u64) -> Option<Self> {
        let lab = Lab::in_network(network, "2")?;
        let machines = &lab.machines;
        let (labels, models) =
            (large_labels(&machines.site, mib << 20), labels_and_models(&machines.site).1);
        let desk = Desk::new(&machines.site, &machines.server);
        let client = lab.complete(desk.client()).track(&labels, &models);
        let client = client.arguments(&["-v", "--bwlimit", "6 MB/s"]);
        let client = machines.start(client.session(machines.worker.credentials()));
        let state = machines.worker.state_dir();
        let upload = Self { lab, client, state };
        upload.wait_more(10 << 20);
        Some(upload)
    }

    /// Waits for this many more bytes. Returns how long that took.
    pub fn wait_more(&self, bytes: u64) -> Duration {
        let (start, before) = (Instant::now(), bytes_below(&self.state));
        let grown = || (bytes_below(&self.state) > before + bytes).then_some(());
        wait_for("more of the upload", A_WHILE, grown);
        start.elapsed()
    }

    fn wait_said(&self, words: &str, limit: Duration) {
        wait_for(words, limit, || self.client.stderr().contains(words).then_some(()));
    }

    /// Checks that the job is done, and that it used a single connection.
    pub fn finish(self) -> String {
        let said = self.finish_anyhow();
        assert!(!said.contains("Reconnected"), "{said}");
        said
    }

    /// Checks that the job is done, over however many connections.
    pub fn finish_anyhow(mut self) -> String {
        assert_eq!(self.client.wait(2 * A_WHILE), 0, "{}", self.client.transcript());
        self.client.stderr()
    }
}

fn without_udp() -> Option<Network> {
    let network = made(Network::new())?;
    network.block_udp().unwrap();
    Some(network)
}

#[test]
fn a_transfer_continues_over_the_relay_when_udp_fails() {
    let Some(upload) = Upload::begin(Network::new(), 60) else { return };
    upload.lab.machines.network.block_udp().unwrap();
    let blocked = Instant::now();
    upload.wait_said("is now relayed by 10.77.0.1 (", SOON);
    upload.wait_more(2 << 20);
    let took_s = blocked.elapsed().as_secs_f64();
    println!("UDP blocked in mid-transfer: 2 MB more over the relay {took_s:.1} s later");
    upload.finish();
}

/// The program looks for a direct path once a minute.
#[test]
#[ignore = "takes about two minutes"]
fn a_transfer_takes_the_direct_path_again_when_udp_returns() {
    let Some(upload) = Upload::begin(Network::new(), 900) else { return };
    upload.lab.machines.network.block_udp().unwrap();
    upload.wait_said("is now relayed by 10.77.0.1", SOON);
    upload.lab.machines.network.unblock().unwrap();
    let returned = Instant::now();
    upload.wait_said("is now direct, ", A_WHILE);
    println!("UDP is back: direct again {:.1} s later", returned.elapsed().as_secs_f64());
    upload.finish();
}

#[test]
fn a_relayed_transfer_continues_after_a_restart_of_the_server() {
    let Some(network) = without_udp() else { return };
    let Some(mut upload) = Upload::begin(Ok(network), 60) else { return };
    let Lab { machines, .. } = &mut upload.lab;
    let (network, server) = (&machines.network, &mut machines.server);
    network.on(Machine::Server, || server.restart());
    let took_s = upload.wait_more(2 << 20).as_secs_f64();
    println!(
        "the server restarted in a relayed transfer: 2 MB more {took_s:.1} s after its return"
    );
    upload.finish();
}

#[test]
fn a_renewed_certificate_does_not_disturb_a_relayed_transfer() {
    let Some(network) = without_udp() else { return };
    let Some(upload) = Upload::begin(Ok(network), 40) else { return };
    let Lab { machines, certificate } = &upload.lab;
    certificate.renew();
    kill_process(Pid::from_raw(machines.server.pid() as i32).unwrap(), Signal::HUP).unwrap();
    wait_for("the new certificate", SOON, || {
        machines.server.transcript().contains("certificate reloaded").then_some(())
    });
    let took_s = upload.wait_more(2 << 20).as_secs_f64();
    println!("certificate renewed in a relayed transfer: 2 MB more {took_s:.1} s later");
    upload.finish();
}
