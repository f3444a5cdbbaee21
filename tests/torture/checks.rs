//! The rules that must hold after every round.

use crate::job::JobFolder;
use crate::plan::{FaultKind, Plan, Verdict, Victim};
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

/// The suffix of a run's folder if the folder existed already.
const AGAIN: &str = "-1/";
const LOOK: Duration = Duration::from_millis(20);

/// Every rule that the round has violated.
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
    check(empty_cluster(scene));
    check(only_server_and_worker(scene));
    check(free_slot(scene));
    check(next_job(scene, plan));
    check(free_slot(scene));
    check(only_server_and_worker(scene));
    check(panics(scene));
    broken
}

/// The client must recover by itself wherever it can.
fn by_itself(plan: &Plan, played: &Played) -> Result<(), String> {
    match &played.first_error {
        Some(error) if !plan.may_end_client() => {
            Err(format!("the client did not recover by itself: {error}"))
        }
        _ => Ok(()),
    }
}

/// Each job has exactly one outcome, and its client knows the same one. All jobs but the last never
/// began.
fn outcomes(scene: &Scene, plan: &Plan, played: &Played) -> Result<(), String> {
    let known = scene.known_jobs(&played.client_machine);
    let last = known.len().checked_sub(1).ok_or("the client has no record of the job")?;
    for (number, known) in known.iter().enumerate() {
        let verdict = JobFolder::of(&scene.jobs_dir(), &known.job).verdict();
        let verdict = verdict.map_err(|error| format!("{}: {error}", known.job))?;
        if number == last && verdict != played.told {
            let told = played.told;
            return Err(format!("{} is {verdict:?}, but its client knows {told:?}", known.job));
        }
        if number < last && verdict != Verdict::NotBegun {
            return Err(format!("{} is {verdict:?}, but was submitted again", known.job));
        }
        // The fault may have missed a job that was submitted again.
        let is_spared = number > 0 && verdict == Verdict::Succeeded;
        if !is_spared && !plan.allows(verdict) {
            return Err(format!("{} is {verdict:?}, which these faults do not allow", known.job));
        }
    }
    Ok(())
}

/// Client and worker have the same model, and the same package.
fn files(scene: &Scene, played: &Played) -> Result<(), String> {
    let Some(known) = scene.known_jobs(&played.client_machine).pop() else { return Ok(()) };
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

/// The results that the client has. A client that was killed when everything was in place, and came
/// back, has them twice: the second time with a number in the name.
fn fetched(played: &Played) -> BTreeMap<String, blake3::Hash> {
    let (first, second): (BTreeMap<_, _>, BTreeMap<_, _>) = hashes(&played.client_machine.output)
        .into_iter()
        .partition(|(name, _)| !name.contains(AGAIN));
    let again = second.into_iter().map(|(name, hash)| (name.replacen(AGAIN, "/", 1), hash));
    let again: BTreeMap<_, _> = again.collect();
    let is_the_same = again.is_empty() || played.recoveries.after_kill > 0 && again == first;
    if is_the_same { first } else { hashes(&played.client_machine.output) }
}

/// The client can fetch what a job had saved before it failed.
fn saved(scene: &Scene, played: &Played) -> Result<(), String> {
    let known = scene
        .known_jobs(&played.client_machine)
        .pop()
        .ok_or("the client has no record of the job")?;
    let output = played.client_machine.home.join("saved");
    let words = ["fetch", &known.to_string(), "--output", output.to_str().expect("plain names")];
    let job = JobFolder::of(&scene.jobs_dir(), &known.job);
    // There is nothing more of an interrupted job than what it had saved.
    let is_all = played.told == Verdict::Interrupted && !files_below(&job.results()).is_empty();
    let code = if is_all { DONE } else { JOB_FAILED };
    ended(scene.client("fetch-saved", &played.client_machine, &words), code)?;
    let (at_worker, at_client) = (hashes(&job.results()), hashes(&output));
    if at_worker != at_client {
        let (worker, client) = (at_worker.keys(), at_client.keys());
        return Err(format!("saved on the worker: {worker:?}; fetched: {client:?}"));
    }
    // The checkpoint of an epoch is written just after the epoch's event.
    let epochs = job.events()?.iter().filter(|event| is_epoch_end(&event.event)).count();
    if epochs > 1 && !at_client.keys().any(|name| name.ends_with("best.ckpt")) {
        return Err(format!("{epochs} epochs were trained, but no checkpoint of them exists"));
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
        // The last state of an epoch's progress bar. Validation has a line of its own.
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

/// A client that was not killed leaves no partial files.
fn leftovers(plan: &Plan, played: &Played) -> Result<(), String> {
    if plan.faults.iter().any(|fault| fault.kind == FaultKind::Kill(Victim::Client)) {
        return Ok(());
    }
    let is_hidden = |file: &&std::path::PathBuf| {
        file.iter().any(|name| name.to_string_lossy().starts_with(".sleap-rtc-"))
    };
    match files_below(&played.client_machine.home).iter().find(is_hidden) {
        None => Ok(()),
        Some(file) => Err(format!("the client has left {}", file.display())),
    }
}

/// The only processes of the round are these two.
fn only_server_and_worker(scene: &Scene) -> Result<(), String> {
    let known = [scene.server.pid(), scene.worker.pid()];
    soon(|| {
        let mut found = processes_in(scene.site.path());
        found.retain(|process| !known.contains(&(process.pid as u32)));
        if found.is_empty() { Ok(()) } else { Err(format!("processes are left: {found:?}")) }
    })
}

/// No job is left in Slurm.
fn empty_cluster(scene: &Scene) -> Result<(), String> {
    soon(|| match scene.cluster_queue() {
        Some(queue) if !queue.is_empty() => Err(format!("jobs are left in Slurm: {queue}")),
        _ => Ok(()),
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

/// The worker can run another job.
fn next_job(scene: &mut Scene, plan: &Plan) -> Result<(), String> {
    let client_machine = scene.client_machine(plan);
    ended(scene.track("next-job", &client_machine), DONE)
        .map_err(|error| format!("the next job: {error}"))
}

/// Waits until `client` ends, with exit code `code`.
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
    Err("the client did not end".into())
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

/// Retries `look` for a while until it succeeds.
fn soon(mut look: impl FnMut() -> Result<(), String>) -> Result<(), String> {
    let since = Instant::now();
    loop {
        match look() {
            Err(_) if since.elapsed() < SOON => sleep(LOOK),
            looked => return looked,
        }
    }
}
