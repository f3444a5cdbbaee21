//! `sleap-rtc plugin`: what authors of policy plugins need.

mod bench;
mod build;
mod folder;
mod inspect;
mod new;
mod recorded;
mod tool;
mod validate;

use super::exit::{Exit, Failure};
use clap::{Args, Subcommand};
use sleap_rtc_policy::LocalTime;
use sleap_rtc_policy::examine::{self, ExamineError, PluginFile};
use sleap_rtc_policy::{OnFailure, PluginConfig, PolicyConfig};
use sleap_rtc_protocol::ids::PeerId;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// The examples under `--help`.
pub(super) const EXAMPLES: &str = "\
Examples:
  Begin a plugin, and make a component of it:
    sleap-rtc plugin new fair --lang python
    sleap-rtc plugin build fair
  Find out what is wrong with a plugin before anybody depends on it:
    sleap-rtc plugin validate fair.wasm --setting 'owner=\"ada\"'
  Show what is in it:
    sleap-rtc plugin inspect fair.wasm
  Rank a room that was recorded with `sleap-rtc room snapshot`:
    sleap-rtc plugin test fair.wasm --room room.json --job job.json --expect gpu2
  Put it in the plugin folder, and see what is there:
    sleap-rtc plugin add fair.wasm --setting 'owner=\"ada\"'
    sleap-rtc plugin list";

/// The options of `plugin`.
#[derive(Args)]
pub struct PluginArgs {
    #[command(subcommand)]
    command: PluginCommand,
}

#[derive(Subcommand)]
enum PluginCommand {
    /// Begin a plugin: a folder with its source, the contract and a test
    New(new::NewArgs),
    /// Make a component of a plugin's folder and try it: exit code 2 if it is not valid
    Build(build::BuildArgs),
    /// Try a plugin with built-in cases: exit code 0 if it copes with all, else 2
    Validate(FileArgs),
    /// Show what is in a plugin, and how long it takes
    Inspect(FileArgs),
    /// Time its calls in rooms of 10, 100 and 1,000 workers, beside the built-in plugin
    Bench(FileArgs),
    /// Show the plugins in the plugin folder and in the configuration
    List,
    /// Validate a plugin, copy it into the plugin folder and accept it in plugins.lock
    Add(FileArgs),
    /// Remove a plugin from the plugin folder and from plugins.lock
    Remove {
        /// Its name, as `plugin list` shows it
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Accept all plugins as they are now: write plugins.lock, which `[policy] locked` asks
    Lock,
    /// Ask about a recorded room: exit code 1 if the worker of --expect is not first, or refuses
    Test(TestArgs),
}

#[derive(Args)]
struct FileArgs {
    /// The component: a path, or a name in the plugin folder
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    terms: TermArgs,
}

/// What a plugin is tried with.
#[derive(Args)]
struct TermArgs {
    /// A setting, as under `settings` in the configuration; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    setting: Vec<Setting>,
    /// Longest time of one call
    #[arg(long, value_name = "MS", default_value_t = 200)]
    timeout_ms: u64,
    /// Most memory of one call
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    memory_mib: u64,
}

#[derive(Args)]
struct TestArgs {
    #[command(flatten)]
    file: FileArgs,
    /// The room's workers, as `sleap-rtc room snapshot` writes them
    #[arg(long, value_name = "ROOM.json")]
    room: PathBuf,
    /// The job: its description as JSON, or a training package
    #[arg(long, value_name = "JOB.json")]
    job: PathBuf,
    /// The worker that must come first, or take the job if the plugin only admits jobs
    #[arg(long, value_name = "PEER_ID", allow_hyphen_values = true)]
    expect: Option<PeerId>,
    /// The local time that the plugin is told, as 2026-01-14T10:00; now when absent
    #[arg(long, value_name = "TIME")]
    at: Option<LocalTime>,
}

/// `KEY=VALUE`, the value being TOML, or else a text.
#[derive(Debug, Clone, PartialEq)]
struct Setting(String, toml::Value);

impl FromStr for Setting {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) = text.split_once('=').ok_or("expects KEY=VALUE, such as hours=8")?;
        let table = format!("value = {value}").parse::<toml::Table>().ok();
        let parsed = table.filter(|table| table.len() == 1).and_then(|mut t| t.remove("value"));
        let value = parsed.unwrap_or_else(|| toml::Value::String(value.to_owned()));
        Ok(Self(key.trim().to_owned(), value))
    }
}

/// What to do with which plugin, checked.
#[derive(Debug, Clone, PartialEq)]
pub enum PluginOptions {
    /// `plugin new`
    New(new::NewOptions),
    /// `plugin build`
    Build(build::BuildOptions),
    /// What is done with one file.
    File {
        /// A path, or a name in the plugin folder.
        file: PathBuf,
        /// Settings and limits.
        config: PluginConfig,
        /// What to do with it.
        task: Task,
    },
    /// `plugin list`
    List,
    /// `plugin remove`
    Remove(String),
    /// `plugin lock`
    Lock,
}

/// What to do with a plugin's file.
#[derive(Debug, Clone, PartialEq)]
pub enum Task {
    /// `plugin validate`
    Validate,
    /// `plugin inspect`
    Inspect,
    /// `plugin bench`
    Bench,
    /// `plugin add`
    Add,
    /// `plugin test`
    Test(recorded::Recorded),
}

impl PluginArgs {
    pub(super) fn check(self) -> PluginOptions {
        let (FileArgs { file, terms }, task) = match self.command {
            PluginCommand::New(args) => return PluginOptions::New(args.check()),
            PluginCommand::Build(args) => return PluginOptions::Build(args.check()),
            PluginCommand::Validate(file) => (file, Task::Validate),
            PluginCommand::Inspect(file) => (file, Task::Inspect),
            PluginCommand::Bench(file) => (file, Task::Bench),
            PluginCommand::Add(file) => (file, Task::Add),
            PluginCommand::List => return PluginOptions::List,
            PluginCommand::Remove { name } => return PluginOptions::Remove(name),
            PluginCommand::Lock => return PluginOptions::Lock,
            PluginCommand::Test(TestArgs { file, room, job, expect, at }) => {
                (file, Task::Test(recorded::Recorded { room, job, expect, at }))
            }
        };
        PluginOptions::File { file, config: terms.config(), task }
    }
}

impl TermArgs {
    fn config(self) -> PluginConfig {
        let Self { setting, timeout_ms, memory_mib } = self;
        let settings = setting.into_iter().map(|Setting(key, value)| (key, value)).collect();
        // Nothing may stand in for a plugin that is on trial.
        PluginConfig { settings, timeout_ms, memory_mib, ..PluginConfig::new(OnFailure::Refuse) }
    }
}

/// Does it. Compiling and calling block; nothing else runs in this process.
pub(super) async fn run(options: PluginOptions, policy: &PolicyConfig) -> Result<Exit, Failure> {
    let (file, config, task) = match options {
        PluginOptions::New(options) => return new::run(&options),
        PluginOptions::Build(options) => return build::run(&options, policy).await,
        PluginOptions::File { file, config, task } => (file, config, task),
        PluginOptions::List => return folder::list(policy),
        PluginOptions::Remove(name) => return folder::remove(&name, policy),
        PluginOptions::Lock => return folder::lock(policy),
    };
    let plugin = match task {
        // What it takes to compile is what they tell.
        Task::Inspect | Task::Bench => PluginFile::open(&file, &policy.dir)?,
        Task::Validate | Task::Add | Task::Test(_) => {
            PluginFile::open_cached(&examine::find(&file, &policy.dir), policy.cache.as_deref())?
        }
    };
    match task {
        Task::Validate => validate::run(&plugin, &config),
        Task::Inspect => inspect::run(&plugin, &config),
        Task::Bench => bench::run(&plugin, &config),
        Task::Add => folder::add(&plugin, &config, policy),
        Task::Test(recorded) => recorded::run(&plugin, &config, &recorded).await,
    }
}

/// The worlds of this host that `plugin` fits.
fn worlds(plugin: &PluginFile) -> Vec<String> {
    match plugin.points()[..] {
        [] => vec!["none of this host's".to_owned()],
        [_, _, _] => vec!["policy-plugin".to_owned()],
        ref points => points.iter().map(|point| point.world().to_owned()).collect(),
    }
}

impl From<ExamineError> for Failure {
    fn from(error: ExamineError) -> Self {
        Self::new(Exit::Usage, error)
    }
}

/// Milliseconds with as many places as they are worth.
fn told_ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    match ms {
        _ if ms < 1.0 => format!("{ms:.3} ms"),
        _ if ms < 100.0 => format!("{ms:.1} ms"),
        _ => format!("{ms:.0} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_toml_or_text() {
        let value = |text: &str| text.parse::<Setting>().map(|Setting(_, value)| value.to_string());
        for (text, expected) in [
            ("hours=8", "8"),
            ("hours = 1.5", "1.5"),
            ("open=true", "true"),
            ("days=[1, 2]", "[1, 2]"),
            ("owner=\"ada\"", "\"ada\""),
            ("owner=ada lovelace", "\"ada lovelace\""),
            ("equation=a=b", "\"a=b\""),
        ] {
            assert_eq!(value(text).as_deref(), Ok(expected), "{text}");
        }
        assert!("nothing".parse::<Setting>().is_err());
    }

    #[test]
    fn times_are_told_in_ms() {
        let told = [14, 1_500, 250_000].map(|us| told_ms(Duration::from_micros(us)));
        assert_eq!(told, ["0.014 ms", "1.5 ms", "250 ms"]);
    }
}
