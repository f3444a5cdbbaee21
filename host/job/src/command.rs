//! Builds a trainer's command line and environment anew.
//!
//! A script reaches a process only through this module, and never through a shell. The trainer's
//! environment is small, because a configuration can leak any variable: Hydra expands `${oc.env:NAME}`.

use sleap_rtc_package::script::{
    ConfigOverride, Model, PathMap, Run, Track, Train, TrainLegacy, Value, quoted,
};
use sleap_rtc_protocol::job::JobType;
use sleap_rtc_protocol::path::RelPath;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Variables that every trainer receives if they are set. `*` at the end of a name matches
/// anything. Proxies and certificates lead out of a cluster; libraries on its nodes and file
/// systems need the others. None of them holds a secret.
const PASSED: &[&str] = &[
    "ALL_PROXY",
    "CUBLAS_*",
    "CUDA_*",
    "CUDNN_*",
    "CURL_CA_BUNDLE",
    "GLOO_*",
    "HDF5_*",
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "HOME",
    "LANG",
    "LANGUAGE",
    "KMP_*",
    "LC_*",
    "LD_LIBRARY_PATH",
    "LOGNAME",
    "MALLOC_*",
    "MKL_*",
    "MPLBACKEND",
    "MPLCONFIGDIR",
    "NCCL_*",
    "NO_PROXY",
    "NUMBA_CACHE_DIR",
    "NUMEXPR_*",
    "NVIDIA_*",
    "OMP_*",
    "OPENBLAS_*",
    "PATH",
    "PYTHONHOME",
    "PYTHONNOUSERSITE",
    "PYTHONPATH",
    "PYTHONUSERBASE",
    "PYTORCH_*",
    "QT_QPA_PLATFORM",
    "REQUESTS_CA_BUNDLE",
    "SLURM_TMPDIR",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TF_*",
    "TMPDIR",
    "TORCH_*",
    "TORCHINDUCTOR_*",
    "TRANSFORMERS_OFFLINE",
    "TRITON_CACHE_DIR",
    "TZ",
    "USER",
    "VIRTUAL_ENV",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XLA_FLAGS",
    "CONDA_PREFIX",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// Whether the variable holds a password, as a proxy's URL may. The operator has to name such a
/// variable.
fn holds_password(name: &str, value: &OsStr) -> bool {
    name.to_ascii_lowercase().ends_with("_proxy") && value.as_encoded_bytes().contains(&b'@')
}

/// Why no command line can be built for a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// No trainer.
    #[error(
        "no sleap-nn found on the worker: it has no sleap-nn, no sleap and no Python with \
         sleap_nn on its PATH; install one with: uv tool install \"sleap-nn[torch]\" --torch-backend auto"
    )]
    NotInstalled,
    /// No trainer for JSON configs.
    #[error(
        "{config} is a JSON config of SLEAP 1.4.1 or older, which needs `sleap-train` (SLEAP 1.4.1) \
         on the worker's PATH; or export the package again from SLEAP 1.5 or newer"
    )]
    NeedsLegacy {
        /// The config.
        config: String,
    },
    /// A prediction refers to a model that an earlier training of this job should have made.
    #[error("this prediction needs a model that the job did not make")]
    NoModel,
}

/// Finds trainers on a search path.
#[derive(Debug, Clone)]
pub struct TrainerSearch {
    search_path: OsString,
    /// The command that the operator configured instead: a program and its first arguments.
    trainer: Option<Vec<String>>,
}

/// A command line, ready to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// The program's absolute path.
    pub program: PathBuf,
    /// The arguments, without the program.
    pub arguments: Vec<String>,
}

/// The ports through which a trainer reaches the job's listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// Commands to the trainer.
    pub controller: u16,
    /// Messages from the trainer.
    pub publish: u16,
}

impl TrainerSearch {
    /// Searches the folders of `search_path`, which has the form of `PATH`.
    pub fn new(search_path: OsString) -> Self {
        Self { search_path, trainer: None }
    }

    /// Runs `trainer`, a program and its first arguments, in place of sleap-nn.
    pub fn with_trainer(self, trainer: Option<Vec<String>>) -> Self {
        Self { trainer, ..self }
    }

    /// The command that the operator configured, for `verb`.
    fn operators_command(&self, verb: &str) -> Option<CommandLine> {
        let (program, arguments) = self.trainer.as_deref()?.split_first()?;
        let program = match program.contains('/') {
            true => PathBuf::from(program),
            false => self.find(program).unwrap_or_else(|| PathBuf::from(program)),
        };
        let arguments = arguments.iter().cloned().chain([verb.to_owned()]);
        Some(CommandLine { program, arguments: arguments.collect() })
    }

    /// `python -m`, for a sleap-nn that was installed without a program of its own.
    fn python_module(&self, verb: &str) -> Option<CommandLine> {
        let program = ["python", "python3"].into_iter().find_map(|name| self.find(name))?;
        let libraries = program.parent()?.parent()?.join("lib").read_dir().ok()?;
        let has_module = |library: std::fs::DirEntry| {
            library.path().join("site-packages/sleap_nn/cli.py").is_file()
        };
        let arguments = ["-m", "sleap_nn.cli", verb].map(str::to_owned).to_vec();
        libraries.flatten().any(has_module).then_some(CommandLine { program, arguments })
    }

    /// The trainer of SLEAP 1.4.1.
    pub(crate) fn sleap_train(&self) -> Option<PathBuf> {
        self.find("sleap-train")
    }

    pub(crate) fn find(&self, name: &str) -> Option<PathBuf> {
        std::env::split_paths(&self.search_path)
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join(name))
            .find(|path| is_program(path))
    }

    /// The first of these that is installed: the operator's command, sleap-nn's program, its older
    /// names, SLEAP's programs, a Python with the module.
    pub(crate) fn find_command(&self, verb: &str) -> Result<CommandLine, CommandError> {
        if let Some(command) = self.operators_command(verb) {
            return Ok(command);
        }
        let own: &[&str] = match verb {
            PREDICT => &["sleap-nn-predict", "sleap-nn-track"],
            _ => &["sleap-nn-train"],
        };
        let installed = |name: &str, arguments: &[&str]| {
            let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
            Some(CommandLine { program: self.find(name)?, arguments })
        };
        let with_verb = |name: &str| installed(name, &[verb]);
        let without = || own.iter().find_map(|name| installed(name, &[]));
        with_verb("sleap-nn")
            .or_else(without)
            .or_else(|| with_verb("sleap"))
            .or_else(|| self.python_module(verb))
            .ok_or(CommandError::NotInstalled)
    }

    /// Checks that a trainer for this kind of job is installed.
    pub fn can_run(&self, job_type: JobType) -> Result<(), CommandError> {
        match job_type {
            JobType::Training if self.find("sleap-train").is_some() => Ok(()),
            JobType::Training => self.find_command(TRAIN).map(drop),
            JobType::Inference => self.find_command(PREDICT).map(drop),
        }
    }

    /// sleap-nn's own program, if it is installed.
    pub fn sleap_nn(&self) -> Option<PathBuf> {
        self.find("sleap-nn")
    }

    /// The program for one run.
    pub fn program(&self, run: &Run) -> Result<PathBuf, CommandError> {
        match run {
            Run::Train(_) => Ok(self.find_command(TRAIN)?.program),
            Run::TrainLegacy(run) => self.legacy(run),
            Run::Track(_) => Ok(self.find_command(PREDICT)?.program),
        }
    }

    /// The command line of a run. A training needs `ports`. `made` maps the index of each earlier
    /// training of this job to the folder of its model.
    pub fn command(
        &self,
        run: &Run,
        ports: Option<Ports>,
        made: &HashMap<usize, PathBuf>,
    ) -> Result<CommandLine, CommandError> {
        match run {
            Run::Train(run) => self.train(run, ports),
            Run::TrainLegacy(run) => {
                let arguments = vec![legacy_config(&run.config.path), run.labels.path.to_string()];
                Ok(CommandLine { program: self.legacy(run)?, arguments })
            }
            Run::Track(run) => self.track(run, made),
        }
    }

    fn train(&self, run: &Train, ports: Option<Ports>) -> Result<CommandLine, CommandError> {
        let CommandLine { program, mut arguments } = self.find_command(TRAIN)?;
        let config = run.config.path.as_str();
        let (folder, name) = config.rsplit_once('/').unwrap_or((".", config));
        arguments.extend(["--config-name", name, "--config-dir", folder].map(str::to_owned));
        for PathMap { option, old, new } in &run.maps {
            arguments.extend([option.clone(), old.clone(), new.to_string()]);
        }
        for (old, new) in run.videos.iter().filter(|_| maps_videos(run)) {
            arguments.extend([VIDEO_PATH_MAP.to_owned(), old.clone(), new.clone()]);
        }
        arguments.extend(run.settings.iter().map(setting_argument));
        // Hydra applies settings in order. These come last, because a script may set or remove what they
        // belong to.
        arguments.push("++trainer_config.ckpt_dir=\"models\"".to_owned());
        arguments.push(format!("++trainer_config.run_name={}", quoted(run.folder_name())));
        if let Some(Ports { controller, publish }) = ports {
            arguments.push(format!("++trainer_config.zmq.controller_port={controller}"));
            arguments.push(format!("++trainer_config.zmq.publish_port={publish}"));
        }
        Ok(CommandLine { program, arguments })
    }

    fn legacy(&self, run: &TrainLegacy) -> Result<PathBuf, CommandError> {
        let config = run.config.path.to_string();
        self.find("sleap-train").ok_or(CommandError::NeedsLegacy { config })
    }

    fn track(
        &self,
        run: &Track,
        made: &HashMap<usize, PathBuf>,
    ) -> Result<CommandLine, CommandError> {
        let CommandLine { program, mut arguments } = self.find_command(PREDICT)?;
        let data = run.mounted.clone().unwrap_or_else(|| run.data.path.to_string());
        arguments.extend(["--data_path".to_owned(), data]);
        for model in &run.models {
            let folder = match model {
                Model::Named(place) => place.path.to_string(),
                Model::Made(run) => {
                    let folder = made.get(run).ok_or(CommandError::NoModel)?;
                    folder.to_string_lossy().into_owned()
                }
            };
            arguments.extend(["--model_paths".to_owned(), folder]);
        }
        arguments.extend(["-o".to_owned(), run.output.to_string(), GUI.to_owned()]);
        for option in &run.options {
            arguments.push(option.name.to_owned());
            arguments.extend(option.value.clone());
        }
        Ok(CommandLine { program, arguments })
    }
}

/// Whether sleap-nn itself can map the paths of this training's videos, by an option. A video that
/// consists of thousands of pictures would exceed the longest possible command line.
pub(crate) fn maps_videos(run: &Train) -> bool {
    run.videos.len() <= MAX_MAPPED
}

const MAX_MAPPED: usize = 500;
const VIDEO_PATH_MAP: &str = "--video-path-map";
const TRAIN: &str = "train";
/// The verb for a prediction, in sleap-nn 0.3.
const PREDICT: &str = "predict";
const TRACK: &str = "track";
/// The verb is among this many words. Later words are arguments of the user, one of which may look the same.
const MAX_WORDS_TO_VERB: usize = 8;
/// The option with which a trainer reports progress as JSON lines on stdout.
const GUI: &str = "--gui";

impl CommandLine {
    /// The command line for people, between backticks. The room sees it, so the values of settings are left
    /// out: a container's `--env NAME=VALUE` may be a secret.
    pub fn quoted(&self) -> String {
        let without_value = |argument: &String| match argument.split_once('=') {
            Some((name, _)) => format!("{name}=…"),
            None => argument.clone(),
        };
        let words = std::iter::once(self.program.display().to_string());
        let words = words.chain(self.arguments.iter().map(without_value));
        format!("`{}`", words.collect::<Vec<_>>().join(" "))
    }

    /// The same command without [`GUI`], which older versions do not know.
    pub fn without_progress(mut self) -> Self {
        self.arguments.retain(|argument| argument != GUI);
        self
    }

    /// The same command as versions before 0.3 spell it, or `None` if they spell it alike.
    pub fn as_older_versions(mut self) -> Option<Self> {
        let mut first_words = self.arguments.iter_mut().take(MAX_WORDS_TO_VERB);
        let verb = first_words.find(|word| *word == PREDICT)?;
        *verb = TRACK.to_owned();
        Some(self)
    }
}

/// Where [`super::runner`] writes the trainer's copy of a JSON config.
pub fn legacy_config(config: &RelPath) -> String {
    format!("{config}.sleap-rtc.json")
}

/// Whether `path` is an executable file.
pub(crate) fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// One setting in Hydra's grammar. Text is always in literal double quotes. `++` sets a key whether
/// or not the config has it.
fn setting_argument(setting: &ConfigOverride) -> String {
    match &setting.value {
        Value::Bare(value) => format!("++{}={value}", setting.key),
        Value::Text(value) => format!("++{}={}", setting.key, quoted(value)),
        Value::Removed => format!("~{}", setting.key),
    }
}

/// The variables that a trainer sees: a fixed list, and those that the operator adds.
pub fn trainer_environment(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    pass_env: &[String],
) -> Vec<(OsString, OsString)> {
    let allowed = |(name, value): &(OsString, OsString)| {
        let Some(name) = name.to_str() else { return false };
        let is_passed = PASSED.iter().any(|pattern| matches_pattern(pattern, name));
        (is_passed && !holds_password(name, value))
            || pass_env.iter().any(|pattern| matches_pattern(pattern, name))
    };
    variables.into_iter().filter(allowed).collect()
}

/// The names of the variables that a trainer sees only because the operator adds them.
pub fn added_by_operator(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    pass_env: &[String],
) -> Vec<String> {
    let is_added = |name: &String| {
        let is_passed = PASSED.iter().any(|pattern| matches_pattern(pattern, name));
        !is_passed && pass_env.iter().any(|pattern| matches_pattern(pattern, name))
    };
    let names = variables.into_iter().filter_map(|(name, _)| name.into_string().ok());
    names.filter(is_added).collect()
}

fn matches_pattern(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sleap_rtc_package::script::{ScriptFile, parse};
    use sleap_rtc_protocol::job::JobType;

    /// A search path with these programs.
    fn trainer_search(names: &[&str]) -> (tempfile::TempDir, TrainerSearch) {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let trainer_search = TrainerSearch::new(folder.path().into());
        (folder, trainer_search)
    }

    fn none() -> HashMap<usize, PathBuf> {
        HashMap::new()
    }

    fn run(job_type: JobType, text: &str) -> Run {
        parse(ScriptFile::of(job_type), text).unwrap().runs.remove(0)
    }

    #[test]
    fn a_training_command_is_quoted_for_hydra() {
        let (folder, trainer_search) = trainer_search(&["sleap-nn"]);
        let text = "sleap train --config-name c/a.yaml --config-dir . \
            trainer_config.run_name=240101.centroid.n=12 trainer_config.max_epochs=3 \
            trainer_config.trainer_accelerator=cpu 'data_config.train_labels_path=[\"a b.slp\"]'";
        let ports = Ports { controller: 1, publish: 2 };
        let command =
            trainer_search.command(&run(JobType::Training, text), Some(ports), &none()).unwrap();
        assert_eq!(command.program, folder.path().join("sleap-nn"));
        assert_eq!(
            command.arguments,
            [
                "train",
                "--config-name",
                "a.yaml",
                "--config-dir",
                "c",
                "++trainer_config.max_epochs=3",
                "++trainer_config.trainer_accelerator=\"cpu\"",
                "++data_config.train_labels_path=[\"a b.slp\"]",
                "++trainer_config.ckpt_dir=\"models\"",
                "++trainer_config.run_name=\"240101.centroid.n=12\"",
                "++trainer_config.zmq.controller_port=1",
                "++trainer_config.zmq.publish_port=2",
            ]
        );
    }

    #[test]
    fn every_name_of_a_trainer_is_found() {
        let track = run(JobType::Inference, "sleap track -i a.slp -m m -o o.slp --max_instances 2");
        for (name, verb) in [("sleap-nn", true), ("sleap-nn-track", false), ("sleap", true)] {
            let (_folder, trainer_search) = trainer_search(&[name]);
            let command = trainer_search.command(&track, None, &none()).unwrap();
            let expected = "--data_path a.slp --model_paths m -o o.slp --gui --max_instances 2";
            let start = if verb { "predict " } else { "" };
            assert_eq!(command.arguments.join(" "), format!("{start}{expected}"));
            assert!(!command.without_progress().arguments.contains(&GUI.to_owned()));
        }
    }

    #[test]
    fn missing_trainers_are_named() {
        let (_folder, trainer_search) = trainer_search(&[]);
        let error =
            trainer_search.command(&run(JobType::Training, "sleap-nn train a.yaml"), None, &none());
        assert!(error.unwrap_err().to_string().contains("uv tool install"));
        let error = trainer_search.command(
            &run(JobType::Training, "sleap-train a.json b.slp"),
            None,
            &none(),
        );
        assert!(error.unwrap_err().to_string().contains("SLEAP 1.4.1"));
    }

    #[test]
    fn only_listed_variables_are_passed() {
        let given =
            ["PATH", "LC_ALL", "CUDA_VISIBLE_DEVICES", "SLEAP_RTC_TOKEN", "AWS_SECRET", "MINE_X"];
        let given = given.map(|name| (OsString::from(name), OsString::new()));
        let names: Vec<_> = trainer_environment(given, &["MINE_*".to_owned()])
            .into_iter()
            .map(|(name, _)| name.into_string().unwrap())
            .collect();
        assert_eq!(names, ["PATH", "LC_ALL", "CUDA_VISIBLE_DEVICES", "MINE_X"]);
    }

    #[test]
    fn cluster_variables_are_passed_without_passwords() {
        let given = [
            ("HDF5_USE_FILE_LOCKING", "FALSE"),
            ("https_proxy", "http://proxy:3128"),
            ("HTTPS_PROXY", "http://ada:secret@proxy:3128"),
            ("SSL_CERT_FILE", "/etc/ssl/site.pem"),
            ("KMP_DUPLICATE_LIB_OK", "TRUE"),
            ("TF_FORCE_GPU_ALLOW_GROWTH", "true"),
            ("MPLCONFIGDIR", "/tmp"),
            ("WANDB_API_KEY", "secret"),
        ];
        let passed = |pass_env: &[String]| {
            let given = given.map(|(name, value)| (OsString::from(name), OsString::from(value)));
            trainer_environment(given, pass_env).len()
        };
        assert_eq!(passed(&[]), 6);
        assert_eq!(passed(&["HTTPS_PROXY".to_owned()]), 7);
    }
}
