//! `sleap-rtc plugin`: tools for authors of policy plugins.

mod bench;
mod build;
mod folder;
mod inspect;
mod new;
mod plot;
mod recorded;
mod replay;
mod shared;
mod simulate;
mod tool;
mod trace_source;
mod validate;

use super::exit::{Exit, Failure};
use crate::registry::{Reference, ReferenceError};
use clap::{Args, Subcommand};
use sleap_rtc_policy::LocalTime;
use sleap_rtc_policy::examine::{self, ExamineError, PluginFile};
use sleap_rtc_policy::{OnFailure, PluginConfig, PolicyConfig};
use sleap_rtc_protocol::ids::PeerId;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// The examples under `--help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  Create a plugin and build it:
    sleap-rtc plugin new fair --lang python
    sleap-rtc plugin build fair
  Test a plugin with built-in cases:
    sleap-rtc plugin validate fair.wasm --setting 'owner=\"ada\"'
  Show what a plugin contains:
    sleap-rtc plugin inspect fair.wasm
  Rank a room that was recorded with `sleap-rtc room snapshot`:
    sleap-rtc plugin test fair.wasm --room room.json --job job.json --expect gpu2
  See where a new version decides otherwise than the one that `[policy] record` has heard:
    sleap-rtc plugin replay decisions.jsonl fair.wasm --expect-same
  Compare two policies on a week of made-up jobs:
    sleap-rtc plugin simulate --generate --policy now.toml --policy new.toml
  Install a plugin, and list the installed ones:
    sleap-rtc plugin add fair.wasm --setting 'owner=\"ada\"'
    sleap-rtc plugin list
  Share a plugin through a registry, install it from there, and look for a newer version:
    sleap-rtc plugin publish fair.wasm oci://ghcr.io/lab/fair:1
    sleap-rtc plugin add oci://ghcr.io/lab/fair:1
    sleap-rtc plugin update fair";

/// The options of `plugin`.
#[derive(Args)]
pub struct PluginArgs {
    #[command(subcommand)]
    command: PluginCommand,
}

#[derive(Subcommand)]
enum PluginCommand {
    /// Create a folder with a plugin's source, the contract and a test
    New(new::NewArgs),
    /// Build a plugin and validate it; exit code 2 if it is not valid
    Build(build::BuildArgs),
    /// Test a plugin with built-in cases; exit code 2 if one fails
    Validate(FileArgs),
    /// Show what a plugin contains and how long its calls take
    Inspect(FileArgs),
    /// Compare the time of its calls with the built-in plugin
    Bench(FileArgs),
    /// List the plugins in the plugin folder and in the configuration
    List,
    /// Install a plugin: validate it, copy it to the plugin folder, accept it in plugins.lock
    Add(AddArgs),
    /// Validate a plugin, and publish it in an OCI registry
    Publish(PublishArgs),
    /// Show what the newest version of a registry's plugin changes, and install it
    Update(UpdateArgs),
    /// Remove a plugin from the plugin folder and from plugins.lock
    Remove {
        /// The plugin's name, as shown by `plugin list`
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Accept all plugins as they are now in plugins.lock, for `[policy] locked`
    Lock,
    /// Put recorded decisions to a plugin, and show where it decides otherwise
    #[command(after_help = REPLAY_EXIT)]
    Replay(ReplayArgs),
    /// Run a trace of jobs against policies on a virtual clock, and compare their numbers
    #[command(after_help = simulate::EXAMPLES)]
    Simulate(simulate::SimulateArgs),
    /// Call a plugin for a recorded room; exit code 1 unless --expect is met
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

#[derive(Args)]
struct AddArgs {
    /// The component: a path, or one in a registry, such as oci://ghcr.io/lab/fair:1
    #[arg(value_name = "FILE|oci://…", value_parser = source)]
    source: InstallFrom,
    #[command(flatten)]
    terms: TermArgs,
}

/// Where a plugin is.
#[derive(Debug, Clone)]
enum InstallFrom {
    File(PathBuf),
    Registry(Reference),
}

fn source(text: &str) -> Result<InstallFrom, ReferenceError> {
    match Reference::is_meant_by(text) {
        true => text.parse().map(InstallFrom::Registry),
        false => Ok(InstallFrom::File(text.into())),
    }
}

#[derive(Args)]
struct PublishArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Where to, and under which version
    #[arg(value_name = "oci://REGISTRY/NAME:TAG")]
    to: Reference,
}

#[derive(Args)]
struct UpdateArgs {
    /// The plugin's name, as shown by `plugin list`
    #[arg(value_name = "NAME")]
    name: String,
    /// Change to this version [default: the newest of the installed tag]
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// Replay these decisions [default: those of `[policy] record`]
    #[arg(long, value_name = "RECORD")]
    record: Option<PathBuf>,
    /// Install it without a question
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    terms: TermArgs,
}

/// The settings of a plugin, and the limits of its calls.
#[derive(Args)]
struct TermArgs {
    /// A setting, as under `settings` in the configuration; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    setting: Vec<Setting>,
    /// Time limit of one call
    #[arg(long, value_name = "MS", default_value_t = 200)]
    timeout_ms: u64,
    /// Memory limit of one call
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    memory_mib: u64,
}

#[derive(Args)]
struct TestArgs {
    #[command(flatten)]
    file: FileArgs,
    /// The room's workers, as printed by `sleap-rtc room snapshot`
    #[arg(long, value_name = "ROOM.json")]
    room: PathBuf,
    /// The job: its description as JSON, or a training package
    #[arg(long, value_name = "JOB.json")]
    job: PathBuf,
    /// The worker that must be ranked first or, if the plugin only admits jobs, take the job
    #[arg(long, value_name = "PEER_ID", allow_hyphen_values = true)]
    expect: Option<PeerId>,
    /// The local time that the plugin sees, such as 2026-01-14T10:00 [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<LocalTime>,
}

/// The exit codes of `plugin replay`.
const REPLAY_EXIT: &str = "\
Exit codes:
    0  the decisions are the same, or --expect-same is not given
    1  a decision differs, and --expect-same is given
    2  the record or the plugin cannot be used";

#[derive(Args)]
struct ReplayArgs {
    /// The file that `[policy] record` names; its older part, RECORD.1, is read too
    #[arg(value_name = "RECORD")]
    record: PathBuf,
    #[command(flatten)]
    file: FileArgs,
    /// Only compare with the decisions of this plugin [default: the one of the same name, or else all]
    #[arg(long, value_name = "NAME")]
    of: Option<String>,
    /// End with exit code 1 if a decision differs
    #[arg(long)]
    expect_same: bool,
}

/// `KEY=VALUE`. The value is TOML or, if it does not parse, plain text.
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

/// A checked `plugin` command.
#[derive(Debug, Clone, PartialEq)]
pub enum PluginOptions {
    /// `plugin new`
    New(new::NewOptions),
    /// `plugin build`
    Build(build::BuildOptions),
    /// A command for one file.
    File {
        /// A path, or a name in the plugin folder.
        file: PathBuf,
        /// Settings and limits.
        config: PluginConfig,
        /// The command.
        task: Task,
    },
    /// `plugin simulate`
    Simulate(simulate::SimulateOptions),
    /// `plugin add` of a registry's plugin
    Fetch {
        /// Where it is.
        from: Reference,
        /// Settings and limits.
        config: PluginConfig,
    },
    /// `plugin update`
    Update {
        /// What to update, and to what.
        update: shared::Update,
        /// Settings and limits.
        config: PluginConfig,
    },
    /// `plugin list`
    List,
    /// `plugin remove`
    Remove(String),
    /// `plugin lock`
    Lock,
}

/// A command for a plugin's file.
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
    /// `plugin publish`
    Publish(Reference),
    /// `plugin replay`
    Replay(replay::Replay),
    /// `plugin test`
    Test(recorded::Recorded),
}

impl PluginArgs {
    pub(crate) fn check(self) -> PluginOptions {
        let (FileArgs { file, terms }, task) = match self.command {
            PluginCommand::New(args) => return PluginOptions::New(args.check()),
            PluginCommand::Build(args) => return PluginOptions::Build(args.check()),
            PluginCommand::Validate(file) => (file, Task::Validate),
            PluginCommand::Inspect(file) => (file, Task::Inspect),
            PluginCommand::Bench(file) => (file, Task::Bench),
            PluginCommand::Add(AddArgs { source, terms }) => match source {
                InstallFrom::File(file) => (FileArgs { file, terms }, Task::Add),
                InstallFrom::Registry(from) => {
                    return PluginOptions::Fetch { from, config: terms.config() };
                }
            },
            PluginCommand::Publish(PublishArgs { file, to }) => (file, Task::Publish(to)),
            PluginCommand::Update(UpdateArgs { name, tag, record, yes, terms }) => {
                let update = shared::Update { name, tag, record, yes };
                return PluginOptions::Update { update, config: terms.config() };
            }
            PluginCommand::Simulate(args) => return PluginOptions::Simulate(args.check()),
            PluginCommand::List => return PluginOptions::List,
            PluginCommand::Remove { name } => return PluginOptions::Remove(name),
            PluginCommand::Lock => return PluginOptions::Lock,
            PluginCommand::Replay(ReplayArgs { record, file, of, expect_same }) => {
                (file, Task::Replay(replay::Replay { record, of, expect_same }))
            }
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
        // The built-in plugin must not answer for a plugin under test.
        PluginConfig { settings, timeout_ms, memory_mib, ..PluginConfig::new(OnFailure::Refuse) }
    }
}

/// Runs the command. Compiling and calling block, but nothing else runs in this process.
pub(crate) async fn run(options: PluginOptions, policy: &PolicyConfig) -> Result<Exit, Failure> {
    let (file, config, task) = match options {
        PluginOptions::New(options) => return new::run(&options),
        PluginOptions::Build(options) => return build::run(&options, policy).await,
        PluginOptions::File { file, config, task } => (file, config, task),
        PluginOptions::Simulate(options) => return simulate::run(&options, policy),
        PluginOptions::Fetch { from, config } => return shared::add(&from, &config, policy).await,
        PluginOptions::Update { update, config } => {
            return shared::update(&update, &config, policy).await;
        }
        PluginOptions::List => return folder::list(policy),
        PluginOptions::Remove(name) => return folder::remove(&name, policy),
        PluginOptions::Lock => return folder::lock(policy),
    };
    let plugin = match task {
        // These report how long compiling takes, so they must not use the cache.
        Task::Inspect | Task::Bench => PluginFile::open(&file, &policy.dir)?,
        Task::Validate | Task::Add | Task::Publish(_) | Task::Replay(_) | Task::Test(_) => {
            PluginFile::open_cached(&examine::find(&file, &policy.dir), policy.cache.as_deref())?
        }
    };
    match task {
        Task::Validate => validate::run(&plugin, &config),
        Task::Inspect => inspect::run(&plugin, &config),
        Task::Bench => bench::run(&plugin, &config),
        Task::Add => folder::add(&plugin, &config, policy, None),
        Task::Publish(to) => shared::publish(&plugin, &config, &to).await,
        Task::Replay(options) => replay::run(&plugin, &config, &options, policy),
        Task::Test(recorded) => recorded::run(&plugin, &config, &recorded).await,
    }
}

/// The worlds of this host that `plugin` implements.
fn worlds(plugin: &PluginFile) -> Vec<String> {
    use sleap_rtc_policy::ExtensionPoint::{Compatibility, Estimate, Queueing, Selection};
    match plugin.points()[..] {
        [] => vec!["none of this host's".to_owned()],
        [Selection, Compatibility, Estimate, Queueing] => vec!["full-plugin".to_owned()],
        [Selection, Compatibility, Estimate] => vec!["policy-plugin".to_owned()],
        ref points => points.iter().map(|point| point.world().to_owned()).collect(),
    }
}

impl From<ExamineError> for Failure {
    fn from(error: ExamineError) -> Self {
        Self::new(Exit::Usage, error)
    }
}

/// A time in milliseconds, with a sensible number of digits.
fn ms_text(time: Duration) -> String {
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
    fn times_are_in_ms() {
        let told = [14, 1_500, 250_000].map(|us| ms_text(Duration::from_micros(us)));
        assert_eq!(told, ["0.014 ms", "1.5 ms", "250 ms"]);
    }
}
