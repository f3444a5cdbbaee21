//! Explains why a trainer failed.

use super::output::{Output, Stream};
use sleap_rtc_protocol::text::Printable;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

const MAX_MESSAGE_CHARS: usize = 800;
const MAX_LINES: usize = 5;
const SIGKILL: i32 = 9;

const OUT_OF_GPU_MEMORY: &str = "the GPU ran out of memory: try a smaller batch size, a smaller \
     input scale, or a worker with more GPU memory";
const KILLED: &str = "the trainer was killed (SIGKILL); a system does that when its memory runs \
     out: try fewer data loader workers, a smaller batch size, or a worker with more memory";

const NO_GPU: &str = "CUDA finds no GPU, or its driver is too old for the installed PyTorch: \
     run `sleap-rtc doctor --worker` on the worker's machine to find out which";
const HDF5_LOCK: &str = "the file system does not support the locks that HDF5 uses: set \
     HDF5_USE_FILE_LOCKING=FALSE for the worker";
const NETWORK: &str = "the trainer could not reach the network; it sees the worker's HTTPS_PROXY and \
     SSL_CERT_FILE, and other variables only where `[worker] pass_env` names them";
const CREDENTIALS: &str = "the trainer sees only some of the worker's environment variables; name \
     what it needs in `[worker] pass_env`";

const DENIED: &str = "the trainer cannot access a file or folder: the sandbox hides it or makes it \
     read-only (name what jobs need in `[worker] sandbox_read` or `sandbox_write`), or it belongs to \
     another user";

/// Advice for errors that do not say enough: texts that identify the error, and the advice.
const ADVICE: [(&[&str], &str); 6] = [
    (&["OutOfMemoryError", "out of memory"], OUT_OF_GPU_MEMORY),
    (
        &["No CUDA GPUs are available", "NVIDIA driver on your system", "CUDA driver version is"],
        NO_GPU,
    ),
    (&["unable to lock file"], HDF5_LOCK),
    (
        &[
            "CERTIFICATE_VERIFY_FAILED",
            "ProxyError",
            "Name or service not known",
            "Connection refused",
        ],
        NETWORK,
    ),
    (&["Permission denied", "PermissionError"], DENIED),
    (&["api_key not configured", "401 Client Error", "KeyError: 'HOME'"], CREDENTIALS),
];

/// Why a trainer that ended with `status` failed.
pub fn explain(status: ExitStatus, output: &Output) -> String {
    let said = last_words(output);
    if status.signal() == Some(SIGKILL) {
        return KILLED.to_owned();
    }
    let ended = match (status.code(), status.signal()) {
        (Some(0), _) => "the trainer ended with exit code 0 but without a result".to_owned(),
        (Some(code), _) => format!("the trainer failed with exit code {code}"),
        (None, Some(signal)) => format!("the trainer was ended by signal {signal}"),
        (None, None) => "the trainer ended".to_owned(),
    };
    let advice = ADVICE.iter().find(|(words, _)| words.iter().any(|words| said.contains(words)));
    let reason = match advice {
        Some((_, advice)) => format!("{advice}\n{said}"),
        None => said,
    };
    let message = if reason.is_empty() { ended } else { format!("{ended}: {reason}") };
    Printable::lines(&message, MAX_MESSAGE_CHARS).into()
}

/// The error message and what follows it, or else the last lines.
fn last_words(output: &Output) -> String {
    let errors: Vec<&str> = output.tail(Stream::Err).iter().map(String::as_str).collect();
    let lines = match errors.iter().rposition(|line| is_error(line)) {
        Some(at) => &errors[at..(at + MAX_LINES).min(errors.len())],
        None if errors.is_empty() => {
            let printed: Vec<&str> = output.tail(Stream::Out).iter().map(String::as_str).collect();
            return printed[printed.len().saturating_sub(MAX_LINES)..].join("\n");
        }
        None => &errors[errors.len().saturating_sub(MAX_LINES)..],
    };
    lines.join("\n")
}

/// Whether it is the last line of a Python traceback, such as `module.SomeError: why`.
fn is_error(line: &str) -> bool {
    let kind = line.split(':').next().unwrap_or(line);
    !line.starts_with(char::is_whitespace)
        && !kind.contains(' ')
        && (kind.ends_with("Error") || kind.ends_with("Exception") || kind.ends_with("Exit"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn explained(wait_status: i32, out: &str, err: &str) -> String {
        let mut output = Output::new(false);
        output.push(Stream::Out, out.as_bytes(), Instant::now());
        output.push(Stream::Err, err.as_bytes(), Instant::now());
        output.finish();
        explain(ExitStatus::from_raw(wait_status), &output)
    }

    #[test]
    fn the_cause_is_named() {
        let traceback = "Traceback (most recent call last):\n  File \"x\", line 1\n    f()\n";
        let cases = [
            (
                1 << 8,
                format!("{traceback}KeyError: 'crop_mode'\n    full_key: a\n"),
                "KeyError: 'crop",
            ),
            (
                1 << 8,
                format!("{traceback}torch.OutOfMemoryError: CUDA out of memory.\n"),
                "batch size",
            ),
            (
                1 << 8,
                "BlockingIOError: [Errno 11] Unable to synchronously open file (unable to lock \
                 file, errno = 11)\n"
                    .into(),
                "HDF5_USE_FILE_LOCKING",
            ),
            (1 << 8, "wandb.errors.UsageError: api_key not configured\n".into(), "pass_env"),
            (9, String::new(), "SIGKILL"),
            (15, String::new(), "signal 15"),
            (2 << 8, "\n Usage: x\n\n No such option: --nope\n".into(), "No such option"),
            (0, String::new(), "without a result: usage of the trainer"),
        ];
        for (status, err, expected) in cases {
            let message = explained(status, "usage of the trainer\n", &err);
            assert!(message.contains(expected), "{message:?} lacks {expected:?}");
        }
        let long = explained(1 << 8, "", &format!("ValueError: {}", "x".repeat(5000)));
        assert!(long.chars().count() <= MAX_MESSAGE_CHARS);
    }
}
