//! Finds the trainer that a command starts.

use super::shell::{Word, assignment};
use super::{LineFault, joined};

/// The trainer that a command starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// `sleap-nn train`, under any of its names.
    Train,
    /// `sleap-train` of SLEAP up to 1.4.1.
    LegacyTrain,
    /// `sleap-nn track` or `predict`, under any of their names.
    Track,
}

/// A trainer among the words of a command.
pub(crate) struct FoundProgram<'a> {
    pub(crate) program: Program,
    /// The words before the trainer.
    pub(crate) before: &'a [Word],
    pub(crate) arguments: &'a [Word],
}

/// Programs that start other programs, after whose names a trainer may follow. The worker decides
/// what they would set, such as an environment, a queue or a priority.
const LAUNCHERS: [&str; 41] = [
    "aprun",
    "apptainer",
    "arch",
    "caffeinate",
    "chrt",
    "command",
    "conda",
    "docker",
    "env",
    "exec",
    "hatch",
    "ibrun",
    "ionice",
    "jsrun",
    "mamba",
    "micromamba",
    "mpirun",
    "nice",
    "nohup",
    "numactl",
    "pdm",
    "pipenv",
    "pipx",
    "pixi",
    "podman",
    "poetry",
    "rye",
    "setsid",
    "singularity",
    "srun",
    "stdbuf",
    "sudo",
    "systemd-run",
    "taskset",
    "time",
    "unbuffer",
    "uv",
    "uvx",
    "winpty",
    "wsl",
    "xvfb-run",
];

/// Options of these programs with values that could be mistaken for a trainer: names of
/// environments, packages and jobs.
const LAUNCHER_NAMES: [&str; 9] =
    ["--clone", "--from", "--job-name", "--name", "--prefix", "--with", "-J", "-n", "-p"];

/// Options with which these programs start another one in a different folder.
const FOLDER_OPTIONS: [(&str, &[&str]); 13] = [
    ("apptainer", &["--cwd", "--pwd"]),
    ("conda", &["--cwd"]),
    ("docker", &["--workdir", "-w"]),
    ("env", &["--chdir", "-C"]),
    ("mamba", &["--cwd"]),
    ("micromamba", &["--cwd"]),
    ("mpirun", &["--wd", "--wdir", "-wd", "-wdir"]),
    ("podman", &["--workdir", "-w"]),
    ("poetry", &["--directory", "-C"]),
    ("singularity", &["--cwd", "--pwd"]),
    ("srun", &["--chdir", "-D"]),
    ("uv", &["--directory"]),
    ("uvx", &["--directory"]),
];

impl FoundProgram<'_> {
    /// The folders that the programs before the trainer change to, in order.
    pub(crate) fn folders(&self) -> Vec<Word> {
        let (mut options, mut folders): (&[&str], _) = (&[], Vec::new());
        let mut words = self.before.iter();
        while let Some(word) = words.next() {
            let text = word.text.as_str();
            if LAUNCHERS.contains(&base_name(text)) {
                let own = FOLDER_OPTIONS.iter().find(|(name, _)| *name == base_name(text));
                options = own.map_or(&[], |(_, options)| *options);
            } else if options.contains(&text) {
                folders.extend(words.next().cloned());
            } else if let Some(inline) = inline(text, options) {
                folders.push(Word { text: inline.to_owned(), opaque: word.opaque.clone() });
            }
        }
        folders
    }
}

/// The value of one of `options` in a word such as `--chdir=sub` or `-Csub`.
fn inline<'w>(word: &'w str, options: &[&str]) -> Option<&'w str> {
    options.iter().find_map(|option| {
        let rest = word.strip_prefix(option)?;
        let is_short = option.len() == 2;
        rest.strip_prefix('=').or_else(|| Some(rest).filter(|rest| is_short && !rest.is_empty()))
    })
}

/// Finds the trainer: the first word of the command, or one after a program that starts others.
pub(crate) fn find(words: &[Word]) -> Result<Option<FoundProgram<'_>>, LineFault> {
    let at = words.iter().take_while(|word| assignment(&word.text).is_some()).count();
    let Some(first) = words.get(at) else { return Ok(None) };
    let found = |at: usize| {
        let (program, skipped) = trainer(&words[at..])?;
        Some(FoundProgram { program, before: &words[..at], arguments: &words[at + skipped..] })
    };
    if let Some(found) = found(at) {
        return Ok(Some(found));
    }
    let starter = base_name(&first.text);
    if starter == "timeout" && words[at..].windows(2).any(|pair| trainer(pair).is_some()) {
        return Err(LineFault::TimeLimit);
    }
    if !LAUNCHERS.contains(&starter) {
        return Ok(None);
    }
    let at = at + 1;
    let is_named = |at: usize| LAUNCHER_NAMES.contains(&words[at - 1].text.as_str());
    let unnamed = (at..words.len()).find_map(|at| if is_named(at) { None } else { found(at) });
    // The options of some launchers have no value: `time -p sleap-nn train`.
    Ok(unnamed.or_else(|| (at..words.len()).find_map(found)))
}

/// Why a command that is not known is refused.
pub(crate) fn refusal(words: &[Word]) -> LineFault {
    let apart = words.iter().flat_map(|word| word.text.split_whitespace());
    let apart: Vec<Word> = apart.map(|text| Word { text: text.into(), opaque: None }).collect();
    match (1..apart.len()).find(|at| trainer(&apart[*at..]).is_some()) {
        Some(at) => LineFault::Launcher(joined(&apart[..at])),
        None => LineFault::Program(joined(words)),
    }
}

/// The trainer at the start of `words`, and how many words name it.
fn trainer(words: &[Word]) -> Option<(Program, usize)> {
    let text = |index: usize| words.get(index).map(|word| word.text.as_str());
    match (base_name(text(0)?), text(1)) {
        ("sleap-nn" | "sleap", Some(verb)) => Some((verb_program(verb)?, 2)),
        ("sleap-nn-train", _) => Some((Program::Train, 1)),
        ("sleap-train", _) if words.iter().any(|word| word.text.starts_with("--config-")) => {
            Some((Program::Train, 1))
        }
        ("sleap-train", _) => Some((Program::LegacyTrain, 1)),
        ("sleap-nn-track" | "sleap-nn-predict" | "sleap-track" | "sleap-predict", _) => {
            Some((Program::Track, 1))
        }
        (python, _) if python.starts_with("python") || python == "py" => module(words),
        _ => None,
    }
}

fn verb_program(verb: &str) -> Option<Program> {
    match verb {
        "train" => Some(Program::Train),
        "track" | "predict" => Some(Program::Track),
        _ => None,
    }
}

/// `python -m sleap_nn.cli train` and the like.
fn module(words: &[Word]) -> Option<(Program, usize)> {
    let flags = words[1..]
        .iter()
        .take_while(|word| word.text.starts_with('-') && word.text != "-m" && word.text != "-c");
    let at = 1 + flags.count();
    if words.get(at)?.text != "-m" {
        return None;
    }
    match words.get(at + 1)?.text.as_str() {
        "sleap_nn" | "sleap_nn.cli" => Some((verb_program(&words.get(at + 2)?.text)?, at + 3)),
        "sleap_nn.train" => Some((Program::Train, at + 2)),
        "sleap_nn.predict" => Some((Program::Track, at + 2)),
        "sleap.nn.training" => Some((Program::LegacyTrain, at + 2)),
        "sleap.nn.inference" => Some((Program::Track, at + 2)),
        _ => None,
    }
}

/// The program's name, without its folder, Windows' file extension, and the extras and versions that
/// installers accept (`sleap-nn[torch]`, `sleap-nn==0.3.5`, `sleap-nn@latest`).
pub(crate) fn base_name(word: &str) -> &str {
    let name = word.rsplit(['/', '\\']).next().unwrap_or(word);
    let name = name.split(['[', '@', '=', '<', '>']).next().unwrap_or(name);
    name.strip_suffix(".exe").unwrap_or(name)
}
