//! `sleap-rtc completions` and `man`: what the grammar of the command line says, for shells and for `man`.

use super::exit::{Exit, ExitWith, Failure};
use super::{Cli, print};
use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;
use std::fs;
use std::path::{Path, PathBuf};

/// The examples under `completions --help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  bash, for you alone:
    sleap-rtc completions bash > ~/.local/share/bash-completion/completions/sleap-rtc
  zsh, in a folder of $fpath:
    sleap-rtc completions zsh > ~/.zfunc/_sleap-rtc
  fish:
    sleap-rtc completions fish > ~/.config/fish/completions/sleap-rtc.fish
  PowerShell, for this session:
    sleap-rtc completions powershell | Out-String | Invoke-Expression";

/// The options of `completions`.
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "bash|zsh|fish|powershell|elvish")]
    shell: Shell,
}

/// The options of `man`.
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// An existing folder
    folder: PathBuf,
}

/// Prints the script that completes commands and options in a shell.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut visible(&Cli::command()), "sleap-rtc", &mut script);
    // clap_complete 4.6 writes the dash of this program's name in two ways, and bash finds no options.
    let script = String::from_utf8_lossy(&script).replace("sleap__subcmd__rtc", "sleap__rtc");
    print::raw(&script).exit(Exit::Unexpected)?;
    Ok(Exit::Success)
}

/// The program without the commands that it starts itself.
fn visible(program: &clap::Command) -> clap::Command {
    let commands = program.get_subcommands().filter(|command| !command.is_hide_set());
    clap::Command::new(program.get_name().to_owned())
        .version(super::version::text())
        .args(program.get_arguments().cloned())
        .subcommands(commands.cloned())
}

/// Writes a page for the program and for each of its commands, also under its short name.
pub(crate) fn man(args: &ManArgs) -> Result<Exit, Failure> {
    write_pages(&args.folder).exit(Exit::Usage)?;
    Ok(Exit::Success)
}

fn write_pages(folder: &Path) -> anyhow::Result<()> {
    let cannot = || format!("cannot write manual pages to {}", folder.display());
    // `help` repeats every command once more.
    let program = Cli::command().disable_help_subcommand(true);
    for command in program.get_subcommands() {
        for alias in command.get_visible_aliases() {
            let page = format!(".so man1/sleap-rtc-{}.1\n", command.get_name());
            fs::write(folder.join(format!("sleap-rtc-{alias}.1")), page).with_context(cannot)?;
        }
    }
    clap_mangen::generate_to(program, folder).with_context(cannot)
}
