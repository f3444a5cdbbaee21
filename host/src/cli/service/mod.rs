//! `sleap-rtc service`: a worker or a signaling server that systemd starts for this user.
//!
//! | module | what it does |
//! |---|---|
//! | `unit` | the text of the unit file |
//! | `systemd` | asks systemd's instance of this user |

mod systemd;
mod unit;

use super::environment::Environment;
use super::exit::{Exit, ExitWith, Failure};
use super::{Command, Stop, argv, print};
#[cfg(feature = "worker")]
use crate::worker::WorkerRoom;
use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use sleap_rtc_base::file::{Readers, replace};
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use systemd::{Linger, Systemd, UnitState};
use unit::Unit;

/// The examples under `--help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  Let systemd start a worker now and at each start of the machine:
    sleap-rtc service install
  A worker with options, behind `--`:
    sleap-rtc service install -- --state-dir /data/sleap-rtc
  The signaling server:
    sleap-rtc service install signaling
  Whether they run, and the worker's log:
    sleap-rtc service status
    journalctl --user -u sleap-rtc-worker
  Remove the worker's service; its jobs, room and results stay:
    sleap-rtc service uninstall
Services of a user end at the logout unless `loginctl enable-linger` was run once.";

/// Variables that the service gets as this command has them. The token is not among them.
const VARIABLES: [&str; 15] = [
    "PATH",
    "SLEAP_RTC_ENV",
    "SLEAP_RTC_SIGNALING_WS",
    "SLEAP_RTC_SIGNALING_HTTP",
    "SLEAP_RTC_LOG",
    "SHARED_STORAGE_ROOT",
    "XDG_DATA_HOME",
    "XDG_CACHE_HOME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
    "CUDA_VISIBLE_DEVICES",
];

/// The options of `service`.
#[derive(clap::Args)]
pub struct ServiceArgs {
    #[command(subcommand)]
    action: ActionArgs,
}

#[derive(Subcommand)]
enum ActionArgs {
    /// Write the unit, enable it and start it, or start it again with new options
    Install(InstallArgs),
    /// Show which services are installed, and whether they run
    Status,
    /// Stop a service and remove its unit
    Uninstall {
        /// Which service
        #[arg(value_enum, default_value_t = Role::DEFAULT)]
        role: Role,
    },
}

#[derive(clap::Args)]
struct InstallArgs {
    /// Which service
    #[arg(value_enum, default_value_t = Role::DEFAULT)]
    role: Role,
    /// Options of `sleap-rtc worker` or `sleap-rtc signaling`, behind `--`
    #[arg(last = true, value_name = "OPTIONS")]
    options: Vec<String>,
}

/// What a service runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Runs jobs on this machine's GPUs
    #[cfg(feature = "worker")]
    Worker,
    /// The server where workers and clients meet
    #[cfg(feature = "signaling")]
    Signaling,
}

impl Role {
    #[cfg(feature = "worker")]
    const DEFAULT: Self = Self::Worker;
    #[cfg(not(feature = "worker"))]
    const DEFAULT: Self = Self::Signaling;

    /// The command that the service runs.
    fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "worker")]
            Self::Worker => "worker",
            #[cfg(feature = "signaling")]
            Self::Signaling => "signaling",
        }
    }

    fn template(self) -> &'static str {
        match self {
            #[cfg(feature = "worker")]
            Self::Worker => {
                include_str!("../../../../examples/systemd/user/sleap-rtc-worker.service")
            }
            #[cfg(feature = "signaling")]
            Self::Signaling => {
                include_str!("../../../../examples/systemd/user/sleap-rtc-signaling.service")
            }
        }
    }

    fn unit(self) -> String {
        format!("sleap-rtc-{}.service", self.name())
    }

    fn file(self) -> Result<PathBuf, Failure> {
        let folder = dirs::config_dir().ok_or_else(|| {
            Failure::usage("the folder for systemd units is unknown: set HOME or XDG_CONFIG_HOME")
        })?;
        Ok(folder.join("systemd/user").join(self.unit()))
    }
}

/// What to do with which service.
#[derive(Debug)]
pub enum ServiceOptions {
    /// `install`
    Install(Installation),
    /// `status`
    Status,
    /// `uninstall`
    #[allow(private_interfaces, reason = "the roles are those of this build")]
    Uninstall(Role),
}

/// A service to install.
#[derive(Debug)]
pub struct Installation {
    role: Role,
    /// Arguments of the program.
    arguments: Vec<String>,
    /// Where a worker writes how to join its room.
    credentials: Option<PathBuf>,
    /// Whether the user has given options, which may have relative paths.
    has_options: bool,
}

impl ServiceArgs {
    /// Checks the options of the service as its own start would. Warnings are added to `warnings`.
    pub(super) fn check(
        self,
        config: Option<PathBuf>,
        environment: &mut Environment,
        warnings: &mut Vec<String>,
    ) -> Result<ServiceOptions, Stop> {
        match self.action {
            ActionArgs::Status => Ok(ServiceOptions::Status),
            ActionArgs::Uninstall { role } => Ok(ServiceOptions::Uninstall(role)),
            ActionArgs::Install(args) => {
                args.check(config, environment, warnings).map(ServiceOptions::Install)
            }
        }
    }
}

impl InstallArgs {
    fn check(
        self,
        config: Option<PathBuf>,
        environment: &mut Environment,
        warnings: &mut Vec<String>,
    ) -> Result<Installation, Stop> {
        let Self { role, options } = self;
        refuse_secrets(&options)?;
        let mut words: Vec<OsString> = vec!["sleap-rtc".into()];
        words.extend(config.into_iter().flat_map(|file| ["--config".into(), file.into()]));
        words.push(role.name().into());
        words.extend(options.iter().map(OsString::from));
        let mut invocation = super::parse_in(words, environment)?;
        warnings.append(&mut invocation.warnings);
        let (file, credentials): (_, Option<PathBuf>) = match invocation.command {
            #[cfg(feature = "worker")]
            Command::Worker(worker, config) => {
                if worker.options.room != WorkerRoom::Kept {
                    return Err(other_room().into());
                }
                let default = config.worker.state_dir.join("credentials.txt");
                (config.file, Some(worker.options.credentials_file.unwrap_or(default)))
            }
            #[cfg(feature = "signaling")]
            Command::Signaling(_, config) => (config.file, None),
            _ => (None, None),
        };
        let mut arguments = Vec::new();
        if let Some(file) = file {
            arguments.extend(["--config".to_owned(), text(file)?]);
        }
        arguments.push(role.name().to_owned());
        let has_options = !options.is_empty();
        arguments.extend(options);
        if let Some(file) = &credentials
            && !arguments.iter().any(|word| word.starts_with("--credentials"))
        {
            arguments.extend(["--credentials-file".to_owned(), text(file.clone())?]);
        }
        Ok(Installation { role, arguments, credentials, has_options })
    }
}

fn text(path: PathBuf) -> Result<String, Failure> {
    path.into_os_string().into_string().map_err(|path| {
        let path = PathBuf::from(path);
        Failure::usage(format!(
            "systemd accepts only UTF-8, and the path {path:?} is not UTF-8; rename it"
        ))
    })
}

/// Other programs can read what stands in a unit.
fn refuse_secrets(options: &[String]) -> Result<(), Failure> {
    match argv::has_secrets(options) {
        false => Ok(()),
        true => Err(Failure::usage("options of a service must not contain secrets, because other users can read the unit file").hint(
            "run `sleap-rtc worker --room-id ROOM --token TOKEN` once and end it with Ctrl-C: the service \
             returns to that room\naccounts of TURN servers belong in the configuration file",
        )),
    }
}

#[cfg(feature = "worker")]
fn other_room() -> Failure {
    Failure::usage(
        "a service cannot be given a room: it returns to the worker's last room at each start",
    )
    .hint("run `sleap-rtc worker` once with the options of the room, and end it with Ctrl-C")
}

/// Runs the command.
pub(crate) async fn run(options: ServiceOptions) -> Result<Exit, Failure> {
    match options {
        ServiceOptions::Install(installation) => installation.install().await,
        ServiceOptions::Status => status().await,
        ServiceOptions::Uninstall(role) => uninstall(role).await,
    }
}

impl Installation {
    async fn install(self) -> Result<Exit, Failure> {
        let systemd = Systemd::reach().await?;
        let (file, unit) = (self.role.file()?, self.role.unit());
        let text = self.unit()?.text().map_err(|word| {
            Failure::usage(format!("a service's options cannot contain line breaks: {word:?}"))
        })?;
        write(&file, &text).exit(Exit::Usage)?;
        systemd.call(&["daemon-reload"]).await?;
        systemd.call(&["enable", &unit]).await?;
        // It may run already, with other options.
        systemd.call(&["restart", &unit]).await?;
        say(&format!("Installed and started {}", file.display()))?;
        if let Some(credentials) = &self.credentials {
            say(&format!("How to join its room is in {}", credentials.display()))?;
        }
        say(&format!("Its log: journalctl --user -u {unit}"))?;
        explain_linger(systemd::linger().await)?;
        Ok(Exit::Success)
    }

    fn unit(&self) -> Result<Unit, Failure> {
        let program = text(std::env::current_exe().exit(Exit::Unexpected)?)?;
        let command = [program].into_iter().chain(self.arguments.iter().cloned()).collect();
        let variable = |name: &str| Some((name.to_owned(), std::env::var(name).ok()?));
        let environment = VARIABLES.iter().filter_map(|name| variable(name)).collect();
        let folder = match self.has_options {
            true => Some(text(std::env::current_dir().exit(Exit::Unexpected)?)?),
            false => None,
        };
        Ok(Unit { role: self.role, command, environment, folder })
    }
}

fn write(file: &std::path::Path, text: &str) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", file.display());
    let folder = file.parent().with_context(cannot)?;
    fs::create_dir_all(folder).with_context(cannot)?;
    replace(file, text.as_bytes(), Readers::Owner).with_context(cannot)
}

async fn status() -> Result<Exit, Failure> {
    let mut installed = Vec::new();
    for role in Role::value_variants() {
        if role.file()?.is_file() {
            installed.push(*role);
        }
    }
    if installed.is_empty() {
        return Err(Failure::message(Exit::Unexpected, "no service of sleap-rtc is installed")
            .hint("`sleap-rtc service install` installs a worker"));
    }
    let systemd = Systemd::reach().await?;
    let mut all_run = true;
    for role in installed {
        let unit = role.unit();
        let state = match systemd.state(&unit).await {
            UnitState::Running { pid } => format!("runs as process {pid}"),
            UnitState::Failed { result } => {
                all_run = false;
                format!("has failed ({result}): `journalctl --user -u {unit}` says why")
            }
            UnitState::Other(state) => {
                all_run = false;
                format!("is {state}")
            }
        };
        say(&format!("{unit} {state}"))?;
    }
    explain_linger(systemd::linger().await)?;
    Ok(if all_run { Exit::Success } else { Exit::Unexpected })
}

async fn uninstall(role: Role) -> Result<Exit, Failure> {
    let (file, unit) = (role.file()?, role.unit());
    if !file.is_file() {
        let text = format!("{} is not there: nothing to uninstall", file.display());
        return Err(Failure::usage(text));
    }
    let systemd = Systemd::reach().await?;
    systemd.call(&["disable", "--now", &unit]).await?;
    let removed =
        fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()));
    removed.exit(Exit::Unexpected)?;
    systemd.call(&["daemon-reload"]).await?;
    // systemd lists a unit that has failed until this, and refuses it for others.
    let _ = systemd.call(&["reset-failed", &unit]).await;
    say(&format!("Stopped {unit} and removed {}", file.display()))?;
    Ok(Exit::Success)
}

fn explain_linger(linger: Linger) -> Result<(), Failure> {
    match linger {
        Linger::On => say("It runs whether or not you are logged in."),
        Linger::Off => say(
            "It ends when you log out, and starts when you log in. To let it run without you, also \
             after a start of the machine:\n  loginctl enable-linger",
        ),
        Linger::Unknown => {
            say("It may end when you log out; to keep it running: `loginctl enable-linger`")
        }
    }
}

fn say(text: &str) -> Result<(), Failure> {
    print::line(text).exit(Exit::Unexpected)
}
