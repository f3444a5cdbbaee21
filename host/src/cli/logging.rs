//! Logging on standard error: one line for each decision, details with `-v`.
//!
//! Dependencies log warnings and errors. The WebRTC stack logs nothing, because a server of names that is
//! away is an error to it, and with `-v` only errors, because its warnings contain session descriptions.
//! iroh logs nothing, because it warns of every ordinary goodbye.
//! `SLEAP_RTC_LOG` overrides all of this.

use super::exit::Failure;
use clap::{Args, ValueEnum};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Dependencies with fewer log lines: only errors, and none at all from iroh, which reports ordinary
/// goodbyes as errors, and from async-nats, whose events the server logs itself.
const QUIET: &str =
    "iroh=off,iroh_relay=error,noq=error,noq_proto=error,netwatch=error,async_nats=off";

/// The options, the same for every subcommand.
#[derive(Args)]
#[command(next_help_heading = "Logging")]
pub struct LogArgs {
    /// How much to log
    #[arg(long, global = true, value_enum, value_name = "LEVEL", conflicts_with = "verbose")]
    log_level: Option<LogLevel>,
    /// Format of the log
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// Log details; the same as `--log-level debug`
    #[arg(short, long, global = true)]
    verbose: bool,
}

/// How much to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// Errors.
    Error,
    /// Also warnings.
    Warn,
    /// Also decisions, with their reasons.
    Info,
    /// Also details.
    Debug,
    /// Everything except payload and secrets.
    Trace,
}

/// For people or for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line per event.
    Text,
    /// One JSON object per event.
    Json,
}

/// How to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// The level of this program's own events.
    pub level: LogLevel,
    /// For people or for programs.
    pub format: LogFormat,
    /// Whether lines of text begin with the time, which is useful for programs that run for days.
    pub timestamps: bool,
}

impl LogArgs {
    pub(crate) fn options(&self, timestamps: bool) -> LogOptions {
        let default = if self.verbose { LogLevel::Debug } else { LogLevel::Info };
        let level = self.log_level.unwrap_or(default);
        LogOptions { level, format: self.log_format, timestamps }
    }
}

impl LogOptions {
    /// The filter's directives, unless the user sets SLEAP_RTC_LOG.
    fn directives(self) -> String {
        let level = match self.level {
            LogLevel::Off => return "off".into(),
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        };
        let others = if self.level == LogLevel::Error { "error" } else { "warn" };
        let webrtc = if self.level >= LogLevel::Debug { "error" } else { "off" };
        format!("{others},webrtc={webrtc},rtc={webrtc},{QUIET},sleap_rtc={level}")
    }
}

/// Starts logging for the whole process. `custom` is `SLEAP_RTC_LOG`.
pub fn init(options: LogOptions, custom: Option<&str>) -> Result<(), Failure> {
    let default = options.directives();
    let filter = EnvFilter::try_new(custom.unwrap_or(&default)).map_err(|error| {
        Failure::usage(format!("SLEAP_RTC_LOG is not a valid log filter: {error}"))
            .hint("an example of a filter: SLEAP_RTC_LOG=warn,sleap_rtc=debug")
    })?;
    let may_colour = std::env::var_os("NO_COLOR").is_none() && !crate::terminal::is_dumb();
    let colours = std::io::stderr().is_terminal() && may_colour;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        // Reporting that standard error is closed would panic.
        .log_internal_errors(false)
        .with_span_events(FmtSpan::NONE)
        .with_ansi(colours);
    // Fails if a test has already started logging, and keeps the test's logger.
    let _ = match (options.format, options.timestamps) {
        (LogFormat::Json, _) => subscriber.json().flatten_event(true).try_init(),
        (LogFormat::Text, true) => subscriber.with_target(false).compact().try_init(),
        (LogFormat::Text, false) => {
            subscriber.with_target(false).compact().without_time().try_init()
        }
    };
    Ok(())
}

/// Where the log goes: above what a client draws on its terminal.
#[cfg(feature = "client")]
fn writer() -> crate::client::screen::LogWriter {
    crate::client::screen::LogWriter
}

#[cfg(not(feature = "client"))]
fn writer() -> std::io::Stderr {
    std::io::stderr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_webrtc_stack_logs_at_most_errors_and_only_with_details() {
        for level in LogLevel::value_variants() {
            let options = LogOptions { level: *level, format: LogFormat::Text, timestamps: false };
            let directives = options.directives();
            assert!(EnvFilter::try_new(&directives).is_ok());
            let logs_errors = directives.contains("webrtc=error,rtc=error,");
            assert_eq!(logs_errors, *level >= LogLevel::Debug);
            assert!(directives == "off" || directives.contains(QUIET));
        }
    }
}
