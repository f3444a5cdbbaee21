//! The arguments of a training command, in every dialect.

use super::words::{Argument, Words};
use super::{
    ConfigOverride, LineFault, NamedPath, PathMap, Run, Train, TrainLegacy, Value, is_foreign,
};
use sleap_rtc_protocol::path::RelPath;

/// The setting with the name of the model.
pub const RUN_NAME: &str = "trainer_config.run_name";

/// Options of `sleap-train` (SLEAP up to 1.4.1) that take a value and affect only how progress is shown.
const LEGACY_PROGRESS_OPTIONS: &[&str] = &["--controller_port", "--gpu", "--publish_port"];
/// The same, without a value.
const LEGACY_PROGRESS_FLAGS: &[&str] = &["--first-gpu", "--last-gpu", "--tensorboard", "--zmq"];

pub(crate) fn parse(words: &mut Words<'_>) -> Result<Run, LineFault> {
    let (mut given, mut whole, mut name, mut folder) = (None, None, None, None);
    let (mut settings, mut maps) = (Vec::new(), Vec::new());
    while let Some(argument) = words.next_argument()? {
        match argument {
            Argument::Option { name: option, inline } => match option.as_str() {
                "--config-name" | "-c" => name = value(words, inline)?,
                "--config" => whole = value(words, inline)?,
                "--config-dir" | "-d" | "--config-path" => folder = value(words, inline)?,
                "--prefix-map" | "--video-path-map" => {
                    let old = inline.map_or_else(|| words.needed("path"), Ok)?;
                    let new = words.needed("path")?;
                    let new = words.own_place(&new)?;
                    maps.push(PathMap { option, old, new });
                }
                // Only settings follow.
                "--" => {}
                _ => return Err(LineFault::Option(option)),
            },
            Argument::Plain(setting) if is_setting(&setting) || setting.starts_with('~') => {
                settings.push(setting);
            }
            Argument::Plain(yaml) if given.is_none() && name.is_none() => given = Some(yaml),
            Argument::Plain(word) => return Err(LineFault::Word(word)),
        }
    }
    // sleap-nn would pass over all but the first of them.
    let folder = folder.filter(|_| given.is_none() && whole.is_none());
    let mut configs = [given, whole, name].into_iter().flatten();
    let config = configs.next().ok_or(LineFault::Missing("config"))?;
    if let Some(other) = configs.next() {
        return Err(LineFault::TwoConfigs(config, other));
    }
    let config = config_path(words, folder.as_deref(), &config)?;
    let folder = words.folder.clone();
    let (run_name, files, videos) = (None, Vec::new(), Vec::new());
    let mut run = Train { config, folder, run_name, settings: Vec::new(), files, maps, videos };
    for setting in settings {
        apply(&mut run, &setting)?;
    }
    Ok(Run::Train(run))
}

/// The value of an option. SLEAP 1.5.0 left the folder empty, so that a setting may follow instead.
fn value(words: &mut Words<'_>, inline: Option<String>) -> Result<Option<String>, LineFault> {
    match inline {
        Some(value) => Ok(Some(value)),
        None if words.peek().is_some_and(is_setting) => Ok(None),
        None => words.next(),
    }
}

fn is_setting(word: &str) -> bool {
    !word.starts_with('-') && word.contains('=')
}

fn config_path(
    words: &Words<'_>,
    folder: Option<&str>,
    name: &str,
) -> Result<NamedPath, LineFault> {
    let name = match name.rsplit_once('.') {
        Some((_, "yaml" | "yml")) => name.to_owned(),
        Some((_, "json")) => return Err(LineFault::Config(name.to_owned())),
        _ => format!("{name}.yaml"),
    };
    let folder = folder.unwrap_or_default();
    match folder.is_empty() {
        true => words.place(&name),
        // An absolute path stays as it is.
        false if is_foreign(&name) => words.place(&name),
        false => words.place(&format!("{}/{name}", folder.trim_end_matches(['/', '\\']))),
    }
}

/// Applies a setting. SLEAP 1.5.0 wrote the next settings without a space in between.
fn apply(run: &mut Train, setting: &str) -> Result<(), LineFault> {
    let mut glued = Some(setting);
    while let Some(setting) = glued {
        glued = apply_first(run, setting)?;
    }
    Ok(())
}

/// Applies the first setting of `setting`, and returns the others.
fn apply_first<'s>(run: &mut Train, setting: &'s str) -> Result<Option<&'s str>, LineFault> {
    if let Some(key) = setting.strip_prefix('~') {
        let key = key.split('=').next().unwrap_or(key);
        run.set(checked(key)?, Value::Removed);
        return Ok(None);
    }
    let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
    let key = checked(key.trim_start_matches('+'))?;
    let glued =
        if value.starts_with(['"', '\'', '[', '{']) { None } else { value.find("trainer_config.") };
    let (value, rest) = value.split_at(glued.unwrap_or(value.len()));
    if value.contains("${") {
        return Err(LineFault::Setting(key));
    }
    apply_value(run, key, value)?;
    Ok(Some(rest).filter(|rest| !rest.is_empty()))
}

/// Sets `key`. Hydra merges a mapping into what the config has, so each of its entries is a setting.
fn apply_value(run: &mut Train, key: String, value: &str) -> Result<(), LineFault> {
    let entries = value.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    match entries.filter(|_| is_balanced(value)) {
        Some(entries) => {
            for entry in parts(entries).map(str::trim).filter(|entry| !entry.is_empty()) {
                let fault = || LineFault::Setting(key.clone());
                let (name, value) = entry.split_once(':').ok_or_else(fault)?;
                let name = unquote(name.trim());
                if name.is_empty() || name.contains('.') {
                    return Err(fault());
                }
                apply_value(run, checked(&format!("{key}.{name}"))?, value.trim())?;
            }
        }
        None if is_sweep(value) => return Err(LineFault::Sweep(key)),
        None if calls(value, &FUNCTIONS) => return Err(LineFault::Function(key)),
        None if key == RUN_NAME => run.run_name = run_name(Value::parse(value)),
        None => run.set(key, Value::parse(value)),
    }
    Ok(())
}

/// Hydra's functions that stand for several values, and for one.
const SWEEPS: [&str; 4] = ["choice", "glob", "interval", "range"];
const FUNCTIONS: [&str; 9] =
    ["bool", "extend_list", "float", "int", "json_str", "shuffle", "sort", "str", "tag"];

/// Whether Hydra would read several values: numbers with commas between them, or one of its functions.
fn is_sweep(value: &str) -> bool {
    let are_numbers =
        value.contains(',') && value.split(',').all(|part| part.trim().parse::<f64>().is_ok());
    are_numbers || calls(value, &SWEEPS)
}

fn calls(value: &str, functions: &[&str]) -> bool {
    let name = value.trim().strip_suffix(')').and_then(|call| call.split_once('('));
    name.is_some_and(|(name, _)| functions.contains(&name))
}

/// The entries of a mapping, between the commas outside of quotes and brackets.
fn parts(mapping: &str) -> impl Iterator<Item = &str> {
    let (mut quote, mut depth) = (None, 0_usize);
    mapping.split(move |c| {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        quote.is_none() && depth == 0 && c == ','
    })
}

/// Checks the dotted name of a setting. Hydra's own settings are refused, since they say where it writes.
fn checked(key: &str) -> Result<String, LineFault> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let own = key == "hydra" || key.starts_with("hydra.");
    match !key.is_empty() && key.len() <= 256 && key.chars().all(plain) && !own {
        true => Ok(key.to_owned()),
        false => Err(LineFault::Setting(key.chars().take(80).collect())),
    }
}

impl Train {
    /// The name of the folder below `models/` for this run: the run's name, or the stem of the
    /// config file.
    pub fn folder_name(&self) -> &str {
        self.run_name.as_deref().unwrap_or_else(|| super::stem(&self.config.path))
    }

    /// Sets `key` to `value`.
    pub fn set(&mut self, key: impl Into<String>, value: Value) {
        let key = key.into();
        self.settings.retain(|earlier| earlier.key != key);
        self.settings.push(ConfigOverride { key, value });
    }
}

fn unquote(value: &str) -> &str {
    let inner = |quote| value.strip_prefix(quote).and_then(|v| v.strip_suffix(quote));
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}

/// The name of a run, or `None` for the words that mean "none".
fn run_name(value: Value) -> Option<String> {
    Some(value.text()).filter(|name| !matches!(name.as_str(), "" | "null" | "None"))
}

/// The text, if it is one plain name of a folder.
pub fn plain_name(text: &str) -> Option<String> {
    let plain = !text.starts_with(['-', '~']) && !text.contains(['/', '\\', '$']);
    (plain && RelPath::new(text).is_ok()).then(|| text.to_owned())
}

impl Value {
    /// Parses a value in Hydra's grammar. Everything else is text, as its author meant it: SLEAP
    /// 1.6.0 wrote `a.n=12` without quotes.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        if let Some(inner) = quoted_text(text, '"').or_else(|| quoted_text(text, '\'')) {
            return Self::Text(inner);
        }
        let is_list = text.starts_with('[') && text.ends_with(']')
            || text.starts_with('{') && text.ends_with('}');
        match text {
            text if is_bare(text) => Self::Bare(text.to_owned()),
            text if is_list && is_balanced(text) => Self::Bare(text.to_owned()),
            text => Self::Text(without_escapes(text)),
        }
    }

    /// A list of texts.
    pub fn list(texts: &[String]) -> Self {
        let quoted: Vec<_> = texts.iter().map(|text| quoted(text)).collect();
        Self::Bare(format!("[{}]", quoted.join(",")))
    }

    /// Its text, or its texts if it is a list.
    pub fn texts(&self) -> Vec<String> {
        match self {
            Self::Text(text) => vec![text.clone()],
            Self::Bare(list) if list.starts_with('[') => {
                let inner = list.trim_start_matches('[').trim_end_matches(']');
                let items = items(inner).map(str::trim).filter(|item| !item.is_empty());
                items.map(|item| Self::parse(item).text()).collect()
            }
            Self::Bare(word) if word.parse::<f64>().is_ok() => vec![word.clone()],
            Self::Bare(_) | Self::Removed => Vec::new(),
        }
    }

    /// What it says, in Hydra's grammar if it is not a text.
    fn text(self) -> String {
        match self {
            Self::Text(text) | Self::Bare(text) => text,
            Self::Removed => String::new(),
        }
    }
}

/// A text in double quotes, as Hydra reads it. Only backslashes before a quote or at the end escape anything.
pub fn quoted(text: &str) -> String {
    let (mut quoted, mut backslashes) = (String::from('"'), 0);
    for c in text.chars() {
        if c == '"' {
            quoted.push_str(&"\\".repeat(backslashes + 1));
        }
        backslashes = if c == '\\' { backslashes + 1 } else { 0 };
        quoted.push(c);
    }
    quoted.push_str(&"\\".repeat(backslashes));
    quoted.push('"');
    quoted
}

/// The content of a text in quotes, if it is one. The opposite of [`quoted`].
fn quoted_text(text: &str, quote: char) -> Option<String> {
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    let (mut content, mut backslashes) = (String::new(), 0);
    for c in inner.chars() {
        match c {
            '\\' => {
                backslashes += 1;
                continue;
            }
            // The text would end here.
            c if c == quote && backslashes % 2 == 0 => return None,
            c if c == quote => content.push_str(&"\\".repeat(backslashes / 2)),
            _ => content.push_str(&"\\".repeat(backslashes)),
        }
        content.push(c);
        backslashes = 0;
    }
    content.push_str(&"\\".repeat(backslashes / 2));
    (backslashes % 2 == 0).then_some(content)
}

/// A text without quotes, as Hydra reads it.
fn without_escapes(text: &str) -> String {
    let (mut plain, mut chars) = (String::new(), text.chars().peekable());
    while let Some(c) = chars.next() {
        let escaped = chars.next_if(|next| c == '\\' && "\\()[]{}:=, \t".contains(*next));
        plain.push(escaped.unwrap_or(c));
    }
    plain
}

/// The items of a list, between the commas outside of quotes.
fn items(list: &str) -> impl Iterator<Item = &str> {
    let mut quote = None;
    list.split(move |c| {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            _ => {}
        }
        quote.is_none() && c == ','
    })
}

/// Whether it is a number or a YAML keyword, which keep their type only without quotes.
fn is_bare(value: &str) -> bool {
    let word = matches!(value, "true" | "false" | "True" | "False" | "null" | "None");
    word || (value.parse::<f64>().is_ok() && !value.contains(['n', 'N']))
}

/// Whether quotes and brackets match.
fn is_balanced(text: &str) -> bool {
    let (mut open, mut quote) = (Vec::new(), None);
    for c in text.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[') => open.push(']'),
            (None, '{') => open.push('}'),
            (None, ']' | '}') if open.pop() != Some(c) => return false,
            _ => {}
        }
    }
    quote.is_none() && open.is_empty()
}

pub(crate) fn parse_legacy(words: &mut Words<'_>) -> Result<Run, LineFault> {
    let mut places = Vec::new();
    while let Some(argument) = words.next_argument()? {
        let (option, inline) = match argument {
            Argument::Option { name, inline } => (name, inline),
            Argument::Plain(word) => {
                places.push(word);
                continue;
            }
        };
        if LEGACY_PROGRESS_OPTIONS.contains(&option.as_str()) {
            words.remark(format!("{option} is ignored: the worker sets it"));
            if inline.is_none() {
                words.next()?;
            }
        } else if LEGACY_PROGRESS_FLAGS.contains(&option.as_str()) {
            words.remark(format!("{option} is ignored"));
        } else {
            return Err(LineFault::Option(option));
        }
    }
    let mut places = places.into_iter();
    let config = places.next().ok_or(LineFault::Missing("config"))?;
    if config.ends_with(".yaml") || config.ends_with(".yml") {
        let (config, folder) = (words.place(&config)?, words.folder.clone());
        let (settings, files, maps) = (Vec::new(), Vec::new(), Vec::new());
        return Ok(Run::Train(Train {
            config,
            folder,
            run_name: None,
            settings,
            files,
            maps,
            videos: Vec::new(),
        }));
    }
    let labels = words.place(&places.next().ok_or(LineFault::Missing("labels"))?)?;
    let config = words.place(&config)?;
    match places.next() {
        Some(word) => Err(LineFault::Word(word)),
        None => {
            let files = Vec::new();
            Ok(Run::TrainLegacy(TrainLegacy { config, labels, run_name: None, files }))
        }
    }
}

/// A config and its labels, as `jobs.yaml` of an export names them.
pub type ListedJob = (String, String);

/// Quotes the labels where SLEAP 1.4.1 wrote a name without quotes. They are the rest of the line, whatever
/// they look like if they are `listed`.
pub(crate) fn quote_legacy_names(text: &str, listed: &[ListedJob]) -> String {
    let quoted = |line: &str| {
        let (config, labels) = listed_legacy(line, listed).or_else(|| unquoted_legacy(line))?;
        Some(format!("sleap-train {}", shell_words::join([config.as_str(), labels])))
    };
    let lines = text.lines().map(|line| quoted(line).unwrap_or_else(|| line.to_owned()));
    lines.collect::<Vec<_>>().join("\n")
}

/// The config and the labels of a line that consists of listed names.
fn listed_legacy<'a>(line: &'a str, listed: &[ListedJob]) -> Option<(String, &'a str)> {
    let rest = line.trim().strip_prefix("sleap-train ")?.trim_start();
    listed.iter().find_map(|(config, labels)| {
        let own = rest.strip_prefix(config.as_str())?.strip_prefix(' ')?;
        (own.trim() == labels).then(|| (config.clone(), own.trim()))
    })
}

/// The config and the labels of a line whose labels a shell would split.
fn unquoted_legacy(line: &str) -> Option<(String, &str)> {
    let rest = line.trim().strip_prefix("sleap-train ")?.trim_start();
    let (config, labels) = rest.split_once(".json ")?;
    let labels = labels.trim();
    let apart = |c: char| c.is_whitespace() || "'\"()&$`*".contains(c);
    let more = ["<", ">", "|", ";", "&&", " -", " sleap-"].iter().any(|part| labels.contains(part));
    let one_name = labels.ends_with(".slp") && !labels.starts_with(['-', '\'', '"']) && !more;
    (one_name && labels.contains(apart)).then(|| (format!("{config}.json"), labels))
}
