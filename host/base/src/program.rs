//! Runs programs to their end. What they have started ends with them.

use crate::os::ProcessGroup;
use std::io;
use std::process::{ExitStatus, Stdio};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, copy, sink};
use tokio::process::Command;

#[cfg(unix)]
mod blocking;
#[cfg(unix)]
pub use blocking::{ProgramError, run};

const MAX_OUTPUT_BYTES: u64 = 1024 * 1024;
/// What a program printed, and how it ended.
#[derive(Debug)]
pub struct ProgramOutput {
    /// How it ended.
    pub status: ExitStatus,
    /// The first MiB of its output.
    pub stdout: String,
    /// The first MiB of its errors.
    pub stderr: String,
}

/// Runs a command to its end, and gives it `input`. Dropping the future, as a time limit does, kills the
/// program and everything that it has started.
///
/// # Errors
/// The system's, if the program cannot be run.
pub async fn output(mut command: Command, input: Option<&str>) -> io::Result<ProgramOutput> {
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    ProcessGroup::begin(&mut command);
    let mut child = command.spawn()?;
    let _group = ProcessGroup::of(&child);
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let writing = async {
        if let (Some(mut pipe), Some(input)) = (stdin, input) {
            // A program that refuses its options may not read it.
            let _ = pipe.write_all(input.as_bytes()).await;
        }
    };
    let ((), stdout, stderr) = tokio::join!(writing, beginning(stdout), beginning(stderr));
    Ok(ProgramOutput { status: child.wait().await?, stdout: stdout?, stderr: stderr? })
}

/// The beginning of what a program prints. The rest is read as well, so that the program does not wait.
async fn beginning(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<String> {
    let Some(pipe) = pipe else { return Ok(String::new()) };
    let (mut pipe, mut bytes) = (pipe.take(MAX_OUTPUT_BYTES), Vec::new());
    pipe.read_to_end(&mut bytes).await?;
    copy(pipe.get_mut(), &mut sink()).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;
    use std::time::Duration;
    use tokio::task::spawn_blocking;
    use tokio::time::timeout;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn a_program_gets_its_input_and_may_print_more_than_is_kept() {
        let ended = output(shell("cat; yes | head -c 3000000 >&2; exit 9"), Some("hello")).await;
        let ended = ended.unwrap();
        assert_eq!((ended.status.code(), &*ended.stdout), (Some(9), "hello"));
        assert_eq!(ended.stderr.len() as u64, MAX_OUTPUT_BYTES);
        let absent = output(Command::new("/nonexistent/squeue"), None).await;
        assert_eq!(absent.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn what_a_program_has_started_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let holds = format!("(echo; sleep 600; true) > {}", pipe.display());
        let began = spawn_blocking(move || {
            let mut pipe = File::open(pipe).unwrap();
            pipe.read_exact(&mut [0; 2]).unwrap();
            pipe
        });
        let mut pipe = tokio::select! {
            pipe = began => pipe.unwrap(),
            ended = output(shell(&format!("{holds} & {holds}")), None) => panic!("{ended:?}"),
        };
        // The pipe ends once no process has it open any more.
        let ended = spawn_blocking(move || pipe.read_to_end(&mut Vec::new()).unwrap());
        timeout(Duration::from_secs(60), ended).await.expect("both have ended").unwrap();
    }
}
