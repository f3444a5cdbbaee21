//! A plugin for all extension points that misbehaves as its setting `do` says. Only for tests.

/// Bindings made from the WIT package.
#[allow(missing_docs, unsafe_code, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({ world: "full-plugin", path: "../../wit" });

    #[cfg(target_family = "wasm")]
    use super::Hostile;
    #[cfg(target_family = "wasm")]
    export!(Hostile);
}

use bindings::exports::sleap_rtc::policy::compatibility::{self, Verdict};
use bindings::exports::sleap_rtc::policy::estimation::{self, Duration};
use bindings::exports::sleap_rtc::policy::queueing::{self, Place, RunningJob, WaitingJob};
use bindings::exports::sleap_rtc::policy::selection::{self, Choice, Ranking};
use bindings::sleap_rtc::policy::log::{Level, log};
use bindings::sleap_rtc::policy::types::{Context, Job, Value, Worker};
use std::hint::black_box;
use std::mem::{ManuallyDrop, forget};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether freeing memory never ends.
static FREE_LOOPS: AtomicBool = AtomicBool::new(false);

#[cfg(target_family = "wasm")]
mod allocator {
    use super::{FREE_LOOPS, Ordering, black_box};
    use std::alloc::{GlobalAlloc, Layout, System};

    #[global_allocator]
    static ALLOCATOR: Allocator = Allocator;

    struct Allocator;

    // SAFETY: forwards to the system's allocator, apart from the endless loop.
    #[expect(unsafe_code, reason = "only an allocator can run code when the host frees memory")]
    unsafe impl GlobalAlloc for Allocator {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: the caller's.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
            while FREE_LOOPS.load(Ordering::Relaxed) {
                black_box(());
            }
            // SAFETY: the caller's.
            unsafe { System.dealloc(place, layout) }
        }
    }
}

/// The guest.
#[cfg_attr(not(target_family = "wasm"), allow(dead_code, reason = "exported in the guest only"))]
struct Hostile;

impl selection::Guest for Hostile {
    fn select(context: Context, job: Job, workers: Vec<Worker>) -> Result<Ranking, String> {
        let (context, _, workers) = kept(context, job, workers);
        let deed = misbehave(&context)?;
        let choice = |index, score| Choice { index, score, reason: "because".into() };
        let choices = match deed.as_str() {
            "nan" => vec![choice(0, f64::NAN)],
            "out-of-range" => vec![choice(u32::try_from(workers.len()).unwrap_or(0), 1.0)],
            "twice" => vec![choice(0, 1.0), choice(0, 1.0)],
            "groups" => vec![choice(0, 1.0), choice(1, 2.0), choice(2, 1.0)],
            "many" => vec![Choice { reason: String::new(), ..choice(0, 1.0) }; 1 << 20],
            "not-text" => vec![Choice { reason: not_text(), ..choice(0, 1.0) }],
            "huge" => vec![Choice { reason: "x".repeat(40 << 20), ..choice(0, 1.0) }],
            "escape" => vec![Choice { reason: "\x1b[2J\r\nboo".into(), ..choice(0, 1.0) }],
            "who" => vec![Choice { reason: format!("{:?}", context.asker), ..choice(0, 1.0) }],
            "always-first" => vec![choice(0, 1.0)],
            _ => workers.first().map(|_| choice(0, 1.0)).into_iter().collect(),
        };
        Ok(Ranking { choices, left_out: vec![] })
    }
}

impl compatibility::Guest for Hostile {
    fn check(context: Context, job: Job, worker: Worker) -> Result<Verdict, String> {
        let (context, ..) = kept(context, job, worker);
        Ok(match misbehave(&context)?.as_str() {
            "no-reason" => Verdict::No(vec![]),
            _ => Verdict::Yes,
        })
    }
}

impl estimation::Guest for Hostile {
    fn estimate(context: Context, job: Job, worker: Worker) -> Result<Option<Duration>, String> {
        let (context, ..) = kept(context, job, worker);
        let duration = Duration { minutes: 7.0, low: 1.0, high: 9.0, confidence: 1.0 };
        Ok(match misbehave(&context)?.as_str() {
            "nan" => Some(Duration { minutes: f64::NAN, ..duration }),
            "none" => None,
            _ => Some(duration),
        })
    }
}

impl queueing::Guest for Hostile {
    fn order(
        context: Context,
        worker: Worker,
        running: Vec<RunningJob>,
        waiting: Vec<WaitingJob>,
    ) -> Result<Option<Vec<Place>>, String> {
        let (context, waiting) = (Kept::new(context), Kept::new(waiting));
        forget((worker, running));
        let deed = misbehave(&context)?;
        let place = |index| Place { index, reason: "because".into() };
        let jobs = u32::try_from(waiting.len()).unwrap_or(0);
        Ok(match deed.as_str() {
            "none" => None,
            "out-of-range" => Some(vec![place(jobs)]),
            "twice" => Some(vec![place(0), place(0)]),
            "many" => Some(vec![Place { reason: String::new(), ..place(0) }; 1 << 20]),
            "not-text" => Some(vec![Place { reason: not_text(), ..place(0) }]),
            "huge" => Some(vec![Place { reason: "x".repeat(40 << 20), ..place(0) }]),
            "escape" => Some(
                (0..jobs).map(|i| Place { reason: "\x1b[2J\r\nboo".into(), ..place(i) }).collect(),
            ),
            "leave-out" => Some(vec![]),
            // Who came last is first.
            _ => Some((0..jobs).rev().map(place).collect()),
        })
    }
}

/// Leaks its arguments, because freeing may be the last thing that an instance does.
fn kept<W>(context: Context, job: Job, workers: W) -> (Kept<Context>, Kept<Job>, Kept<W>) {
    (Kept::new(context), Kept::new(job), Kept::new(workers))
}

type Kept<T> = ManuallyDrop<T>;

/// A string that is not valid UTF-8.
#[expect(unsafe_code, reason = "passes the host what no safe guest can pass")]
fn not_text() -> String {
    // SAFETY: invalid on purpose. Nothing in this guest reads the string.
    unsafe { String::from_utf8_unchecked(vec![0xff; 1000]) }
}

/// Misbehaves in ways that need no answer. Returns the name of any other deed.
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
        "long-log-loop" => loop {
            log(Level::Debug, &"long ".repeat(2 << 20));
        },
        "fill-loop" => {
            let mut much = vec![0u8; 40 << 20];
            loop {
                much.fill(1);
                black_box(&much);
            }
        }
        // The call itself ends. The loop runs when the host frees the answer.
        "free-loop" => {
            forget(deed);
            FREE_LOOPS.store(true, Ordering::Relaxed);
            return Err("freed".into());
        }
        "log-not-text" => log(Level::Info, &not_text()),
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

#[allow(unconditional_recursion, reason = "that is what it is for")]
fn recurse(depth: u64) -> u64 {
    black_box(recurse(black_box(depth + 1))) + 1
}
