//! Why a script is rejected.

use super::MAX_RUNS;
use sleap_rtc_protocol::path::PathError;

/// Why a script is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// No line starts a trainer.
    #[error(
        "{script} has no line that starts a trainer (looked for {expected}); export the package \
         from SLEAP again"
    )]
    NoTrainer {
        /// The script's name.
        script: &'static str,
        /// What was looked for.
        expected: &'static str,
    },
    /// One of its lines is rejected.
    #[error("{script}, line {line}: {fault}; the line is: {text}")]
    Line {
        /// The script's name.
        script: &'static str,
        /// The number of the line, counted from 1.
        line: usize,
        /// What is wrong with it.
        fault: LineFault,
        /// The line itself.
        text: String,
    },
    /// It is not text.
    #[error("{0} is UTF-16 that is cut short; save it as UTF-8")]
    Encoding(&'static str),
    /// It starts more trainers than any real script.
    #[error("{script} starts more than {MAX_RUNS} trainers")]
    TooMany {
        /// The script's name.
        script: &'static str,
    },
}

/// What is wrong with one line of a script.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// Quotes do not match.
    #[error("its quotes do not match")]
    Quotes,
    /// A path leads out of the package.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A trainer would not read this path as a path.
    #[error("the path {0:?} is refused: it starts with a hyphen or contains a `$`")]
    Unsafe(String),
    /// It changes to a folder of another machine.
    #[error("`cd {0}` leaves the package; remove it")]
    Folder(String),
    /// Something that the command needs is missing.
    #[error("it names no {0}")]
    Missing(&'static str),
    /// The command does not take a config of this format.
    #[error("the config {0:?} is refused: `--config-name` takes a YAML file")]
    Config(String),
    /// Only a shell can do this.
    #[error(
        "`{0}` is refused: no shell runs the script, so write one command after the other, \
         without conditions, loops and pipes"
    )]
    Control(String),
    /// Only a shell could evaluate this.
    #[error("`{0}` is refused: no shell runs the script, so write what it stands for")]
    Opaque(String),
    /// It starts a program that is not a trainer.
    #[error(
        "`{0}` is refused: a worker runs trainers and nothing else; do it before you send the \
         package, and remove the line"
    )]
    Program(String),
    /// A program that is not known comes before a trainer.
    #[error(
        "`{0}` is not known to leave the trainer's command unchanged: write that command alone in the \
         line, because the worker decides where and how it runs"
    )]
    Launcher(String),
    /// `timeout`, which would end the training.
    #[error("`timeout` is refused: a worker sets no time limit; stop the training instead")]
    TimeLimit,
    /// It starts a training in a script for predictions.
    #[error("it starts a training, and this script is for predictions only")]
    Training,
    /// The option is not known.
    #[error("the option `{0}` is not supported")]
    Option(String),
    /// The option does not take this value.
    #[error("the option `{option}` does not take {value:?}")]
    Value {
        /// The option.
        option: String,
        /// The value.
        value: String,
    },
    /// The setting must not be changed.
    #[error(
        "the setting `{0}` is refused: it is not a setting of the trainer, or contains a `${{…}}`"
    )]
    Setting(String),
    /// A setting has several values, each for a training of its own.
    #[error("the setting `{0}` has several values (a sweep), and a line trains once: give it one")]
    Sweep(String),
    /// The value of a setting is a function of Hydra's.
    #[error("the setting `{0}` is computed by a function of Hydra's: write its value")]
    Function(String),
    /// The command names more than one config.
    #[error("it names the configs {0} and {1}, and a command trains one")]
    TwoConfigs(String, String),
    /// The line has an unexpected word.
    #[error("the word {0:?} is not understood")]
    Word(String),
}
