//! Rewrites a package's script for Python workers. They match each line against a pattern, without a
//! shell, and silently ignore lines that do not match.

use sleap_rtc_package::script::{self, RUN_NAME, Run, ScriptFile};
use sleap_rtc_protocol::job::JobType;

/// Settings that every worker sets itself. Dropping them loses nothing of the user's.
const WORKERS_OWN: [&str; 4] = [
    RUN_NAME,
    "trainer_config.ckpt_dir",
    "trainer_config.zmq.controller_port",
    "trainer_config.zmq.publish_port",
];

/// A script that Python workers understand.
#[derive(Debug, PartialEq)]
pub(crate) struct ForPython {
    pub(crate) text: String,
    /// Settings of the original that Python workers do not pass on to the trainer.
    pub(crate) left_out: Vec<String>,
}

/// Rewrites the script `text`, or returns why no Python worker could run it.
pub(crate) fn rewrite(job_type: JobType, text: &str) -> Result<ForPython, String> {
    let parsed =
        script::parse(ScriptFile::of(job_type), text).map_err(|error| error.to_string())?;
    let mut lines = vec!["#!/bin/bash".to_owned()];
    let mut left_out = Vec::new();
    for run in &parsed.runs {
        match run {
            Run::Train(train) => {
                let config = whole_word(train.config.path.as_str())?;
                lines.push(format!("sleap-nn train --config-name {config} --config-dir ."));
                left_out.extend(train.settings.iter().map(|setting| setting.key.clone()));
            }
            Run::TrainLegacy(_) => {
                return Err(
                    "Python workers train with sleap-nn alone; export it with SLEAP 1.5 or \
                            newer"
                        .into(),
                );
            }
            // Rewritten below.
            Run::Track(_) => {}
        }
    }
    if job_type == JobType::Inference {
        lines.extend(tracking_lines(text)?);
    }
    left_out.retain(|key| !WORKERS_OWN.contains(&key.as_str()));
    left_out.sort();
    left_out.dedup();
    Ok(ForPython { text: lines.join("\n") + "\n", left_out })
}

/// The lines of a tracking script. This program writes such scripts itself, one command a line.
fn tracking_lines(text: &str) -> Result<Vec<String>, String> {
    let commands = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let rewritten = commands.map(|line| {
        let words = shell_words::split(line).map_err(|error| error.to_string())?;
        let words: Result<Vec<&str>, String> = words.iter().map(|word| whole_word(word)).collect();
        let options = words?.get(2..).unwrap_or_default().join(" ");
        Ok(format!("sleap-nn track {options}"))
    });
    rewritten.collect()
}

/// Checks that a Python worker reads `word` as one word: it splits at blanks, and keeps quotes.
fn whole_word(word: &str) -> Result<&str, String> {
    let breaks = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '\\');
    match word.contains(breaks) {
        true => Err(format!("Python workers cannot read the name {word:?}; rename the file")),
        false => Ok(word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exported_scripts_become_what_python_workers_match() {
        let exported = "#!/bin/bash\n\
            sleap train --config-name centroid.yaml --config-dir . \
            'trainer_config.run_name=\"a.n=12\"' trainer_config.max_epochs=3\n\
            sleap-nn-train --config-name instance.yaml \\\n --config-dir .\n";
        let wanted = "#!/bin/bash\n\
            sleap-nn train --config-name centroid.yaml --config-dir .\n\
            sleap-nn train --config-name instance.yaml --config-dir .\n";
        let rewritten = rewrite(JobType::Training, exported).unwrap();
        assert_eq!(rewritten.text, wanted);
        assert_eq!(rewritten.left_out, ["trainer_config.max_epochs"]);
    }

    #[test]
    fn what_python_workers_cannot_read_is_refused() {
        let spaced = "sleap-nn train --config-name 'my centroid.yaml' --config-dir .\n";
        assert!(rewrite(JobType::Training, spaced).unwrap_err().contains("my centroid.yaml"));
        let json = "sleap-train centroid.json labels.slp\n";
        assert!(rewrite(JobType::Training, json).unwrap_err().contains("SLEAP 1.5"));
    }

    #[test]
    fn a_tracking_is_one_line_without_quotes() {
        let script =
            "#!/bin/bash\nsleap-nn track --data_path a.slp --model_paths models/b -o c.slp\n";
        assert_eq!(rewrite(JobType::Inference, script).unwrap().text, script);
        let spaced = "sleap-nn track --data_path 'a b.slp' --model_paths models/b -o c.slp\n";
        assert!(rewrite(JobType::Inference, spaced).unwrap_err().contains("a b.slp"));
    }
}
