//! Reads the commands of a script: which of them start a trainer, and which have no effect.

use super::paths::names_top;
use super::program::{self, Program};
use super::shell::{ShellCommand, Word, assignment};
use super::words::Words;
use super::{
    Folder, LineFault, Run, Script, ScriptFile, is_foreign, joined, shortened, track, train,
};

/// Whether the script continues after a command.
pub(crate) enum Next {
    Continue,
    End,
}

/// Reads a script's commands, one after the other.
pub(crate) struct Reader {
    file: ScriptFile,
    /// The current folder, and the one before it, to which `cd -` returns.
    folder: Folder,
    previous: Option<Folder>,
    /// The folders to which `popd` returns.
    pushed: Vec<Folder>,
    pub(crate) script: Script,
}

/// Commands that prepare, print or wait, and have no effect on a trainer here.
const WITHOUT_EFFECT: &[&str] = &[
    ":",
    "cat",
    "clear",
    "date",
    "deactivate",
    "declare",
    "df",
    "disown",
    "echo",
    "export",
    "free",
    "hash",
    "hostname",
    "ls",
    "mkdir",
    "ml",
    "module",
    "nvidia-smi",
    "pip",
    "printenv",
    "printf",
    "pwd",
    "readonly",
    "shopt",
    "sleep",
    "sync",
    "trap",
    "true",
    "type",
    "typeset",
    "ulimit",
    "umask",
    "uname",
    "unset",
    "wait",
    "which",
    "whoami",
];
/// Programs that manage environments, and their commands that only prepare one.
const ENVIRONMENTS: &[&str] = &["conda", "mamba", "micromamba", "pixi", "poetry", "uv"];
const PREPARES: &[&str] =
    &["activate", "add", "deactivate", "info", "install", "list", "pip", "sync", "venv"];

impl Reader {
    pub(crate) fn new(file: ScriptFile) -> Self {
        let script = Script { runs: Vec::new(), remarks: Vec::new() };
        Self { file, folder: Folder::default(), previous: None, pushed: Vec::new(), script }
    }

    pub(crate) fn take(&mut self, command: &ShellCommand) -> Result<Next, LineFault> {
        let words = &command.words;
        if let Some(found) = program::find(words)? {
            if !found.before.is_empty() {
                self.remark(command, format!("`{}` is ignored", joined(found.before)));
            }
            if let Some(file) = &command.writes_to {
                self.remark(command, format!("the output goes to the job's log, not to {file}"));
            }
            let run = self.run(command, &found)?;
            self.script.runs.push(run);
            // `exec` puts the trainer in the shell's place, so nothing follows.
            let is_last = found.before.first().is_some_and(|word| word.text == "exec");
            return Ok(if is_last { Next::End } else { Next::Continue });
        }
        let name = program::base_name(&words[0].text);
        match name {
            "cd" => self.enter(words)?,
            "pushd" => {
                let before = self.folder.clone();
                self.enter(words)?;
                self.pushed.push(before);
            }
            "popd" => {
                let before = self.pushed.pop().ok_or_else(|| LineFault::Folder("-".into()))?;
                self.change_to(before);
            }
            "exit" | "return" => return Ok(Next::End),
            // It redirects the output of all commands.
            "exec" if words.len() == 1 => self.ignore(command),
            "eval" if words.iter().any(|word| prepares_environment(&word.text)) => {
                self.ignore(command);
            }
            _ if words.iter().all(|word| assignment(&word.text).is_some()) => {}
            "sleap-nn" | "sleap" if shows(&words[1..]) => self.ignore(command),
            "." | "source" if words.get(1).is_some_and(|word| !prepares(&word.text)) => {
                return Err(LineFault::Program(joined(words)));
            }
            _ if is_without_effect(name, words) && command.writes_to.is_none() => {
                self.ignore(command);
            }
            _ => return Err(program::refusal(words)),
        }
        Ok(Next::Continue)
    }

    fn run(
        &mut self,
        command: &ShellCommand,
        found: &program::FoundProgram<'_>,
    ) -> Result<Run, LineFault> {
        let mut folder = self.folder.clone();
        for to in found.folders() {
            // A folder of a container or of another machine stands for the package.
            if to.opaque.is_some() || !is_foreign(&to.text) {
                let from = Self { folder, ..Self::new(self.file) };
                folder = from.entered(&to)?;
            }
        }
        let mut words = Words::new(found.arguments, &folder);
        let run = match found.program {
            Program::Track => track::parse(&mut words)?,
            _ if self.file != ScriptFile::Train => return Err(LineFault::Training),
            Program::Train => train::parse(&mut words)?,
            Program::LegacyTrain => train::parse_legacy(&mut words)?,
        };
        for remark in words.remarks {
            self.remark(command, remark);
        }
        Ok(run)
    }

    fn ignore(&mut self, command: &ShellCommand) {
        self.remark(command, format!("`{}` is ignored", joined(&command.words)));
    }

    fn remark(&mut self, command: &ShellCommand, what: String) {
        self.script.remarks.push(format!("{}, line {}: {what}", self.file.name(), command.line));
    }

    /// `cd DIR`.
    fn enter(&mut self, words: &[Word]) -> Result<(), LineFault> {
        let is_option = |word: &&Word| matches!(word.text.as_str(), "--" | "-L" | "-P" | "-e");
        let mut places = words[1..].iter().skip_while(is_option);
        let to = places.next().ok_or_else(|| LineFault::Folder(String::new()))?;
        if let Some(word) = places.next() {
            return Err(LineFault::Word(shortened(&word.text)));
        }
        let folder = match to.text.as_str() {
            "-" if to.opaque.is_none() => {
                self.previous.clone().ok_or_else(|| LineFault::Folder("-".into()))?
            }
            _ => self.entered(to)?,
        };
        self.change_to(folder);
        Ok(())
    }

    /// The folder that a word names. The script's own folder is the top of the package.
    fn entered(&self, to: &Word) -> Result<Folder, LineFault> {
        match &to.opaque {
            None => self.folder.enter(&to.text),
            Some(written) if names_top(written) => {
                Folder::default().enter(&to.text.replacen(written, ".", 1))
            }
            Some(written) if self.folder.is_called(written) => {
                self.folder.enter(&to.text.replacen(written, ".", 1))
            }
            Some(written) => Err(LineFault::Opaque(shortened(written))),
        }
    }

    fn change_to(&mut self, folder: Folder) {
        self.previous = Some(std::mem::replace(&mut self.folder, folder));
    }
}

fn is_without_effect(name: &str, words: &[Word]) -> bool {
    let second = words.get(1).map_or("", |word| word.text.as_str());
    let shows_version = words.len() == 2 && matches!(second, "--version" | "-V");
    match name {
        "set" => words[1..].iter().all(|word| is_shell_option(&word.text)),
        "." | "source" => true,
        // `command -v` finds a program and starts none.
        "command" => matches!(second, "-v" | "-V"),
        name if ENVIRONMENTS.contains(&name) => shows_version || PREPARES.contains(&second),
        name => shows_version || WITHOUT_EFFECT.contains(&name),
    }
}

/// Whether a word of `set` only changes how a shell works. Other words become the script's arguments.
fn is_shell_option(word: &str) -> bool {
    let is_named =
        ["pipefail", "errexit", "nounset", "xtrace", "noclobber", "noglob"].contains(&word);
    is_named || (word.len() > 1 && word != "--" && word.starts_with(['-', '+']))
}

/// Whether a sourced file only prepares an environment, as its name says. Any other could start a training,
/// and is not read.
fn prepares(file: &str) -> bool {
    let name = program::base_name(file);
    let of_packages = file.split('/').any(|part| matches!(part, "etc" | "init" | "opt" | "usr"));
    is_foreign(file) && of_packages
        || name.starts_with(['.', '$'])
        || name.starts_with("activate")
        || ["bashrc", "conda.sh", "mamba.sh", "modules.sh", "profile", "setvars.sh"].contains(&name)
}

/// Whether `eval` gets only what makes `conda activate` and the like work.
fn prepares_environment(written: &str) -> bool {
    let program = written.strip_prefix("$(").and_then(|rest| rest.split_whitespace().next());
    program.is_some_and(|program| ENVIRONMENTS.contains(&program::base_name(program)))
}

/// Commands of `sleap-nn` that only print something.
fn shows(words: &[Word]) -> bool {
    match words.first().map_or("", |word| word.text.as_str()) {
        "--version" | "--help" | "-h" | "-v" => words.len() == 1,
        word => matches!(word, "doctor" | "diagnostic" | "info" | "system"),
    }
}
