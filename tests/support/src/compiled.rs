//! The built-in plugins, compiled once for all tests.

use crate::built;
use crate::process::clean_command;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Where a program keeps compiled plugins, below its home.
const CACHE: &str = ".cache/sleap-rtc/plugins";
const NAME: &str = "compiled-plugins-";

/// A folder with all built-in plugins, compiled. `None` if it cannot be made, or if the tested program is not
/// the one that was built here.
static COMPILED: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let program = built().join("sleap-rtc");
    let own = std::env::var_os("SLEAP_RTC_PROGRAM").is_none();
    let built_at = fs::metadata(&program).ok().filter(|_| own)?;
    let folder = built().join(format!("{NAME}{}-{}", built_at.mtime(), built_at.mtime_nsec()));
    if !folder.exists() {
        compile(&program, &folder)?;
    }
    Some(folder)
});

/// Gives a home without a cache the one of a program that ran before. Users have it too, and compiling takes a
/// quarter of a second at each start.
pub fn provide(home: &Path) {
    let Some(compiled) = &*COMPILED else { return };
    if !home.join(".cache").exists() {
        // Without the cache everything works, only slower.
        let _ = copy(compiled, &home.join(CACHE));
    }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(to)?;
    for file in fs::read_dir(from)? {
        let file = file?;
        fs::copy(file.path(), to.join(file.file_name()))?;
    }
    Ok(())
}

/// Has the program simulate a few jobs, which compiles all plugins. If several tests do so at once, one wins.
fn compile(program: &Path, folder: &Path) -> Option<()> {
    let home = tempfile::Builder::new().prefix("home-").tempdir_in(built()).ok()?;
    let mut command = clean_command(program, home.path(), "/usr/bin:/bin");
    command.args(["plugin", "simulate", "--generate", "--jobs", "100"]);
    command.output().ok().filter(|output| output.status.success())?;
    for other in fs::read_dir(built()).ok()?.flatten() {
        if other.file_name().to_string_lossy().starts_with(NAME) {
            let _ = fs::remove_dir_all(other.path());
        }
    }
    let made = home.path().join(CACHE);
    let _ = fs::rename(made, folder);
    folder.exists().then_some(())
}
