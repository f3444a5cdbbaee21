//! A machine without a network: the program neither waits for it, nor complains, nor sends
//! anything.

use crate::support::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A job takes as long without a network as with one. A dead address would cost more.
const AT_ONCE: Duration = Duration::from_secs(20);

/// Starts a program under `strace`, which records what it sends and where it connects.
fn traced(file: &Path) -> Vec<String> {
    let file = file.display().to_string();
    let calls = "trace=connect,sendto,sendmsg,sendmmsg";
    ["strace", "-D", "-f", "-qq", "-s", "0", "-e", calls, "-o", &file].map(str::to_owned).to_vec()
}

/// The calls that address another machine. Connecting a UDP socket sends nothing; it only shows
/// which address the system would use.
fn sent_off(trace: &Path) -> Vec<String> {
    let text = fs::read_to_string(trace).unwrap();
    let inet = text.lines().filter(|line| line.contains("sa_family=AF_INET"));
    let away = inet.filter(|line| {
        let loopback = line.contains(r#"inet_addr("127."#) || line.contains(r#""::1""#);
        let mapped = line.contains(r#""::ffff:127."#);
        !loopback && !mapped && !line.contains(" connect(")
    });
    away.map(str::to_owned).collect()
}

#[test]
fn on_loopback_alone_nothing_is_sent_off_the_machine() {
    let has_strace = Command::new("strace").arg("-V").output().is_ok();
    let island = match Island::new() {
        Ok(island) if has_strace => island,
        Ok(_) => return println!("not run: there is no strace here"),
        Err(error) => return println!("not run: no network namespaces here ({error})"),
    };
    let site = Site::new();
    let traces: Vec<PathBuf> =
        ["worker", "client"].map(|name| site.path().join(format!("{name}.trace"))).to_vec();
    let server = island.on(|| site.server());
    let wrapper = traced(&traces[0]);
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    // With the default servers. The public STUN server is unreachable, and its name is not
    // resolved.
    let setup = TestWorker::setup(&site, "worker").given_ice_servers().under(&wrapper);
    let worker = island.on(|| setup.start(&server));
    let wrapper = traced(&traces[1]);
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let client = site
        .client(&server)
        .under(&wrapper)
        .given_ice_servers()
        .train(&fixture("train_single.zip"));
    let ended = island.on(|| client.session(worker.credentials()).run());
    ended.assert_code(0);
    println!("trained on loopback alone in {:.1} s", ended.took.as_secs_f64());
    assert!(ended.took < AT_ONCE, "{:?}", ended.took);
    let said = [worker.log(), ended.text(), server.transcript()];
    for text in &said {
        let warnings: Vec<&str> =
            text.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();
        assert!(warnings.is_empty(), "{warnings:#?}");
    }
    for trace in &traces {
        let away = sent_off(trace);
        assert!(away.is_empty(), "{}: {away:#?}", trace.display());
    }
}
