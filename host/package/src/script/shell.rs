//! Splits a script into commands and words as a shell does, without a shell.
//!
//! Control flow, pipes and here-documents are rejected. What only a shell could evaluate (`$(…)`, an
//! unknown variable) remains as it is written, and the word is marked as opaque. A command that needs an
//! opaque word is rejected.

use super::{LineFault, ScriptError, ScriptFile, quoted_line};
use std::collections::HashMap;
use std::iter::Peekable;
use std::str::CharIndices;

/// Words with which a shell does more than run one program after another.
const CONTROL: [&str; 18] = [
    "!", "[[", "case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for", "function",
    "if", "select", "then", "until", "while", "{",
];

/// One word of a command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Word {
    /// Its text, without quotes and with the values of known variables.
    pub(crate) text: String,
    /// The part of it that only a shell could evaluate.
    pub(crate) opaque: Option<String>,
}

/// One program that a script starts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ShellCommand {
    /// The line on which it starts, counted from 1.
    pub(crate) line: usize,
    /// Its words, at least one.
    pub(crate) words: Vec<Word>,
    /// The file to which its output is redirected.
    pub(crate) writes_to: Option<String>,
}

/// The commands of `text`, in order. Assignments set variables for the commands after them.
pub(crate) fn commands(file: ScriptFile, text: &str) -> Result<Vec<ShellCommand>, ScriptError> {
    let mut lexer = Lexer { chars: text.char_indices().peekable(), ..Lexer::default() };
    match lexer.run(text) {
        Ok(()) => Ok(lexer.commands),
        Err(fault) => {
            let line = lexer.line;
            let text = quoted_line(text, line);
            Err(ScriptError::Line { script: file.name(), line, fault, text })
        }
    }
}

struct Lexer<'a> {
    chars: Peekable<CharIndices<'a>>,
    line: usize,
    variables: HashMap<String, Word>,
    commands: Vec<ShellCommand>,
    command: ShellCommand,
    /// The unfinished word.
    word: Option<Word>,
    /// Whether the next word names the file to which output is redirected.
    redirected: bool,
    /// Whether the words belong to a `tee` that gets the command's output.
    piped: bool,
}

impl Default for Lexer<'_> {
    fn default() -> Self {
        Self {
            chars: "".char_indices().peekable(),
            line: 1,
            variables: HashMap::new(),
            commands: Vec::new(),
            command: ShellCommand::default(),
            word: None,
            redirected: false,
            piped: false,
        }
    }
}

impl<'a> Lexer<'a> {
    fn run(&mut self, text: &'a str) -> Result<(), LineFault> {
        while let Some((at, c)) = self.chars.next() {
            match c {
                '\n' => {
                    self.end_command()?;
                    self.line += 1;
                }
                c if is_blank(c) => self.end_word(),
                '#' if self.word.is_none() => while self.next_if(|c| c != '\n').is_some() {},
                '\\' => self.escape(),
                '\'' => self.single_quotes()?,
                // A job has no arguments.
                '"' if text[at..].starts_with("\"$@\"") => drop(self.chars.nth(2)),
                '"' => self.double_quotes(text)?,
                '$' | '`' => self.expansion(text, at, c, false)?,
                ';' if self.next_if(|c| c == ';').is_some() => {
                    return Err(LineFault::Control(";;".into()));
                }
                ';' => self.end_command()?,
                '&' => self.ampersand()?,
                '|' => self.pipe()?,
                '(' | ')' => return Err(LineFault::Control(c.into())),
                '<' => self.input()?,
                '>' => self.output(),
                '*' => {
                    let word = self.word.get_or_insert_default();
                    word.opaque.get_or_insert("*".into());
                    word.text.push(c);
                }
                c => self.push(c),
            }
        }
        self.end_command()
    }

    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().text.push(c);
    }

    fn next_if(&mut self, wanted: impl Fn(char) -> bool) -> Option<char> {
        self.chars.next_if(|(_, c)| wanted(*c)).map(|(_, c)| c)
    }

    /// After a backslash: the line continues, or the next character is literal. A backslash before a letter
    /// is kept, because it nearly always belongs to a Windows path.
    fn escape(&mut self) {
        self.next_if(|c| c == '\r');
        match self.next_if(|_| true) {
            Some('\n') => {
                self.end_word();
                self.line += 1;
            }
            Some(c) if c.is_alphanumeric() => {
                self.push('\\');
                self.push(c);
            }
            Some(c) => self.push(c),
            None => {}
        }
    }

    fn single_quotes(&mut self) -> Result<(), LineFault> {
        self.word.get_or_insert_default();
        let start = self.line;
        for (_, c) in self.chars.by_ref() {
            match c {
                '\'' => return Ok(()),
                c => {
                    self.line += usize::from(c == '\n');
                    self.word.get_or_insert_default().text.push(c);
                }
            }
        }
        self.line = start;
        Err(LineFault::Quotes)
    }

    fn double_quotes(&mut self, text: &'a str) -> Result<(), LineFault> {
        self.word.get_or_insert_default();
        let start = self.line;
        while let Some((at, c)) = self.chars.next() {
            match c {
                '"' => return Ok(()),
                '$' | '`' => self.expansion(text, at, c, true)?,
                '\\' => match self.next_if(|c| "\\\"$`\n".contains(c)) {
                    Some('\n') => self.line += 1,
                    Some(c) => self.push(c),
                    None => self.push('\\'),
                },
                c => {
                    self.line += usize::from(c == '\n');
                    self.push(c);
                }
            }
        }
        self.line = start;
        Err(LineFault::Quotes)
    }

    /// Something that a shell expands, at `at` of `text`.
    fn expansion(
        &mut self,
        text: &'a str,
        at: usize,
        c: char,
        quoted: bool,
    ) -> Result<(), LineFault> {
        let rest = &text[at..];
        let length = match (c, rest[1..].chars().next()) {
            ('`', _) => rest[1..].find('`').map(|end| end + 2),
            (_, Some('(')) => closing(rest),
            (_, Some('{')) => rest.find('}').map(|end| end + 1),
            (_, Some('@' | '*')) if rest.len() > 1 => Some(2),
            (_, Some(c)) if c.is_ascii_alphabetic() || c == '_' => {
                let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                Some(1 + rest[1..].find(|c| !name(c)).unwrap_or(rest.len() - 1))
            }
            (_, Some(c)) if c.is_ascii_digit() || "#?$!-".contains(c) => Some(2),
            // `$"…"` is a text to translate, and nobody translates it here.
            (_, Some('"')) if !quoted => return Ok(()),
            (_, Some('\'')) if !quoted => return Err(LineFault::Opaque("$'".into())),
            _ => Some(1),
        };
        let written = &rest[..length.ok_or(LineFault::Quotes)?];
        while self.chars.next_if(|(next, _)| *next < at + written.len()).is_some() {}
        self.line += written.matches('\n').count();
        self.expand(written, quoted);
        Ok(())
    }

    fn expand(&mut self, written: &str, quoted: bool) {
        let name = written.trim_start_matches(['$', '{']).trim_end_matches('}');
        let known = match written {
            // A job has no arguments.
            "$@" | "$*" => return,
            "$" => Some(Word { text: "$".into(), opaque: None }),
            _ => match default(written) {
                // Nothing else sets the variable: a job gets neither arguments nor this machine's
                // environment.
                Some((name, value)) => {
                    let known = self.variables.get(name).filter(|known| !known.text.is_empty());
                    let default = || Word { text: value.into(), opaque: None };
                    Some(known.cloned().unwrap_or_else(default))
                }
                None => self.variables.get(name).cloned(),
            },
        };
        let value =
            known.unwrap_or_else(|| Word { text: written.into(), opaque: Some(written.into()) });
        if quoted || value.opaque.is_some() {
            let word = self.word.get_or_insert_default();
            word.text.push_str(&value.text);
            word.opaque = match (word.opaque.take(), value.opaque) {
                (Some(first), Some(second)) => Some(format!("{first} {second}")),
                (first, second) => first.or(second),
            };
            return;
        }
        // Without quotes, the value of a variable is split into words.
        for c in value.text.chars() {
            match c.is_whitespace() {
                true => self.end_word(),
                false => self.push(c),
            }
        }
    }

    fn ampersand(&mut self) -> Result<(), LineFault> {
        match self.next_if(|c| c == '&' || c == '>') {
            Some('>') => self.output(),
            // A job waits for commands in the background, too.
            _ => self.end_command()?,
        }
        Ok(())
    }

    /// `| tee FILE` redirects like `> FILE`, and `|| exit` is what a job does anyway. Rejects all other
    /// pipes and alternatives.
    fn pipe(&mut self) -> Result<(), LineFault> {
        if self.next_if(|c| c == '|').is_some() {
            if !matches!(self.program_ahead().as_str(), "exit" | "return") {
                return Err(LineFault::Control("||".into()));
            }
            while self.next_if(|c| !"\n;&|".contains(c)).is_some() {}
            return self.end_command();
        }
        self.next_if(|c| c == '&');
        if self.program_ahead() != "tee" {
            return Err(LineFault::Control("|".into()));
        }
        self.end_word();
        self.piped = true;
        Ok(())
    }

    /// Takes the name of a program that follows.
    fn program_ahead(&mut self) -> String {
        while self.next_if(|c| c == ' ' || c == '\t').is_some() {}
        let mut program = String::new();
        while let Some(c) = self.next_if(char::is_alphanumeric) {
            program.push(c);
        }
        program
    }

    fn input(&mut self) -> Result<(), LineFault> {
        match self.next_if(|c| "<(>".contains(c)) {
            Some('<') => Err(LineFault::Control("<<".into())),
            Some(c) => Err(LineFault::Control(format!("<{c}"))),
            // No trainer reads its standard input.
            None => {
                self.end_word();
                self.redirected = true;
                Ok(())
            }
        }
    }

    fn output(&mut self) {
        // `2>` is not a word.
        if self.word.as_ref().is_some_and(|word| word.text.chars().all(|c| c.is_ascii_digit())) {
            self.word = None;
        }
        self.end_word();
        while self.next_if(|c| ">|&".contains(c)).is_some() {}
        self.redirected = true;
    }

    fn end_word(&mut self) {
        let Some(word) = self.word.take() else { return };
        if self.piped && word.text.starts_with('-') {
            return;
        }
        if std::mem::take(&mut self.redirected) || self.piped {
            let nowhere = ["/dev/null", "/dev/stdout", "/dev/stderr", "1", "2", "-"];
            if !nowhere.contains(&word.text.as_str()) {
                self.command.writes_to = Some(word.text);
            }
            return;
        }
        if self.command.words.is_empty() {
            self.command.line = self.line;
        }
        self.command.words.push(word);
    }

    fn end_command(&mut self) -> Result<(), LineFault> {
        self.end_word();
        (self.redirected, self.piped) = (false, false);
        let command = std::mem::take(&mut self.command);
        let Some(first) = command.words.first() else { return Ok(()) };
        if CONTROL.contains(&first.text.as_str()) || first.text == "}" {
            self.line = command.line;
            return Err(LineFault::Control(first.text.clone()));
        }
        if first.text == "unset" {
            command.words.iter().for_each(|word| _ = self.variables.remove(&word.text));
        }
        let declares = ["export", "declare", "readonly", "typeset"].contains(&first.text.as_str());
        let is_option = |word: &&Word| declares && word.text.starts_with('-');
        let options = command.words.iter().skip(1).take_while(is_option).count();
        let words = &command.words[if declares { 1 + options } else { 0 }..];
        if words.iter().all(|word| assignment(&word.text).is_some()) {
            words.iter().for_each(|word| assign(&mut self.variables, word));
        }
        self.commands.push(command);
        Ok(())
    }
}

/// Whether a character is between words. Those that a shell does not know come from a web page or a text
/// editor, and nobody sees them.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{200B}' | '\u{FEFF}')
}

/// Sets the variable of an assignment, or appends to it.
fn assign(variables: &mut HashMap<String, Word>, word: &Word) {
    let Some((name, value)) = assignment(&word.text) else { return };
    let mut new = Word { text: value.into(), opaque: word.opaque.clone() };
    if word.text[name.len()..].starts_with('+')
        && let Some(earlier) = variables.get(name)
    {
        new.text.insert_str(0, &earlier.text);
        new.opaque = earlier.opaque.clone().or(new.opaque);
    }
    variables.insert(name.into(), new);
}

/// Splits an assignment, `NAME=value` or `NAME+=value`.
pub(crate) fn assignment(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let name = name.strip_suffix('+').unwrap_or(name);
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (starts && plain).then_some((name, value))
}

/// The name and the default of `${NAME:-default}` and `${NAME-default}`.
fn default(written: &str) -> Option<(&str, &str)> {
    let (name, value) = written.strip_prefix("${")?.strip_suffix('}')?.split_once('-')?;
    let name = name.strip_suffix(':').unwrap_or(name);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_plain_value = !value.contains(['$', '`', '"', '\'', '\\']);
    (!name.is_empty() && name.chars().all(plain) && is_plain_value).then_some((name, value))
}

/// The length of `$(…)` at the start of `text`.
fn closing(text: &str) -> Option<usize> {
    let mut open = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '(' => open += 1,
            ')' => {
                open = open.checked_sub(1)?;
                if open == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}
