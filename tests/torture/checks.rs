//! What must hold after a round, whatever was done to it.

use crate::job::JobFolder;
use crate::plan::{Blow, Plan, Verdict, Victim};
use crate::program::Program;
use crate::round::{DONE, JOB_FAILED, Played};
use crate::scene::{EPOCHS, Scene};
use sleap_rtc_protocol::job::JobEvent;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};
use support::{A_WHILE, SOON, files_below, processes_in};
use zip::ZipArchive;

/// The end of a run's folder that was there already.
const AGAIN: &str = "-1/";
const LOOK: Duration = Duration::from_millis(20);

/// Every rule that the round has broken.
pub fn violations(scene: &mut Scene, plan: &Plan, played: &Played) -> Vec<String> {
    let mut broken = Vec::new();
    let mut check = |checked: Result<(), String>| broken.extend(checked.err());
    check(by_itself(plan, played));
    check(soon(|| outcomes(scene, plan, played)));
    if played.told == Verdict::Succeeded {
        check(files(scene, played));
        check(log(played));
    } else {
        check(saved(scene, played));
    }
    check(leftovers(plan, played));
    check(only_server_and_worker(scene));
    check(free_slot(scene));
    check(next_job(scene, plan));
    check(free_slot(scene));
    check(only_server_and_worker(scene));
    check(panics(scene));
    broken
}

/// The client has come back by itself wherever it can.
fn by_itself(plan: &Plan, played: &Played) -> Result<(), String> {
    match &played.first_error {
        Some(error) if !plan.may_end_client() => {
            Err(format!("the client has not come back by itself; it said: {error}"))
        }
        _ => Ok(()),
    }
}

/// Each job reached one outcome, the one that its client was told; all but the last never began.
fn outcomes(scene: &Scene, plan: &Plan, played: &Played) -> Result<(), String> {
    let known = scene.known_jobs(&played.desk);
    let last = known.len().checked_sub(1).ok_or("the client has no record of the job")?;
    for (number, known) in known.iter().enumerate() {
        let verdict = JobFolder::of(&scene.jobs_dir(), &known.job).verdict();
        let verdict = verdict.map_err(|error| format!("{}: {error}", known.job))?;
        if number == last && verdict != played.told {
            let told = played.told;
            return Err(format!("{} is {verdict:?}, its client was told {told:?}", known.job));
        }
        if number < last && verdict != Verdict::NotBegun {
            return Err(format!("{} is {verdict:?}, and was submitted again", known.job));
        }
        // What was submitted again may have been spared by the blow.
        let is_spared = number > 0 && verdict == Verdict::Succeeded;
        if !is_spared && !plan.allows(verdict) {
            return Err(format!("{} is {verdict:?}: that must not happen here", known.job));
        }
    }
    Ok(())
}

/// The model at the client is the model on the worker, and the package on the worker is the client's.
fn files(scene: &Scene, played: &Played) -> Result<(), String> {
    let Some(known) = scene.known_jobs(&played.desk).pop() else { return Ok(()) };
    let job = JobFolder::of(&scene.jobs_dir(), &known.job);
    let (at_worker, at_client) = (hashes(&job.results()), fetched(played));
    let has_model = at_client.keys().any(|name| name.ends_with("best.ckpt"));
    if !has_model {
        return Err(format!("the client has no model, only {:?}", at_client.keys()));
    }
    if at_worker != at_client {
        let all = at_worker.keys().chain(at_client.keys());
        let other: BTreeSet<_> =
            all.filter(|name| at_worker.get(*name) != at_client.get(*name)).collect();
        return Err(format!("these results differ between worker and client: {other:?}"));
    }
    let mut package = ZipArchive::new(File::open(&scene.package).unwrap()).unwrap();
    for index in 0..package.len() {
        let mut member = package.by_index(index).unwrap();
        let (name, mut content) = (member.name().unwrap().into_owned(), Vec::new());
        member.read_to_end(&mut content).unwrap();
        if fs::read(job.files().join(&name)).ok() != Some(content) {
            return Err(format!("{name} of the package is not the same on the worker"));
        }
    }
    Ok(())
}

/// What the client has of the result. A client that was killed when all was in its place, and came
/// back, has it twice: the second time beside the first, with a number.
fn fetched(played: &Played) -> BTreeMap<String, blake3::Hash> {
    let (first, second): (BTreeMap<_, _>, BTreeMap<_, _>) =
        hashes(&played.desk.output).into_iter().partition(|(name, _)| !name.contains(AGAIN));
    let again = second.into_iter().map(|(name, hash)| (name.replacen(AGAIN, "/", 1), hash));
    let again: BTreeMap<_, _> = again.collect();
    let is_the_same = again.is_empty() || played.recoveries.after_kill > 0 && again == first;
    if is_the_same { first } else { hashes(&played.desk.output) }
}

/// What a job had saved before it ended badly can be fetched.
fn saved(scene: &Scene, played: &Played) -> Result<(), String> {
    let known =
        scene.known_jobs(&played.desk).pop().ok_or("the client has no record of the job")?;
    let output = played.desk.home.join("saved");
    let words = ["fetch", &known.to_string(), "--output", output.to_str().expect("plain names")];
    ended(scene.client("fetch-saved", &played.desk, &words), JOB_FAILED)?;
    let job = JobFolder::of(&scene.jobs_dir(), &known.job);
    let (at_worker, at_client) = (hashes(&job.results()), hashes(&output));
    if at_worker != at_client {
        let (worker, client) = (at_worker.keys(), at_client.keys());
        return Err(format!("saved on the worker: {worker:?}; fetched: {client:?}"));
    }
    // The checkpoint of an epoch is written just after its event.
    let epochs = job.events()?.iter().filter(|event| is_epoch_end(&event.event)).count();
    if epochs > 1 && !at_client.keys().any(|name| name.ends_with("best.ckpt")) {
        return Err(format!("{epochs} epochs were trained, and no checkpoint of them is left"));
    }
    Ok(())
}

fn is_epoch_end(event: &JobEvent) -> bool {
    matches!(event, JobEvent::Progress { message } if message["event"] == "epoch_end")
}

fn hashes(folder: &Path) -> BTreeMap<String, blake3::Hash> {
    let hash = |file: &std::path::PathBuf| {
        let bytes = fs::read(folder.join(file)).unwrap_or_default();
        (file.display().to_string(), blake3::hash(&bytes))
    };
    files_below(folder).iter().map(hash).collect()
}

/// The client's last command has shown each epoch once, in order.
fn log(played: &Played) -> Result<(), String> {
    let epoch = |line: &str| {
        // The last state of an epoch's bar; validation has a line of its own.
        let (_, rest) = line.split_once("Epoch ")?;
        let (number, bar) = rest.split_once(':')?;
        bar.contains("2/2").then(|| number.parse().ok())?
    };
    let shown: Vec<u64> = played.shown.lines().filter_map(epoch).collect();
    let is_fetch = played.shown.lines().count() <= 1;
    if is_fetch || shown.iter().copied().eq(0..EPOCHS) {
        return Ok(());
    }
    Err(format!("the client showed the epochs {shown:?}, not 0 to {} once each", EPOCHS - 1))
}

/// A client that was not killed has left nothing half done.
fn leftovers(plan: &Plan, played: &Played) -> Result<(), String> {
    if plan.faults.iter().any(|fault| fault.blow == Blow::Kill(Victim::Client)) {
        return Ok(());
    }
    let is_hidden = |file: &&std::path::PathBuf| {
        file.iter().any(|name| name.to_string_lossy().starts_with(".sleap-rtc-"))
    };
    match files_below(&played.desk.home).iter().find(is_hidden) {
        None => Ok(()),
        Some(file) => Err(format!("the client has left {}", file.display())),
    }
}

/// No process of the round but these two.
fn only_server_and_worker(scene: &Scene) -> Result<(), String> {
    let known = [scene.server.pid(), scene.worker.pid()];
    soon(|| {
        let mut found = processes_in(scene.site.path());
        found.retain(|process| !known.contains(&(process.pid as u32)));
        if found.is_empty() { Ok(()) } else { Err(format!("processes are left: {found:?}")) }
    })
}

/// The room shows the worker as available.
fn free_slot(scene: &Scene) -> Result<(), String> {
    let mut observer = scene.observer();
    soon(|| match observer.status(&scene.credentials.peer_id).as_deref() {
        Some("available") => Ok(()),
        other => Err(format!("the room shows the worker as {other:?}, not as available")),
    })
}

/// The worker does the next job.
fn next_job(scene: &mut Scene, plan: &Plan) -> Result<(), String> {
    let desk = scene.desk(plan);
    ended(scene.next_job(&desk), DONE).map_err(|error| format!("the next job: {error}"))
}

/// Waits until `client` ends, which must be with `code`.
fn ended(mut client: Program, code: i32) -> Result<(), String> {
    let since = Instant::now();
    while since.elapsed() < A_WHILE {
        match client.ended() {
            Some(ended) if ended == code => return Ok(()),
            Some(other) => {
                return Err(format!("the client ended with {other}: {}", client.stderr()));
            }
            None => sleep(LOOK),
        }
    }
    Err("the client came to no end".into())
}

/// No program has panicked.
fn panics(scene: &Scene) -> Result<(), String> {
    for entry in fs::read_dir(scene.site.path()).unwrap().flatten() {
        if entry.path().is_file()
            && String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).contains("panicked at")
        {
            return Err(format!("a panic in {}", entry.file_name().display()));
        }
    }
    Ok(())
}

/// Gives `look` some time to be satisfied.
fn soon(mut look: impl FnMut() -> Result<(), String>) -> Result<(), String> {
    let since = Instant::now();
    loop {
        match look() {
            Err(_) if since.elapsed() < SOON => sleep(LOOK),
            looked => return looked,
        }
    }
}
