//! A plugin for all extension points that does what its setting `do` says. Only for tests.

/// Bindings made from the WIT package.
#[allow(missing_docs, unsafe_code, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({ world: "policy-plugin", path: "../../wit" });

    #[cfg(target_family = "wasm")]
    use super::Hostile;
    #[cfg(target_family = "wasm")]
    export!(Hostile);
}

use bindings::exports::sleap_rtc::policy::compatibility::{self, Verdict};
use bindings::exports::sleap_rtc::policy::estimation::{self, Duration};
use bindings::exports::sleap_rtc::policy::selection::{self, Choice, Ranking};
use bindings::sleap_rtc::policy::log::{Level, log};
use bindings::sleap_rtc::policy::types::{Context, Job, Value, Worker};
use std::hint::black_box;

/// The guest.
#[cfg_attr(not(target_family = "wasm"), allow(dead_code, reason = "exported in the guest only"))]
struct Hostile;

impl selection::Guest for Hostile {
    fn select(context: Context, _: Job, workers: Vec<Worker>) -> Result<Ranking, String> {
        let deed = misbehave(&context)?;
        let choice = |index, score| Choice { index, score, reason: "because".into() };
        let choices = match deed.as_str() {
            "nan" => vec![choice(0, f64::NAN)],
            "out-of-range" => vec![choice(u32::try_from(workers.len()).unwrap_or(0), 1.0)],
            "twice" => vec![choice(0, 1.0), choice(0, 1.0)],
            "huge" => vec![Choice { reason: "x".repeat(40 << 20), ..choice(0, 1.0) }],
            "escape" => vec![Choice { reason: "\x1b[2J\r\nboo".into(), ..choice(0, 1.0) }],
            "who" => vec![Choice { reason: format!("{:?}", context.asker), ..choice(0, 1.0) }],
            _ => vec![choice(0, 1.0)],
        };
        Ok(Ranking { choices, left_out: vec![] })
    }
}

impl compatibility::Guest for Hostile {
    fn check(context: Context, _: Job, _: Worker) -> Result<Verdict, String> {
        Ok(match misbehave(&context)?.as_str() {
            "no-reason" => Verdict::No(vec![]),
            _ => Verdict::Yes,
        })
    }
}

impl estimation::Guest for Hostile {
    fn estimate(context: Context, _: Job, _: Worker) -> Result<Option<Duration>, String> {
        let duration = Duration { minutes: 7.0, low: 1.0, high: 9.0, confidence: 1.0 };
        Ok(match misbehave(&context)?.as_str() {
            "nan" => Some(Duration { minutes: f64::NAN, ..duration }),
            "none" => None,
            _ => Some(duration),
        })
    }
}

/// Does the deeds that need no answer; hands the name of the others back.
fn misbehave(context: &Context) -> Result<String, String> {
    let deed = context.settings.iter().find_map(|setting| match &setting.value {
        Value::Text(deed) if setting.key == "do" => Some(deed.clone()),
        _ => None,
    });
    let deed = deed.unwrap_or_default();
    match deed.as_str() {
        "loop" => loop {
            black_box(());
        },
        "log-loop" => loop {
            log(Level::Error, "");
        },
        // Short calls without end, each with a frame of its own.
        "nest" => loop {
            black_box(nested(20));
        },
        "recurse" => {
            recurse(0);
        }
        "grow" => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(vec![1u8; 1 << 20]);
                black_box(&hoard);
            }
        }
        "panic" => panic!("on purpose"),
        "log" => {
            for _ in 0..10 {
                log(Level::Info, &"lots of log ".repeat(90_000));
            }
            for _ in 0..100 {
                log(Level::Info, "more log");
            }
        }
        "error" => return Err("the setting \"do\" says so".into()),
        _ => {}
    }
    Ok(deed)
}

fn nested(depth: u32) -> u32 {
    if depth == 0 { 1 } else { nested(black_box(depth - 1)) + nested(black_box(depth - 1)) }
}

#[allow(unconditional_recursion, reason = "that is what it is for")]
fn recurse(depth: u64) -> u64 {
    black_box(recurse(black_box(depth + 1))) + 1
}
