//! The text of a systemd unit, from the unit in `examples`.

use super::Role;

/// What a unit starts, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) role: Role,
    /// The program and its arguments.
    pub(crate) command: Vec<String>,
    /// Variables for the program.
    pub(crate) environment: Vec<(String, String)>,
    /// What relative paths among the arguments start from; the home folder if there is none.
    pub(crate) folder: Option<String>,
}

impl Unit {
    /// The unit file, or the word that a unit file cannot hold.
    pub(crate) fn text(&self) -> Result<String, String> {
        let values = self.environment.iter().map(|(_, value)| value);
        if let Some(word) = self.command.iter().chain(values).chain(&self.folder).find(is_broken) {
            return Err(word.clone());
        }
        let mut text = format!("# Written by `sleap-rtc service install {}`.\n", self.role.name());
        let template = self.role.template();
        // What stands before the first section says how to install the file by hand.
        let lines = template.lines().skip_while(|line| !line.starts_with('['));
        for line in lines {
            match line.split_once('=') {
                Some(("ExecStart", _)) => text.push_str(&self.exec_start()),
                Some(("Environment", _)) => text.push_str(&self.variables()),
                Some(("WorkingDirectory", home)) => {
                    let folder = self.folder.as_deref().map(|folder| folder.replace('%', "%%"));
                    let folder = folder.as_deref().unwrap_or(home);
                    text.push_str(&format!("WorkingDirectory={folder}"));
                }
                _ => text.push_str(line),
            }
            text.push('\n');
        }
        Ok(text)
    }

    fn exec_start(&self) -> String {
        let mut words = self.command.iter();
        // systemd looks for no variable in the program's own name.
        let program = words.next().map(|program| quoted(program));
        let arguments = words.map(|word| quoted(word).replace('$', "$$"));
        let words: Vec<String> = program.into_iter().chain(arguments).collect();
        format!("ExecStart={}", words.join(" "))
    }

    fn variables(&self) -> String {
        let line = |(name, value): &(String, String)| {
            format!("Environment={}", quoted(&format!("{name}={value}")))
        };
        self.environment.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

fn is_broken(word: &&String) -> bool {
    word.chars().any(char::is_control)
}

/// One word, as a unit file has it: in quotes, without specifiers.
fn quoted(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(words: &[&str]) -> Unit {
        let command = ["/opt/lab tools/sleap-rtc"].iter().chain(words);
        Unit {
            role: Role::Worker,
            command: command.map(|&word| word.to_owned()).collect(),
            environment: vec![("PATH".to_owned(), "/home/ada/100%/bin:/usr/bin".to_owned())],
            folder: None,
        }
    }

    #[test]
    fn a_unit_starts_this_program_with_these_words() {
        let text = unit(&["worker", "--state-dir", "/data/$lab \"x\""]).text().unwrap();
        insta::assert_snapshot!(text);
    }

    #[test]
    fn relative_paths_start_where_the_options_were_written() {
        let unit = Unit { folder: Some("/data/50%".to_owned()), ..unit(&["worker"]) };
        assert!(unit.text().unwrap().contains("\nWorkingDirectory=/data/50%%\n"));
    }

    #[test]
    fn a_word_with_a_line_break_is_refused() {
        assert_eq!(unit(&["worker", "a\nb"]).text().unwrap_err(), "a\nb");
    }

    #[test]
    fn the_unit_leaves_jobs_and_tokens_alone() {
        let text = unit(&["worker"]).text().unwrap();
        for line in ["KillMode=process", "StandardOutput=null", "RestartPreventExitStatus=2"] {
            assert!(text.lines().any(|found| found == line), "{line}");
        }
    }
}
