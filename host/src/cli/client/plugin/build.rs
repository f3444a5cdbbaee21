//! `plugin build`: builds a component from a plugin's folder.
//!
//! The folder's manifest decides the language: `Cargo.toml`, `pyproject.toml` or `package.json`. The
//! last two have a section `sleap-rtc-plugin` with the WIT world.

use super::super::exit::{Exit, ExitWith, Failure};
use super::super::print;
use super::super::ranking::columns;
use super::{TermArgs, tool, validate, worlds};
use anyhow::Context;
use clap::Args;
use serde::Deserialize;
use sleap_rtc_policy::examine::PluginFile;
use sleap_rtc_policy::{PluginConfig, PolicyConfig};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use wit_component::ComponentEncoder;

const RUST_TARGET: &str = "wasm32-unknown-unknown";

#[derive(Args)]
pub(crate) struct BuildArgs {
    /// The plugin's folder
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Time limit of the language's build tool
    #[arg(long, value_name = "S", default_value_t = 900)]
    tool_timeout_s: u64,
    #[command(flatten)]
    terms: TermArgs,
}

/// `plugin build`, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildOptions {
    dir: PathBuf,
    limit: Duration,
    config: PluginConfig,
}

impl BuildArgs {
    pub(crate) fn check(self) -> BuildOptions {
        let limit = Duration::from_secs(self.tool_timeout_s);
        BuildOptions { dir: self.dir, limit, config: self.terms.config() }
    }
}

/// The project to build.
struct Project {
    dir: PathBuf,
    name: String,
    language: Language,
}

enum Language {
    /// The module's name, as cargo writes it.
    Rust { module: String },
    /// The Python module that exports the plugin's functions.
    Python { wit: Wit, app: String },
    /// The JavaScript file that exports the plugin's functions.
    Js { wit: Wit, main: String },
}

/// The section `sleap-rtc-plugin` of a manifest.
#[derive(Deserialize)]
struct Wit {
    world: String,
    #[serde(default = "default_wit")]
    wit: PathBuf,
    #[serde(default = "default_module")]
    module: String,
}

fn default_wit() -> PathBuf {
    "wit".into()
}

fn default_module() -> String {
    "app".into()
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct CargoToml {
    package: Named,
    lib: Option<CargoLib>,
}

#[derive(Deserialize)]
struct CargoLib {
    name: Option<String>,
}

#[derive(Deserialize)]
struct Pyproject {
    project: Named,
    tool: HashMap<String, toml::Value>,
}

#[derive(Deserialize)]
struct PackageJson {
    name: String,
    main: String,
    #[serde(rename = "sleap-rtc-plugin")]
    wit: Wit,
}

/// Builds the plugin, prints what was built, and validates it.
pub(crate) async fn run(options: &BuildOptions, policy: &PolicyConfig) -> Result<Exit, Failure> {
    let project = Project::read(&options.dir).exit(Exit::Usage)?;
    let built = project.dir.join(format!("{}.wasm", project.name));
    // A partly written file must not have the plugin's name.
    let partial = tempfile::Builder::new()
        .prefix(".plugin-build-")
        .tempdir_in(&project.dir)
        .with_context(|| format!("cannot write in {}", project.dir.display()))
        .exit(Exit::Usage)?;
    let file = partial.path().join("plugin.wasm");
    project.make(&file, options.limit).await?;
    fs::rename(&file, &built)
        .with_context(|| format!("the build left no component; cannot write {}", built.display()))
        .exit(Exit::Unexpected)?;
    let plugin = PluginFile::open_cached(&built, policy.cache.as_deref())?;
    let rows = [
        ["built".to_owned(), built.display().to_string()],
        ["size".to_owned(), format!("{} bytes", plugin.size_bytes)],
        ["world".to_owned(), worlds(&plugin).join(", ")],
    ];
    print::raw(&columns(&rows)).exit(Exit::Unexpected)?;
    validate::run(&plugin, &options.config)
}

impl Project {
    fn read(dir: &Path) -> anyhow::Result<Self> {
        let dir = dir
            .canonicalize()
            .with_context(|| format!("cannot open the folder {}", dir.display()))?;
        let manifest = |file: &str| -> anyhow::Result<Option<String>> {
            let path = dir.join(file);
            let text = path.is_file().then(|| fs::read_to_string(&path)).transpose();
            text.with_context(|| path.display().to_string())
        };
        let wrong = |file: &str| format!("{} is not a plugin's manifest", dir.join(file).display());
        let (name, language) = if let Some(text) = manifest("Cargo.toml")? {
            let cargo: CargoToml = toml::from_str(&text).with_context(|| wrong("Cargo.toml"))?;
            let library = cargo.lib.and_then(|library| library.name);
            let module = library.unwrap_or_else(|| cargo.package.name.replace('-', "_"));
            (cargo.package.name, Language::Rust { module })
        } else if let Some(text) = manifest("pyproject.toml")? {
            let wrong = || wrong("pyproject.toml");
            let mut python: Pyproject = toml::from_str(&text).with_context(wrong)?;
            let section = python.tool.remove("sleap-rtc-plugin").with_context(|| {
                format!("{}: it lacks the section [tool.sleap-rtc-plugin]", wrong())
            })?;
            let wit: Wit = section.try_into().with_context(wrong)?;
            let app = wit.module.clone();
            (python.project.name, Language::Python { wit, app })
        } else if let Some(text) = manifest("package.json")? {
            let js: PackageJson =
                serde_json::from_str(&text).with_context(|| wrong("package.json"))?;
            (js.name, Language::Js { wit: js.wit, main: js.main })
        } else {
            anyhow::bail!(
                "{} has no Cargo.toml, pyproject.toml or package.json; create a plugin with \
                 `sleap-rtc plugin new`",
                dir.display()
            );
        };
        anyhow::ensure!(
            !name.contains('/'),
            "the plugin's name {name:?} contains a `/`; it must be a valid file name"
        );
        Ok(Self { dir, name, language })
    }

    /// Builds the component and writes it to `file`.
    async fn make(&self, file: &Path, limit: Duration) -> Result<(), Failure> {
        match &self.language {
            Language::Rust { module } => self.rust(module, file, limit).await,
            Language::Python { wit, app } => {
                let mut command = self.componentize_py().await?;
                command.arg("-d").arg(self.dir.join(&wit.wit)).args(["-w", &wit.world]);
                command.args(["componentize", "--stub-wasi", app, "-o"]).arg(file);
                tool::run("componentize-py", command, limit).await
            }
            Language::Js { wit, main } => {
                let mut command = self.jco().await?;
                command.arg("componentize").arg(self.dir.join(main));
                command.arg("--wit").arg(self.dir.join(&wit.wit)).args(["-n", &wit.world]);
                command.args(["--backend", "qjs", "--backend-qjs-disable-async"]);
                command.args(["--backend-qjs-stub-wasi", "-o"]).arg(file);
                tool::run("jco", command, limit).await
            }
        }
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.dir);
        command
    }

    async fn rust(&self, module: &str, file: &Path, limit: Duration) -> Result<(), Failure> {
        let cargo = tool::find(&self.dir, "cargo").ok_or_else(|| {
            missing("cargo is not on PATH", "install Rust: https://rustup.rs".to_owned())
        })?;
        let query = ["--print", "target-libdir", "--target", RUST_TARGET];
        let library = tool::asked("rustc", &query).await;
        if !library.is_some_and(|folder| Path::new(&folder).is_dir()) {
            let what = format!("this Rust toolchain lacks the target {RUST_TARGET}");
            return Err(missing(&what, format!("rustup target add {RUST_TARGET}")));
        }
        // In a shared target folder cargo could reuse the build of another copy of the plugin.
        let target = self.dir.join("target");
        let mut command = self.command(cargo);
        command.args(["build", "--release", "--lib", "--target", RUST_TARGET, "--target-dir"]);
        command.arg(&target).env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        tool::run("cargo", command, limit).await?;
        let core = target.join(RUST_TARGET).join("release").join(format!("{module}.wasm"));
        let bytes = fs::read(&core).map_err(|error| {
            let text = format!("cargo did not produce {}", core.display());
            Failure::new(Exit::Usage, anyhow::Error::new(error).context(text))
                .hint("Cargo.toml needs [lib] crate-type = [\"cdylib\", \"rlib\"]")
        })?;
        let component = || ComponentEncoder::default().validate(true).module(&bytes)?.encode();
        let component =
            component().context("cannot turn the module into a component").exit(Exit::Usage)?;
        fs::write(file, component).context("cannot write the component").exit(Exit::Unexpected)
    }

    async fn componentize_py(&self) -> Result<Command, Failure> {
        const BY_MODULE: &str =
            "import sys; from componentize_py import script; sys.exit(script())";
        if let Some(tool) = tool::find(&self.dir.join(".venv/bin"), "componentize-py") {
            return Ok(self.command(tool));
        }
        if tool::asked("python3", &["-c", "import componentize_py"]).await.is_some() {
            let mut command = self.command("python3");
            command.args(["-c", BY_MODULE]);
            return Ok(command);
        }
        let venv = self.dir.join(".venv");
        let venv = venv.display();
        let install =
            format!("python3 -m venv {venv} && {venv}/bin/pip install componentize-py==0.25.0");
        Err(missing("componentize-py is neither in .venv nor on PATH", install))
    }

    async fn jco(&self) -> Result<Command, Failure> {
        let version = tool::asked("node", &["--version"]).await;
        let major = version.as_deref().and_then(|v| v.strip_prefix('v')?.split('.').next());
        if major.and_then(|major| major.parse::<u32>().ok()).is_none_or(|major| major < 20) {
            let has = version.unwrap_or_else(|| "none on PATH".to_owned());
            let what = format!("JavaScript plugins need Node 20 or newer, found {has}");
            return Err(missing(&what, "install Node: https://nodejs.org".to_owned()));
        }
        let tool = tool::find(&self.dir.join("node_modules/.bin"), "jco").ok_or_else(|| {
            let install = format!("npm install --prefix {}", self.dir.display());
            missing("jco is neither in node_modules nor on PATH", install)
        })?;
        Ok(self.command(tool))
    }
}

fn missing(what: &str, install: String) -> Failure {
    Failure::usage(what).hint(install)
}
