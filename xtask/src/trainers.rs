//! `cargo xtask trainers`: tests several releases of real sleap-nn, which the stand-in trainer cannot
//! replace.

use crate::loopback::{Loopback, Server, Worker, is_filled, model_below};
use crate::programs::{call, cargo, root};
use crate::{early_end, prerequisites, python};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

/// The oldest supported release, the one of the pinned packages, and the newest on PyPI.
const RELEASES: [&str; 3] = ["0.2.0", python::PINNED, "newest"];
/// The exit code of a client whose job failed.
const JOB_FAILED: i32 = 6;
const CONFIG: &str = "single_instance.yaml";
const SCRIPT: &str = "#!/bin/bash\nsleap-nn train --config-name";
/// What only the trainer finds.
const STRATEGY: (&str, &str) = ("max_epochs: 1\n", "max_epochs: 1\n  trainer_strategy: nowhere\n");
/// One epoch is enough, because no test looks at metrics.
const QUICK: [(&str, &str); 1] = [("max_epochs: 2\n", "max_epochs: 1\n")];

/// Runs these releases, or all of [`RELEASES`].
pub fn run(wanted: &[String]) -> Result<ExitCode> {
    prerequisites::build()?;
    prerequisites::python()?;
    call(&mut cargo(&["build", "--workspace", "--bin", "sleap-rtc"]))?;
    let all = RELEASES.map(str::to_owned);
    let wanted = if wanted.is_empty() { &all[..] } else { wanted };
    let mut done: Vec<String> = Vec::new();
    for name in wanted {
        let (trainer, version) = python::release(name)?;
        if done.contains(&version) {
            println!("\n{name} is sleap-nn {version}, which has been run");
            continue;
        }
        println!("\n== sleap-nn {version}");
        Bench::new(trainer, &version)?.run()?;
        early_end::stop_and_cancel(&python::release(name)?.0)?;
        done.push(version);
    }
    println!("\nDone with sleap-nn {}; no process is left", done.join(", "));
    Ok(ExitCode::SUCCESS)
}

/// One test of a release.
type Step = fn(&Bench) -> Result<()>;

/// A server and a worker with one release.
struct Bench {
    demo: Loopback,
    trainer: PathBuf,
    server: Server,
    worker: Worker,
    /// Two videos of the same name, and labels of both, below the worker's mount.
    lab: PathBuf,
}

impl Bench {
    fn new(trainer: PathBuf, version: &str) -> Result<Self> {
        let demo = Loopback::new(&format!("trainers-{version}"), &trainer)?;
        // Every release can read what the oldest has saved.
        fs::copy(
            root().join("tests/fixtures/compat").join(CONFIG),
            demo.folder.join("package").join(CONFIG),
        )?;
        demo.configure(&QUICK)?;
        let lab = demo.folder.join("lab");
        let mounts = format!(
            "[worker]\nmounts = [{{ label = \"lab\", path = \"{}\" }}]\n",
            lab.join("mounted").display()
        );
        fs::create_dir_all(demo.folder.join("worker"))?;
        fs::write(demo.folder.join("worker/sleap-rtc.toml"), mounts)?;
        let server = demo.start_server()?;
        let worker = demo.start_worker(&server)?;
        Ok(Self { demo, trainer, server, worker, lab })
    }

    fn run(self) -> Result<()> {
        let steps: [(&str, Step); 8] = [
            (
                "every option of its trackers and every setting of its trainer is known",
                Self::options,
            ),
            ("a training, and the predictions that its package asks for", Self::train),
            ("a tracking, by the user's own paths", Self::track),
            ("two videos of one name, sent along", Self::sent_videos),
            ("the same on a mount, for a tracking and a training", Self::mounted_videos),
            ("a configuration that fails, and its message", Self::failing),
            ("a video that cannot be read, and its message", Self::unreadable),
            ("what a failed job had saved", Self::saved),
        ];
        for (what, step) in steps {
            let start = Instant::now();
            step(&self).context(what)?;
            println!("ok: {what} ({:.0} s)", start.elapsed().as_secs_f64());
        }
        self.worker.process.stop()?;
        self.server.process.stop()
    }

    fn options(&self) -> Result<()> {
        let filter = "test(/^(.*::)?every_(option|setting)_of_an_installed_sleap_nn_is_known$/)";
        let mut test = cargo(&[
            "nextest",
            "run",
            "--workspace",
            "--profile",
            "by-hand",
            "--lib",
            "--run-ignored",
            "only",
        ]);
        test.args(["-E", filter]);
        call(test.env("SLEAP_NN", self.trainer.join("sleap-nn")))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.demo.folder.join(name)
    }

    fn client(&self, arguments: &[&str], complete: impl FnOnce(&mut Command)) -> Result<()> {
        self.demo.client(&self.server, &self.worker, arguments, complete)
    }

    fn track(&self) -> Result<()> {
        let labels = self.path("package/one.pkg.slp");
        let predictions = self.predict(&labels, "predictions.slp", &[])?;
        self.assert_names(&predictions, &[&labels])
    }

    /// Predicts with the model of the first training.
    fn predict(&self, data: &Path, name: &str, more: &[&str]) -> Result<PathBuf> {
        let (model, output) = (model_below(&self.path("models"))?, self.path(name));
        self.client(&["client-track", "--data-path"], |command| {
            command.arg(data).arg("--model-paths").arg(model).arg("-o").arg(&output).args(more);
        })?;
        ensure!(is_filled(&output), "no predictions at {}", output.display());
        Ok(output)
    }

    fn train(&self) -> Result<()> {
        let script =
            "sleap-nn track -i one.pkg.slp -m models/single_instance -o one.predictions.slp\n";
        fs::write(self.path("package/inference-script.sh"), script)?;
        let models = self.path("models");
        self.client(&["client-train", "--pkg-path"], |command| {
            command.arg(self.path("package")).arg("--output").arg(&models);
        })?;
        fs::remove_file(self.path("package/inference-script.sh"))?;
        model_below(&models)?;
        let predictions = models.join("one.predictions.slp");
        ensure!(is_filled(&predictions), "no predictions at {}", predictions.display());
        Ok(())
    }

    fn python(&self, arguments: &[&str], path: &Path) -> Result<String> {
        let python = python::interpreter(&self.trainer.join("sleap-nn"))?;
        let script = root().join("xtask/sleap-nn/videos.py");
        let output = Command::new(python).arg(script).args(arguments).arg(path).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{said}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Fails unless these labels name exactly these videos.
    fn assert_names(&self, labels: &Path, videos: &[&Path]) -> Result<()> {
        let said = self.python(&["names"], labels)?;
        let names: Vec<&str> = said.lines().filter_map(|line| line.strip_suffix(" -")).collect();
        let wanted: Vec<String> = videos.iter().map(|path| path.display().to_string()).collect();
        ensure!(names == wanted, "{} names {names:?}, not {wanted:?}", labels.display());
        Ok(())
    }

    fn videos(&self) -> [PathBuf; 2] {
        ["day1/mouse.mp4", "day2/mouse.mp4"].map(|name| self.lab.join("here").join(name))
    }

    fn sent_videos(&self) -> Result<()> {
        let here = self.lab.join("here");
        self.python(&["make"], &here)?;
        let predictions = self.predict(&here.join("labels.slp"), "sent.slp", &[])?;
        let [one, other] = self.videos();
        self.assert_names(&predictions, &[&one, &other])?;
        let output = self.path("sent-models");
        self.train_on_videos(&output, &[])
    }

    /// The videos are where only a worker with the mount can find them.
    fn mounted_videos(&self) -> Result<()> {
        fs::rename(self.lab.join("here/day1"), self.path("day1"))?;
        fs::rename(self.lab.join("here/day2"), self.path("day2"))?;
        let mounted = self.lab.join("mounted/session");
        fs::create_dir_all(&mounted)?;
        for day in ["day1", "day2"] {
            fs::rename(self.path(day), mounted.join(day))?;
        }
        let map = format!("{}=lab:session", self.lab.join("here").display());
        let labels = self.lab.join("here/labels.slp");
        let predictions = self.predict(&labels, "mounted.slp", &["--path-map", &map])?;
        let [one, other] = self.videos();
        self.assert_names(&predictions, &[&one, &other])?;
        self.train_on_videos(&self.path("mounted-models"), &["--path-map", &map])
    }

    /// Trains on labels that name videos. The labels in the model's folder must name the user's.
    fn train_on_videos(&self, output: &Path, more: &[&str]) -> Result<()> {
        let package = self.path("package-of-videos");
        fs::create_dir_all(&package)?;
        let config = fs::read_to_string(self.path("package").join(CONFIG))?;
        fs::write(package.join(CONFIG), config.replace("one.pkg.slp", "labels.slp"))?;
        fs::copy(self.lab.join("here/labels.slp"), package.join("labels.slp"))?;
        fs::write(package.join("train-script.sh"), format!("{SCRIPT} {CONFIG}\n"))?;
        self.client(&["client-train", "--pkg-path"], |command| {
            command.arg(&package).arg("--output").arg(output).args(more);
        })?;
        let model = model_below(output)?;
        let [one, other] = self.videos();
        let mut seen = 0;
        for entry in fs::read_dir(&model)?.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|ending| ending == "slp") {
                for name in self.python(&["names"], &path)?.lines() {
                    let ours = [&one, &other]
                        .iter()
                        .any(|video| name.starts_with(&*video.to_string_lossy()));
                    ensure!(ours, "{} names {name}", path.display());
                    seen += 1;
                }
            }
        }
        ensure!(seen > 0, "no labels in {}", model.display());
        Ok(())
    }

    /// Runs a client that fails, and returns what it printed.
    fn failed(
        &self,
        name: &str,
        arguments: &[&str],
        complete: impl FnOnce(&mut Command),
    ) -> Result<String> {
        let mut command = self.demo.command(name, arguments)?;
        complete(&mut command);
        command.arg("--output").arg(self.path(name).join("out.slp"));
        command.env("XDG_DATA_HOME", self.path("records"));
        self.demo.join(&mut command, &self.server, &self.worker);
        let output = command.output()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        ensure!(output.status.code() == Some(JOB_FAILED), "ended with {}: {text}", output.status);
        Ok(text)
    }

    /// Runs a training that fails, and returns what it printed.
    fn failed_training(&self, name: &str, package: &Path) -> Result<String> {
        self.failed(name, &["client-train", "--pkg-path"], |command| {
            command.arg(package);
        })
    }

    fn failing(&self) -> Result<()> {
        let package = self.copy_of_package("failing-package")?;
        let text = fs::read_to_string(package.join(CONFIG))?;
        let changed = text.replace(STRATEGY.0, STRATEGY.1);
        ensure!(changed != text, "the configuration has no max_epochs");
        fs::write(package.join(CONFIG), changed)?;
        let said = self.failed_training("failing", &package)?;
        let reason = reason(&said)?;
        ensure!(reason.contains("nowhere"), "it does not name the setting: {reason}");
        Ok(())
    }

    /// Half of a video. sleap-nn 0.2 ends as if it had predicted it.
    fn unreadable(&self) -> Result<()> {
        let (whole, half) =
            (self.lab.join("mounted/session/day1/mouse.mp4"), self.path("half.mp4"));
        let content = fs::read(&whole).with_context(|| whole.display().to_string())?;
        fs::write(&half, &content[..content.len() / 2])?;
        let model = model_below(&self.path("models"))?;
        let said = self.failed("unreadable", &["client-track", "--log"], |command| {
            command.arg("--data-path").arg(half).arg("--model-paths").arg(model);
        })?;
        let reason = reason(&said)?;
        ensure!(reason.contains("frame"), "it says nothing about frames: {reason}");
        ensure!(!said.contains("{\""), "a line for programs is in the log: {said}");
        Ok(())
    }

    /// The first of two models is available although the second cannot be trained.
    fn saved(&self) -> Result<()> {
        let package = self.copy_of_package("saved-package")?;
        let text = fs::read_to_string(package.join(CONFIG))?;
        fs::write(package.join("second.yaml"), text.replace(STRATEGY.0, STRATEGY.1))?;
        let script = format!("{SCRIPT} {CONFIG}\nsleap-nn train --config-name second.yaml\n");
        fs::write(package.join("train-script.sh"), script)?;
        let said = self.failed_training("saved", &package)?;
        ensure!(said.contains("sleap-rtc fetch"), "it does not say how to fetch: {said}");
        let job = said.split_whitespace().find(|word| word.starts_with("job-"));
        let job = job.context("it does not name the job")?.trim_end_matches([':', ',', '.', ';']);
        let output = self.path("fetched");
        let mut fetch =
            self.demo.command("owner", &["fetch", job, "--ice-server", "none", "-o"])?;
        fetch.arg(&output).env("XDG_DATA_HOME", self.path("records"));
        let fetched = fetch.output()?;
        model_below(&output)
            .with_context(|| String::from_utf8_lossy(&fetched.stderr).into_owned())
            .map(drop)
    }

    fn copy_of_package(&self, name: &str) -> Result<PathBuf> {
        let (from, to) = (self.path("package"), self.path(name));
        fs::create_dir_all(&to)?;
        for entry in fs::read_dir(from)?.flatten() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
        Ok(to)
    }
}

/// Why a job failed, as a client says it: one line or several.
fn reason(said: &str) -> Result<&str> {
    let start = said.rfind("the job failed");
    let reason = said[start.with_context(|| format!("no word of the failure: {said}"))?..].trim();
    println!("    {reason}");
    Ok(reason)
}
