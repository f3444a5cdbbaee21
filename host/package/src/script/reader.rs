//! Reads the commands of a script: which of them start a trainer, and which have no effect.

use super::paths::names_top;
use super::program::{self, Program};
use super::shell::{ShellCommand, Word, assignment};
use super::words::Words;
use super::{Folder, LineFault, Run, Script, ScriptFile, joined, shortened, track, train};

/// Whether the script continues after a command.
pub(crate) enum Next {
    Continue,
    End,
}

/// Reads a script's commands, one after the other.
pub(crate) struct Reader {
    file: ScriptFile,
    /// The current folder, which `cd` changes, and the ones before it.
    folder: Folder,
    earlier: Vec<Folder>,
    pub(crate) script: Script,
}

/// Commands that prepare, print or wait, and have no effect on a trainer here.
const WITHOUT_EFFECT: &[&str] = &[
    ":",
    ".",
    "cat",
    "date",
    "deactivate",
    "df",
    "echo",
    "export",
    "free",
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
    "set",
    "shopt",
    "sleep",
    "source",
    "trap",
    "true",
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
        Self { file, folder: Folder::default(), earlier: Vec::new(), script }
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
            return Ok(Next::Continue);
        }
        let name = program::base_name(&words[0].text);
        match name {
            "cd" | "pushd" => self.enter(words)?,
            "popd" => self.go_back(),
            "exit" | "return" => return Ok(Next::End),
            // It redirects the output of all commands.
            "exec" if words.len() == 1 => self.ignore(command),
            "eval" if words.iter().any(|word| prepares_environment(&word.text)) => {
                self.ignore(command);
            }
            _ if words.iter().all(|word| assignment(&word.text).is_some()) => {}
            "sleap-nn" | "sleap" if words.get(1).is_some_and(|word| shows(&word.text)) => {
                self.ignore(command);
            }
            _ if is_without_effect(name, words) && command.writes_to.is_none() => {
                self.ignore(command);
            }
            _ => return Err(LineFault::Program(joined(words))),
        }
        Ok(Next::Continue)
    }

    fn run(
        &mut self,
        command: &ShellCommand,
        found: &program::FoundProgram<'_>,
    ) -> Result<Run, LineFault> {
        let mut words = Words::new(found.arguments, &self.folder);
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

    /// `cd DIR`. The script's own folder is the top of the package.
    fn enter(&mut self, words: &[Word]) -> Result<(), LineFault> {
        let to = words[1..].iter().find(|word| word.text != "--");
        let Some(to) = to else { return Err(LineFault::Folder(String::new())) };
        let folder = match &to.opaque {
            None if to.text == "-" => {
                self.go_back();
                return Ok(());
            }
            None => self.folder.enter(&to.text)?,
            Some(written) if names_top(written) => Folder::default(),
            Some(written) if self.folder.is_called(written) => return Ok(()),
            Some(written) => return Err(LineFault::Opaque(shortened(written))),
        };
        self.earlier.push(std::mem::replace(&mut self.folder, folder));
        Ok(())
    }

    /// `popd` and `cd -`.
    fn go_back(&mut self) {
        self.folder = self.earlier.pop().unwrap_or_default();
    }
}

fn is_without_effect(name: &str, words: &[Word]) -> bool {
    let second = words.get(1).map_or("", |word| word.text.as_str());
    WITHOUT_EFFECT.contains(&name) || ENVIRONMENTS.contains(&name) && PREPARES.contains(&second)
}

/// Whether `eval` gets only what makes `conda activate` and the like work.
fn prepares_environment(written: &str) -> bool {
    let program = written.strip_prefix("$(").and_then(|rest| rest.split_whitespace().next());
    program.is_some_and(|program| ENVIRONMENTS.contains(&program::base_name(program)))
}

/// Commands of `sleap-nn` that only print something.
fn shows(word: &str) -> bool {
    matches!(word, "--version" | "--help" | "-h" | "-v" | "doctor" | "diagnostic" | "system")
}
