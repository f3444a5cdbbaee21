//! Translates a job's events to texts of the Python dialect. No I/O.

use sleap_rtc_protocol::job::{JobEvent, JobOutcome, JobType};
use sleap_rtc_protocol::python::WorkerText;

/// A longer line of the log is sent in parts.
const LONGEST_LINE_BYTES: usize = 16 * 1024;

/// Translates events to texts, and keeps the incomplete last line of the log in between.
pub(crate) struct Texts {
    job_type: JobType,
    /// The client's name for a shared-storage job.
    shared_label: Option<String>,
    line: String,
}

impl Default for Texts {
    fn default() -> Self {
        Self { job_type: JobType::Training, shared_label: None, line: String::new() }
    }
}

impl Texts {
    pub(crate) fn new(job_type: Option<JobType>, shared_label: Option<String>) -> Self {
        let job_type = job_type.unwrap_or(JobType::Training);
        Self { job_type, shared_label, line: String::new() }
    }

    pub(crate) fn set_job_type(&mut self, job_type: JobType) {
        self.job_type = job_type;
    }

    pub(crate) fn job_type(&self) -> JobType {
        self.job_type
    }

    /// The texts for one event.
    pub(crate) fn of(&mut self, event: &JobEvent) -> Vec<WorkerText> {
        let training = self.job_type == JobType::Training;
        match event {
            JobEvent::Staged { .. } if !training => vec![WorkerText::InferenceStart],
            JobEvent::RunStarted { name } if training => {
                vec![WorkerText::TrainJobStart(name.clone())]
            }
            JobEvent::RunStarted { name } => vec![WorkerText::InferenceJobStart(name.clone())],
            JobEvent::Log { text } => self.log(text),
            JobEvent::Progress { message } => vec![WorkerText::ProgressReport(message.clone())],
            JobEvent::RunEnded { name, outcome } => {
                let mut texts = self.rest_of_line();
                texts.push(self.run_ended(name, outcome));
                texts
            }
            JobEvent::Finished { outcome: JobOutcome::Failed { message, .. } } => {
                // Users look for the cause in the log.
                self.log(&format!("\n{message}\n"))
            }
            _ => Vec::new(),
        }
    }

    fn run_ended(&self, name: &str, outcome: &JobOutcome) -> WorkerText {
        let name = name.to_owned();
        let code = match outcome {
            JobOutcome::Succeeded | JobOutcome::StoppedEarly => None,
            JobOutcome::Failed { exit_code, .. } => Some(exit_code.unwrap_or(1).to_string()),
            JobOutcome::Cancelled | JobOutcome::Interrupted => Some("-15".to_owned()),
        };
        match (self.job_type, code) {
            (JobType::Training, None) => WorkerText::TrainJobEnd(name),
            (JobType::Training, Some(code)) => WorkerText::TrainJobError(name, code),
            (JobType::Inference, None) => WorkerText::InferenceJobEnd(name),
            (JobType::Inference, Some(code)) => WorkerText::InferenceJobError(name, code),
        }
    }

    /// The texts after the job is over, before its result.
    pub(crate) fn before_result(&self) -> Vec<WorkerText> {
        match self.job_type {
            JobType::Training => vec![WorkerText::TrainingJobsDone],
            JobType::Inference => Vec::new(),
        }
    }

    /// The texts after the result.
    pub(crate) fn after_result(&self) -> Vec<WorkerText> {
        match self.job_type {
            JobType::Training => Vec::new(),
            JobType::Inference => vec![WorkerText::InferenceJobsDone],
        }
    }

    /// The end of a shared-storage job.
    pub(crate) fn shared_end(&self, outcome: &JobOutcome, output: String) -> WorkerText {
        let label = self.shared_label.clone().unwrap_or_default();
        match outcome {
            outcome if outcome.is_success() => WorkerText::JobComplete(label, output),
            JobOutcome::Failed { message, .. } => WorkerText::JobFailed(label, message.clone()),
            _ => WorkerText::JobFailed(label, "the job ended before it was done".into()),
        }
    }

    /// The texts for a job that never ran: the cause, and the end that the client waits for.
    pub(crate) fn refusal(&self, cause: &str) -> Vec<WorkerText> {
        let log = WorkerText::Log(format!("Job refused: {cause}\n"));
        match (&self.shared_label, self.job_type) {
            (Some(label), _) => vec![
                WorkerText::PathError(cause.to_owned()),
                WorkerText::JobFailed(label.clone(), cause.to_owned()),
            ],
            (None, JobType::Training) => {
                let error = WorkerText::TrainJobError("package".into(), "1".into());
                vec![log, error, WorkerText::TrainingJobsDone]
            }
            (None, JobType::Inference) => {
                vec![WorkerText::InferenceError(cause.to_owned()), WorkerText::InferenceJobsDone]
            }
        }
    }

    fn log(&mut self, text: &str) -> Vec<WorkerText> {
        self.line.push_str(text);
        let end = match self.line.rfind(['\n', '\r']) {
            // `\r` starts the next state of a progress bar, `\n` ends a line.
            Some(at) if self.line.as_bytes()[at] == b'\n' => at + 1,
            Some(at) if at > 0 => at,
            _ if self.line.len() > LONGEST_LINE_BYTES => self.line.len(),
            _ => return Vec::new(),
        };
        let rest = self.line.split_off(end);
        let whole = std::mem::replace(&mut self.line, rest);
        self.as_log(whole)
    }

    fn rest_of_line(&mut self) -> Vec<WorkerText> {
        let rest = std::mem::take(&mut self.line);
        if rest.is_empty() { Vec::new() } else { self.as_log(rest) }
    }

    /// Log text always has a line break, so that it cannot be taken for a keyword.
    fn as_log(&self, mut text: String) -> Vec<WorkerText> {
        if self.job_type == JobType::Inference {
            let lines = text.split_inclusive(['\n', '\r']).filter(|line| !line.trim().is_empty());
            return lines.map(|line| WorkerText::TrackLog(line.to_owned())).collect();
        }
        if !text.contains(['\n', '\r']) {
            text.push('\n');
        }
        vec![WorkerText::Log(text)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(text: &str) -> JobEvent {
        JobEvent::Log { text: text.into() }
    }

    #[test]
    fn parts_of_the_log_become_whole_lines_and_never_keywords() {
        let mut texts = Texts::default();
        assert!(texts.of(&log("TRAIN_JOB_END::x")).is_empty());
        assert_eq!(
            texts.of(&log(" is printed\nnext")),
            [WorkerText::Log("TRAIN_JOB_END::x is printed\n".into())]
        );
        let ended = JobEvent::RunEnded { name: "c".into(), outcome: JobOutcome::Succeeded };
        assert_eq!(
            texts.of(&ended),
            [WorkerText::Log("next\n".into()), WorkerText::TrainJobEnd("c".into())]
        );
    }

    #[test]
    fn a_progress_bar_is_sent_state_by_state() {
        let mut texts = Texts::default();
        assert!(texts.of(&log("\rEpoch 0: 10%")).is_empty());
        assert_eq!(texts.of(&log("\rEpoch 0: 20%")), [WorkerText::Log("\rEpoch 0: 10%".into())]);
    }

    #[test]
    fn a_failed_run_has_its_exit_code() {
        let mut texts = Texts::new(Some(JobType::Inference), None);
        let outcome = JobOutcome::Failed { exit_code: Some(2), message: "no".into() };
        assert_eq!(
            texts.of(&JobEvent::RunEnded { name: "inference".into(), outcome }),
            [WorkerText::InferenceJobError("inference".into(), "2".into())]
        );
        assert_eq!(
            texts.refusal("bad zip"),
            [WorkerText::InferenceError("bad zip".into()), WorkerText::InferenceJobsDone]
        );
    }
}
