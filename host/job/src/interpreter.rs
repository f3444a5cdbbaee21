//! Finds everything that a trainer needs to start: its program, the Python that runs it, and that
//! Python's packages.
//!
//! A trainer is usually a script in a home folder, installed by uv, conda or pip. Its first line names
//! the Python of a virtual environment, which is a link to another Python.

use super::command::is_program;
use sleap_rtc_base::program::{ProgramOutput, output};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// How long a Python may take to list the folders of its packages.
const ASK_LIMIT: Duration = Duration::from_secs(20);
/// Prints the environment, the installation below it, and every folder of packages.
const WHERE: &str = "import sys; print('\\n'.join([sys.prefix, sys.base_prefix, *sys.path]))";
const MAX_SCRIPT_BYTES: u64 = 256 * 1024;
/// A wrapper may call another wrapper.
const MAX_DEPTH: usize = 4;
const MAX_PLACES: usize = 256;
const MAX_LINE_BYTES: usize = 512;
/// Interpreters of scripts that start other programs by path.
const SHELLS: [&str; 5] = ["sh", "bash", "dash", "ksh", "zsh"];

/// The files and folders that must be readable for `program` to start with `arguments` and these
/// variables.
pub async fn places_of(
    program: &Path,
    arguments: &[String],
    variables: &[(OsString, OsString)],
) -> Vec<PathBuf> {
    let mut places = Vec::new();
    let mut pythons = Vec::new();
    look_at(program, variables, MAX_DEPTH, &mut places, &mut pythons);
    for argument in arguments.iter().map(Path::new).filter(|argument| argument.is_absolute()) {
        look_at(argument, variables, 1, &mut places, &mut pythons);
    }
    places.extend(named_by(variables));
    for python in pythons {
        places.extend(environment(&python));
        places.extend(ask(&python, variables).await);
    }
    places.truncate(MAX_PLACES);
    places
}

/// Adds the program and, if it is a script, its interpreter and the programs that it starts.
fn look_at(
    program: &Path,
    variables: &[(OsString, OsString)],
    depth: usize,
    places: &mut Vec<PathBuf>,
    pythons: &mut Vec<PathBuf>,
) {
    if depth == 0 || !program.is_file() || places.iter().any(|place| place == program) {
        return;
    }
    places.push(program.to_owned());
    if is_python(program) {
        pythons.push(program.to_owned());
    }
    let Some(script) = script(program) else { return };
    let Some(runner) = runner(&script, variables) else { return };
    look_at(&runner, variables, depth - 1, places, pythons);
    if SHELLS.iter().any(|shell| runner.file_name() == Some(OsStr::new(shell))) {
        // A wrapper that the operator wrote names the program that it starts.
        let text = String::from_utf8_lossy(&script);
        let words = text.split(|c: char| c.is_whitespace() || "'\"=;()".contains(c));
        let words = words.filter(|word| word.starts_with('/')).map(Path::new);
        for word in words.filter(|word| is_program(word)) {
            look_at(word, variables, depth - 1, places, pythons);
        }
    }
}

/// The interpreter of a script: the program of its first line, or what `env` finds for it.
fn runner(script: &[u8], variables: &[(OsString, OsString)]) -> Option<PathBuf> {
    interpreter(script, |name| on_path(name, variables))
}

/// The Python that runs a script. If its path is too long for the first line, a shell starts it
/// from the second. `find` looks up the names that `env` would.
pub fn interpreter(text: &[u8], find: impl FnOnce(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let mut lines = text.split(|byte| *byte == b'\n').take(2).map(|line| {
        std::str::from_utf8(&line[..line.len().min(MAX_LINE_BYTES)]).unwrap_or_default()
    });
    let mut words = lines.next()?.strip_prefix("#!")?.split_whitespace();
    let first = words.next()?;
    if first.ends_with("/env") {
        return find(words.find(|word| !word.starts_with('-'))?);
    }
    let second = lines.next().and_then(|line| line.strip_prefix("'''exec' "));
    let long = second.and_then(|line| line.split_whitespace().next());
    Some(PathBuf::from(long.unwrap_or(first).trim_matches('"')))
}

fn script(program: &Path) -> Option<Vec<u8>> {
    let is_short = program.metadata().is_ok_and(|meta| meta.len() <= MAX_SCRIPT_BYTES);
    let text = is_short.then(|| std::fs::read(program).ok())??;
    text.starts_with(b"#!").then_some(text)
}

fn is_python(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    name.strip_prefix("python")
        .is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || c == '.'))
}

fn on_path(name: &str, variables: &[(OsString, OsString)]) -> Option<PathBuf> {
    let path = variables.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value)?;
    std::env::split_paths(path).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Files and folders that variables name: libraries, packages, certificates.
fn named_by(variables: &[(OsString, OsString)]) -> impl Iterator<Item = PathBuf> {
    const NAMES: &[&str] = &[
        "CONDA_PREFIX",
        "CUDA_HOME",
        "CUDA_PATH",
        "CURL_CA_BUNDLE",
        "LD_LIBRARY_PATH",
        "PATH",
        "PYTHONHOME",
        "PYTHONPATH",
        "REQUESTS_CA_BUNDLE",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "TORCH_HOME",
        "VIRTUAL_ENV",
    ];
    let is_place = |name: &OsStr| NAMES.iter().any(|known| name == *known);
    let values = variables.iter().filter(move |(name, _)| is_place(name));
    let places = values.flat_map(|(_, value)| std::env::split_paths(value));
    // The folder of models also holds a token.
    let models = variables.iter().filter(|(name, _)| name == "HF_HOME");
    let models = models.map(|(_, folder)| Path::new(folder).join("hub"));
    places.chain(models).filter(|path| path.is_absolute())
}

/// The environment to which a Python belongs, and the installation behind it.
fn environment(python: &Path) -> Vec<PathBuf> {
    let prefix = |python: &Path| Some(python.parent()?.parent()?.to_owned());
    let installed = python.canonicalize().ok();
    let prefixes = [prefix(python), installed.as_deref().and_then(prefix)];
    let places = prefixes.iter().flatten().flat_map(|prefix| below(prefix));
    places.chain(installed.clone()).chain(version_keeper(python)).collect()
}

/// The folder of pyenv, asdf and similar tools, if the Python is one of their shims: a script that
/// looks up the real Python there.
fn version_keeper(python: &Path) -> Option<PathBuf> {
    let shims = python.parent().filter(|folder| folder.file_name() == Some(OsStr::new("shims")))?;
    shims.parent().map(Path::to_owned)
}

/// What must be readable of an installation. A virtual environment has one purpose and is readable
/// as a whole; an installation may be in `~/.local`, where only the libraries belong to Python.
fn below(prefix: &Path) -> Vec<PathBuf> {
    match prefix.join("pyvenv.cfg").is_file() || prefix.join("conda-meta").is_dir() {
        true => vec![prefix.to_owned()],
        false => ["include", "lib", "lib64"].map(|name| prefix.join(name)).to_vec(),
    }
}

/// Asks the Python itself, which also knows packages in unusual places. It does not run in the
/// package's folder, because Python imports the modules that it finds there.
async fn ask(python: &Path, variables: &[(OsString, OsString)]) -> Vec<PathBuf> {
    let mut command = Command::new(python);
    command.args(["-c", WHERE]).env_clear().current_dir("/");
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    let answer = timeout(ASK_LIMIT, output(command, None)).await;
    let Ok(Ok(ProgramOutput { stdout, .. })) = answer else { return Vec::new() };
    let mut lines = stdout.lines().map(PathBuf::from).filter(|path| path.is_absolute());
    let mut places: Vec<PathBuf> =
        lines.by_ref().take(2).flat_map(|prefix| below(&prefix)).collect();
    places.extend(lines);
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn executable(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[tokio::test]
    async fn a_script_leads_to_its_environment_and_base_python() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let (base, env) = (home.join("uv/python/cpython-3.11"), home.join("uv/tools/sleap-nn"));
        let said = home.join("extra");
        let answer = format!("#!/bin/sh\necho /a; echo /b; echo {}\n", said.display());
        executable(&base.join("bin/python3.11"), &answer);
        std::fs::create_dir_all(base.join("lib")).unwrap();
        executable(&env.join("pyvenv.cfg"), "");
        std::fs::create_dir_all(env.join("bin")).unwrap();
        symlink(base.join("bin/python3.11"), env.join("bin/python")).unwrap();
        let program = env.join("bin/sleap-nn");
        executable(&program, &format!("#!{}/bin/python\nimport x\n", env.display()));
        let link = home.join("bin/sleap-nn");
        executable(
            &home.join("bin/wrapper"),
            &format!("#!/bin/sh\nexec '{}' $@\n", link.display()),
        );
        symlink(&program, &link).unwrap();
        for start in [&program, &link, &home.join("bin/wrapper")] {
            let places = places_of(start, &[], &[]).await;
            for expected in [start, &env, &base.join("lib"), &said] {
                assert!(places.contains(expected), "{} of {places:?}", expected.display());
            }
            assert!(!places.contains(&home) && !places.contains(&base), "{places:?}");
        }
    }

    #[tokio::test]
    async fn a_shim_leads_to_its_version_manager() {
        let home = tempfile::tempdir().unwrap();
        let keeper = home.path().canonicalize().unwrap().join("pyenv");
        let real = keeper.join("versions/3.11/bin/python3");
        executable(&real, "#!/bin/sh\necho /a; echo /b; echo /packages\n");
        let shim = format!("#!/usr/bin/env bash\nexec \"{}\" \"$@\"\n", real.display());
        executable(&keeper.join("shims/python3"), &shim);
        let path = format!("{}:/usr/bin:/bin", keeper.join("shims").display());
        let variables = [(OsString::from("PATH"), OsString::from(path))];
        let program = home.path().join("sleap-nn");
        executable(&program, "#!/usr/bin/env python3\nimport x\n");
        let places = places_of(&program, &[], &variables).await;
        for expected in [&keeper, &keeper.join("shims"), &"/packages".into()] {
            assert!(places.contains(expected), "{} of {places:?}", expected.display());
        }
    }

    #[tokio::test]
    async fn variables_and_arguments_are_followed() {
        let variables = [
            ("PATH", "/usr/bin:/bin"),
            ("LD_LIBRARY_PATH", "/apps/cuda/lib64::relative"),
            ("SSL_CERT_FILE", "/site/ca.pem"),
            ("OTHER", "/not/this"),
        ];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        let script = tempfile::NamedTempFile::new().unwrap();
        let arguments = [script.path().display().to_string(), "-x".to_owned()];
        let places = places_of(Path::new("/usr/bin/env"), &arguments, &variables).await;
        assert!(places.contains(&script.path().to_owned()), "{places:?}");
        for expected in ["/apps/cuda/lib64", "/site/ca.pem"] {
            assert!(places.contains(&expected.into()), "{places:?}");
        }
        assert!(!places.contains(&"/not/this".into()), "{places:?}");
    }
}
