//! Tests `stop` and `cancel` with real sleap-nn, which the stand-in trainer cannot replace.

use crate::loopback::{Loopback, RunningProgram, Server, Worker, model_below};
use crate::programs::{call, root};
use crate::python;
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

/// Time for sleap-nn to start on a slow machine, and for two epochs of a small model.
const EPOCHS_WITHIN: Duration = Duration::from_secs(300);
/// Time from the command to the end of the client.
const END_WITHIN: Duration = Duration::from_secs(120);
const POLL_EVERY: Duration = Duration::from_millis(50);
/// No machine finishes this many epochs.
const ENDLESS: [(&str, &str); 1] = [("max_epochs: 2\n", "max_epochs: 100000\n")];
/// A config that every supported release can read.
const COMPAT: &str = "tests/fixtures/compat/single_instance.yaml";
/// Opens a checkpoint as sleap-nn does.
const LOAD: &str = "import sys, torch\n\
    saved = torch.load(sys.argv[1], map_location='cpu', weights_only=False)\n\
    assert saved['state_dict'], 'no weights'\n\
    print('epoch', saved['epoch'], 'of the checkpoint,', len(saved['state_dict']), 'tensors')\n";

/// Stops one job after its second epoch, which must produce a model, and cancels another, which
/// must not. The binary must be built already.
pub fn stop_and_cancel(trainer: &Path) -> Result<()> {
    let demo = Loopback::new("early-end", trainer)?;
    fs::copy(root().join(COMPAT), demo.folder.join("package/single_instance.yaml"))?;
    demo.configure(&ENDLESS)?;
    let server = demo.start_server()?;
    let worker = demo.start_worker(&server)?;
    let lab = Lab { demo, server, worker };

    let (client, job) = lab.train("stopped", "\"epoch_end\"", 2)?;
    lab.command(&["stop", &job])?;
    let took = lab.end(client, 0)?;
    ensure!(lab.outcome(&job)? == "stopped-early", "the outcome is {}", lab.outcome(&job)?);
    let checkpoint = model_below(&lab.demo.folder.join("stopped"))?.join("best.ckpt");
    call(
        Command::new(python::interpreter(&trainer.join("sleap-nn"))?)
            .args(["-c", LOAD])
            .arg(&checkpoint),
    )?;
    println!("stopped early {:.1} s after `stop`: {}", took.as_secs_f64(), checkpoint.display());

    let (client, job) = lab.train("cancelled", "\"epoch_end\"", 1)?;
    lab.command(&["cancel", &job])?;
    let took = lab.end(client, 130)?;
    ensure!(lab.outcome(&job)? == "cancelled", "the outcome is {}", lab.outcome(&job)?);
    ensure!(!lab.demo.folder.join("cancelled").exists(), "a cancelled job left a result");
    ensure!(is_empty(&lab.job_folder(&job).join("results")), "a cancelled job keeps a result");
    println!("cancelled {:.1} s after `cancel`: no result", took.as_secs_f64());
    lab.worker.process.stop()?;
    lab.server.process.stop()
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

struct Lab {
    demo: Loopback,
    server: Server,
    worker: Worker,
}

impl Lab {
    /// Starts a training, and waits until its events contain `word` `count` times. Returns the
    /// client and the job's id.
    fn train(&self, output: &str, word: &str, count: usize) -> Result<(RunningProgram, String)> {
        let known = self.jobs();
        let package = self.demo.folder.join("package");
        let mut command =
            self.demo.command(&format!("client-{output}"), &["client-train", "--pkg-path"])?;
        command.arg(package).arg("--output").arg(self.demo.folder.join(output));
        // The commands look for the records of both jobs in this folder.
        command.env("XDG_DATA_HOME", self.demo.folder.join("records"));
        self.demo.join(&mut command, &self.server, &self.worker);
        println!("\n$ sleap-rtc client-train …");
        let client = RunningProgram::start("client", command, &[])?;
        let start = Instant::now();
        while start.elapsed() < EPOCHS_WITHIN {
            for job in self.jobs().into_iter().filter(|job| !known.contains(job)) {
                let events = fs::read_to_string(self.job_folder(&job).join("events.jsonl"));
                let lines = events.unwrap_or_default();
                ensure!(!lines.contains("\"finished\""), "the job has ended; {}", client.hint());
                if lines.lines().filter(|line| line.contains(word)).count() >= count {
                    return Ok((client, job));
                }
            }
            sleep(POLL_EVERY);
        }
        bail!("no {count} times {word} within {} s; {}", EPOCHS_WITHIN.as_secs(), client.hint())
    }

    /// The ids of the jobs that the worker has.
    fn jobs(&self) -> Vec<String> {
        let jobs = self.job_folder("");
        let entries = fs::read_dir(jobs).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    fn job_folder(&self, job: &str) -> PathBuf {
        self.demo.folder.join("worker/.local/share/sleap-rtc/worker/jobs").join(job)
    }

    fn command(&self, arguments: &[&str]) -> Result<()> {
        println!("$ sleap-rtc {}", arguments.join(" "));
        let mut command = self.demo.command("owner", arguments)?;
        command.args(["--ice-server", "none"]);
        call(command.env("XDG_DATA_HOME", self.demo.folder.join("records")))
    }

    /// Waits for the client's end, and returns the time that it took.
    fn end(&self, mut client: RunningProgram, code: i32) -> Result<Duration> {
        let start = Instant::now();
        let status = client.wait(END_WITHIN)?;
        ensure!(status.code() == Some(code), "the client ended with {status}; {}", client.hint());
        Ok(start.elapsed())
    }

    /// The outcome in the job's record.
    fn outcome(&self, job: &str) -> Result<String> {
        let record = fs::read_to_string(self.job_folder(job).join("job.json"))?;
        let (_, after) = record.split_once("\"outcome\":").context("the job has no outcome")?;
        Ok(after.trim_start().trim_start_matches('"').split('"').next().unwrap_or("").to_owned())
    }
}
