//! How soon the host stops a plugin that does not end.

use crate::support::{guest, guest_path};
use sleap_rtc_policy::examine::PluginFile;
use sleap_rtc_policy::{ExtensionPoint, OnFailure, PluginConfig, Policies, PolicyConfig};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Deeds that never end by themselves.
const ENDLESS: [&str; 5] = ["loop", "log-loop", "long-log-loop", "fill-loop", "free-loop"];
/// Deeds that another limit than time ends.
const LIMITED: [&str; 5] = ["recurse", "grow", "panic", "huge", "many"];
const TIMEOUT: Duration = Duration::from_millis(200);
/// The goal is 50 ms; a loaded machine must not fail the test.
const LATE: Duration = Duration::from_secs(2);
/// The number of clients that ask one worker at once.
const CROWD: usize = 8;

/// One call of the hostile guest: its duration, and the message about it.
fn call(point: ExtensionPoint, deed: &str) -> (Duration, String) {
    let mut config = PluginConfig::new(OnFailure::Refuse);
    config.settings.insert("do".into(), deed.into());
    let file = PluginFile::open(&guest_path("hostile-guest"), Path::new("/nonexistent")).unwrap();
    let candidate = file.load(point, &config).unwrap();
    let outcome = candidate.try_case(&candidate.cases()[0]);
    (outcome.took, outcome.answer.unwrap_err())
}

/// Prints how long after its deadline a call was stopped.
fn stopped(point: &str, deed: &str, took: Duration) -> Duration {
    let past = took.saturating_sub(TIMEOUT);
    println!("{point:<14} {deed:<14} {:>9.1} ms {:>9.1} ms", ms(took), ms(past));
    assert!(took >= TIMEOUT && past < LATE, "{point} {deed}: {took:?}");
    past
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[test]
fn endless_calls_are_stopped_soon_after_their_deadline() {
    println!("{:<14} {:<14} {:>12} {:>12}", "point", "deed", "stopped", "past 200 ms");
    let mut worst = Duration::ZERO;
    for point in ExtensionPoint::ALL {
        for deed in ENDLESS {
            let (took, said) = call(point, deed);
            assert!(said.starts_with("it did not answer within 200 ms"), "{deed}: {said}");
            worst = worst.max(stopped(point.key(), deed, took));
        }
    }
    let (dir, start) = (tempfile::tempdir().unwrap(), Instant::now());
    std::fs::write(dir.path().join("lab.wasm"), guest("start-loop")).unwrap();
    let mut config = PolicyConfig::new(dir.path().to_owned());
    config.selection[0].plugin = Some("lab".into());
    let error = Policies::load(&config).map(drop).unwrap_err().to_string();
    assert!(error.contains("it did not answer within 200 ms"), "{error}");
    worst = worst.max(stopped("when loaded", "start-loop", start.elapsed()));
    let file = PluginFile::open(&guest_path("hostile-guest"), Path::new("/nonexistent")).unwrap();
    let mut config = PluginConfig::new(OnFailure::Refuse);
    config.settings.insert("do".into(), "loop".into());
    let candidate = file.load(ExtensionPoint::Compatibility, &config).unwrap();
    let case = &candidate.cases()[0];
    let took = thread::scope(|scope| {
        let calls = [(); CROWD].map(|()| scope.spawn(|| candidate.try_case(case).took));
        calls.map(|call| call.join().unwrap()).into_iter().max().unwrap()
    });
    worst = worst.max(stopped("8 at once", "loop", took));
    println!("worst: {:.1} ms past the deadline (goal: 50 ms)", ms(worst));
    for deed in LIMITED {
        let (took, said) = call(ExtensionPoint::Selection, deed);
        let said = said.split([':', '(']).next().unwrap_or_default();
        println!("before its deadline: {deed:<8} {:>7.1} ms  {said}", ms(took));
        assert!(!said.contains("did not answer"), "{deed}: {said}");
    }
}
