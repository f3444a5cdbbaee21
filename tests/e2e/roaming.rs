//! Laptops move and sleep in mid-transfer: the address changes, IPv6 vanishes, the program stands
//! still. Each test prints how soon content flows once the network is back.

use crate::outages::Upload;
use crate::support::*;
use rustix::process::Signal;
use std::thread::sleep;
use std::time::Duration;

/// How long the machine is without a network, or asleep: the fault itself takes this long, and no
/// test waits for anything meanwhile.
const BETWEEN_NETWORKS: Duration = Duration::from_secs(2);
/// Longer than a silent connection lives, as an hour is.
const ASLEEP: Duration = Duration::from_secs(30);
/// What users notice is a few seconds. This is for a busy machine.
const AT_MOST: Duration = Duration::from_secs(15);

/// Checks that content flows again, and prints how soon.
#[track_caller]
fn goes_on(upload: &Upload, what: &str) {
    let took = upload.wait_more(1 << 20);
    println!("{what}: another MiB {:.1} s after the network was back", took.as_secs_f64());
    assert!(took < AT_MOST, "{what}: {took:?}\n{}", upload.client.transcript());
}

fn client_ip(upload: &Upload, arguments: &str) {
    upload.lab.machines.network.ip(Machine::Client, arguments).unwrap();
}

#[test]
fn a_transfer_goes_on_when_the_address_changes() {
    let Some(upload) = Upload::begin(Network::new(), 60) else { return };
    client_ip(&upload, "addr del 10.77.0.3/24 dev eth0");
    sleep(BETWEEN_NETWORKS);
    client_ip(&upload, "addr add 10.77.0.9/24 dev eth0");
    goes_on(&upload, "another address");
    upload.finish();
}

/// Like a laptop that goes from the office's cable to its Wi-Fi.
#[test]
fn a_transfer_goes_on_over_another_interface() {
    let Some(upload) = Upload::begin(Network::new(), 60) else { return };
    let network = &upload.lab.machines.network;
    network.cut(Machine::Client).unwrap();
    client_ip(&upload, "addr del 10.77.0.3/24 dev eth0");
    sleep(BETWEEN_NETWORKS);
    network.second_cable(Machine::Client, 9).unwrap();
    goes_on(&upload, "another interface");
    upload.finish();
}

#[test]
fn a_transfer_goes_on_when_ipv6_vanishes() {
    let network = Network::new().and_then(|network| {
        network.add_ipv6()?;
        Ok(network)
    });
    let Some(upload) = Upload::begin(network, 60) else { return };
    client_ip(&upload, "-6 addr flush dev eth0");
    goes_on(&upload, "IPv6 is gone");
    upload.finish();
}

#[test]
fn a_transfer_goes_on_after_the_laptop_has_slept() {
    let Some(upload) = Upload::begin(Network::new(), 60) else { return };
    upload.client.signal(Signal::STOP);
    sleep(ASLEEP);
    upload.client.signal(Signal::CONT);
    goes_on(&upload, "asleep for 30 s");
    upload.finish_anyhow();
}
