//! The findings of checks, each with advice, printed as lines or as JSON.

use super::exit::{Exit, ExitWith, Failure};
use super::print;
use serde::Serialize;
use sleap_rtc_protocol::text::Printable;

/// The longest line of a finding, in characters.
const MAX_LINE_CHARS: usize = 2000;

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) check: &'static str,
    pub(crate) verdict: Verdict,
    /// What was found.
    pub(crate) says: String,
    /// What to do, if something is wrong.
    pub(crate) advice: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Ok,
    Warn,
    Fail,
}

impl Finding {
    pub(crate) fn ok(check: &'static str, says: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, says: says.into(), advice: None }
    }

    pub(crate) fn warn(
        check: &'static str,
        says: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        let advice = Some(advice.into());
        Self { check, verdict: Verdict::Warn, says: says.into(), advice }
    }

    pub(crate) fn fail(
        check: &'static str,
        says: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { verdict: Verdict::Fail, ..Self::warn(check, says, advice) }
    }

    /// One line for the finding, and one for the advice.
    fn line(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Ok => "ok  ",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        };
        // Text from other programs must not control the terminal.
        let plain = |text: &str| Printable::line(text, MAX_LINE_CHARS);
        let line = format!("{verdict}  {:<11} {}\n", self.check, plain(&self.says));
        match &self.advice {
            None => line,
            Some(advice) => format!("{line}      {:<11} → {}\n", "", plain(advice)),
        }
    }
}

/// Prints the findings. Ends with [`Exit::Unexpected`] if one has failed.
pub(crate) fn report(findings: &[Finding], as_json: bool) -> Result<Exit, Failure> {
    if as_json {
        let text = serde_json::to_string_pretty(findings).exit(Exit::Unexpected)?;
        print::line(&text).exit(Exit::Unexpected)?;
    } else {
        let lines: String = findings.iter().map(Finding::line).collect();
        print::raw(&lines).exit(Exit::Unexpected)?;
    }
    let failed = findings.iter().any(|finding| finding.verdict == Verdict::Fail);
    Ok(if failed { Exit::Unexpected } else { Exit::Success })
}

/// An error with its causes, on one line.
pub(crate) fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_to_do() {
        let fine = Finding::ok("gpu", "NVIDIA A40,\u{1b}[2J 46068 MB");
        assert_eq!(fine.line(), "ok    gpu         NVIDIA A40,[2J 46068 MB\n");
        let failed = Finding::fail("trainer", "no sleap-nn found", "install it");
        insta::assert_snapshot!(failed.line(), @"
        fail  trainer     no sleap-nn found
                          → install it
        ");
    }
}
