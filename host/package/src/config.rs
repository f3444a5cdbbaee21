//! Reads training configs: YAML of sleap-nn, or JSON of SLEAP up to 1.4.1.

use super::script::{ConfigOverride, Value};
use saphyr::{LoadableYamlNode, Mapping, Yaml};
use sleap_rtc_protocol::text::Printable;
use std::fmt;

/// The longest config to read, in bytes.
pub const MAX_CONFIG_BYTES: u64 = 256 * 1024;
/// The most collections that a config may open within lines, and nest in one line. The parser's
/// memory and stack grow with them, and sleap-nn writes only a few.
const MAX_FLOW: usize = 2000;
const MAX_NESTED_IN_LINE: usize = 32;
/// The deepest indentation, in columns. Each level of a block needs one more, and the code that walks
/// through a config needs stack for each.
const MAX_INDENT: usize = 100;
/// How Python writes its own values, such as tuples.
const PYTHON_TAG: &str = "!!python/";
const OWN_PYTHON_TAG: &str = "!python/";
/// The key under which a mapping takes over the entries of others.
const MERGE: &str = "<<";
/// The most characters of a value that an error quotes.
const MAX_SHOWN_CHARS: usize = 80;
const MAX_MODEL_TYPES: usize = 16;
const MAX_TEXTS: usize = 256;

/// A parsed config.
pub struct Config<'t> {
    root: Yaml<'t>,
}

/// A config, and the changes that a script makes to it.
pub struct Settings<'a> {
    /// The config.
    pub config: &'a Config<'a>,
    /// The script's changes.
    pub changes: &'a [ConfigOverride],
}

impl<'t> Config<'t> {
    /// Parses a config. The error is a reason in words.
    pub fn read(text: &'t str) -> Result<Self, String> {
        if !is_within_bounds(text) {
            return Err("it is nested more deeply than any real config".to_owned());
        }
        if has_python_tag(text) {
            return Err(format!("it has a tag `{PYTHON_TAG}…`, which trainers do not read"));
        }
        if let Some(why) = unreadable(text) {
            return Err(why);
        }
        let documents = Yaml::load_from_str(text).map_err(|error| error.to_string())?;
        if documents.len() > 1 {
            return Err("it has several YAML documents (`---`), and trainers read one".to_owned());
        }
        let root = documents.into_iter().next().ok_or("it is empty")?;
        if let Some(why) = misread(&root) {
            return Err(why);
        }
        match merged(root)? {
            root @ Yaml::Mapping(_) => Ok(Self { root }),
            _ => Err("it is not a mapping of names to values".to_owned()),
        }
    }

    /// Every entry of its mappings: the dotted key and the value. A name with a dot is in quotes.
    pub(crate) fn entries(&self) -> Vec<(String, Written)> {
        let mut entries = Vec::new();
        add_entries(&self.root, "", &mut entries);
        entries
    }

    /// The keys of the mapping at `key` that are set, if it has that mapping.
    pub fn keys_set(&self, key: &str) -> Option<Vec<String>> {
        self.get(key).filter(|node| node.as_mapping().is_some()).map(set_keys)
    }

    /// Whether it is a config of sleap-nn.
    pub fn is_sleap_nn(&self) -> bool {
        self.get("model_config").is_some()
    }

    /// Whether it has the dotted `key`.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Whether the dotted `key` is the YAML word `true`, and not a text that looks like it.
    pub fn is_true(&self, key: &str) -> bool {
        self.get(key).and_then(Yaml::as_bool) == Some(true)
    }

    /// Names of the heads that it defines.
    pub fn model_types(&self) -> Vec<String> {
        let heads = self.get("model_config.head_configs").or_else(|| self.get("model.heads"));
        heads.map(set_keys).unwrap_or_default()
    }

    /// The texts at the dotted `key`: a single text, or a list of texts.
    pub fn texts(&self, key: &str) -> Vec<String> {
        let Some(node) = self.get(key) else { return Vec::new() };
        let one = scalar(node).into_iter();
        let many = node.as_vec().into_iter().flatten().filter_map(scalar);
        one.chain(many).take(MAX_TEXTS).collect()
    }

    /// Both named texts of each entry in the list at `key` that has them.
    pub fn texts_of_each(&self, key: &str, names: [&str; 2]) -> Vec<(String, String)> {
        let entries = self.get(key).and_then(Yaml::as_vec).into_iter().flatten();
        let pair = |entry: &Yaml<'_>| {
            let [one, other] = names.map(|name| entry.as_mapping_get(name).and_then(scalar));
            Some((one?, other?))
        };
        entries.filter_map(pair).take(MAX_TEXTS).collect()
    }

    /// Calls `see` with every text and its dotted key. Keys are texts too.
    pub fn each_text(&self, see: &mut impl FnMut(&str, &str)) {
        each_text(&self.root, &mut String::new(), see);
    }

    fn get(&self, key: &str) -> Option<&Yaml<'t>> {
        key.split('.').try_fold(&self.root, |node, key| node.as_mapping_get(key))
    }
}

impl Settings<'_> {
    /// The texts at the dotted `key`. Empty if it is not set, or set to null.
    pub fn texts(&self, key: &str) -> Vec<String> {
        match self.changes.iter().find(|setting| setting.key == key) {
            Some(setting) => setting.value.texts(),
            None => self.config.texts(key),
        }
    }

    /// The keys of the mapping at `key` that are set, after the script's changes.
    pub fn keys_set(&self, key: &str) -> Vec<String> {
        let mut set = self.config.keys_set(key).unwrap_or_default();
        for change in self.changes {
            let Some(below) = change.key.strip_prefix(key) else { continue };
            let Some(below) = below.strip_prefix('.') else {
                set.retain(|_| !below.is_empty());
                continue;
            };
            let (name, is_whole) = match below.split_once('.') {
                Some((name, _)) => (name, false),
                None => (below, true),
            };
            let is_unset = change.value.is_none();
            if is_whole || !is_unset {
                set.retain(|own| own != name);
            }
            if !is_unset {
                set.push(name.to_owned());
            }
        }
        set
    }

    /// The text at the dotted `key`.
    pub fn text(&self, key: &str) -> Option<String> {
        self.texts(key).into_iter().next().filter(|text| !matches!(text.as_str(), "" | "None"))
    }

    /// Whether the value at the dotted `key` is a list.
    pub fn is_list(&self, key: &str) -> bool {
        match self.changes.iter().find(|setting| setting.key == key) {
            Some(setting) => matches!(&setting.value, Value::Bare(text) if text.starts_with('[')),
            None => self.config.get(key).is_some_and(|node| node.as_vec().is_some()),
        }
    }

    /// The number at the dotted `key`.
    pub fn count(&self, key: &str) -> Option<u32> {
        self.text(key)?.parse().ok()
    }

    /// The number at the dotted `key`, which may have a fraction. Finite.
    pub fn number(&self, key: &str) -> Option<f64> {
        self.text(key)?.parse().ok().filter(|number: &f64| number.is_finite())
    }

    /// Whether the dotted `key` is set to true, in any of the words that trainers read as that.
    pub fn is_on(&self, key: &str) -> bool {
        self.is_one_of(key, ["true", "yes", "on", "y"])
    }

    /// Whether the dotted `key` is set to false.
    pub fn is_off(&self, key: &str) -> bool {
        self.is_one_of(key, ["false", "no", "off", "n"])
    }

    fn is_one_of(&self, key: &str, words: [&str; 4]) -> bool {
        self.word(key).is_some_and(|word| words.iter().any(|own| word.eq_ignore_ascii_case(own)))
    }

    fn word(&self, key: &str) -> Option<String> {
        let changed = self.changes.iter().find(|setting| setting.key == key);
        match changed.map(|setting| &setting.value) {
            Some(Value::Bare(word) | Value::Text(word)) => Some(word.clone()),
            Some(Value::Removed) => None,
            None => self.text(key),
        }
    }
}

/// A value as somebody wrote it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Written {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Written>),
    Mapping,
    /// What YAML has besides.
    Other,
}

impl Written {
    fn of(node: &Yaml<'_>) -> Self {
        let list = || Some(Self::List(node.as_vec()?.iter().map(Self::of).collect()));
        let mapping = || node.as_mapping().map(|_| Self::Mapping);
        let found = (node.is_null().then_some(Self::Null))
            .or_else(|| node.as_bool().map(Self::Bool))
            .or_else(|| node.as_integer().map(Self::Int))
            .or_else(|| node.as_floating_point().map(Self::Float))
            .or_else(|| node.as_str().map(|text| Self::Text(text.to_owned())));
        found.or_else(list).or_else(mapping).unwrap_or(Self::Other)
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(truth) => write!(f, "{truth}"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number:?}"),
            Self::Text(text) => write!(f, "\"{}\"", Printable::line(text, MAX_SHOWN_CHARS)),
            Self::List(_) => f.write_str("a list"),
            Self::Mapping => f.write_str("a mapping"),
            Self::Other => f.write_str("something else"),
        }
    }
}

impl Value {
    /// Whether it leaves nothing under its key.
    fn is_none(&self) -> bool {
        matches!(self.written(), None | Some(Written::Null))
    }

    /// The new value. `None` if there is none.
    pub(crate) fn written(&self) -> Option<Written> {
        match self {
            Self::Text(text) => Some(Written::Text(text.clone())),
            Self::Bare(text) if !is_within_bounds(text) => Some(Written::Other),
            Self::Bare(text) => {
                // Hydra's grammar is close to YAML's.
                let parsed = Yaml::load_from_str(text).ok();
                Some(
                    parsed.as_ref().and_then(|all| all.first()).map_or(Written::Other, Written::of),
                )
            }
            Self::Removed => None,
        }
    }
}

fn add_entries(node: &Yaml<'_>, parent: &str, entries: &mut Vec<(String, Written)>) {
    for (name, value) in node.as_mapping().into_iter().flatten() {
        let name = scalar(name).unwrap_or_default();
        let name = if name.contains('.') { format!("\"{name}\"") } else { name };
        let key = if parent.is_empty() { name } else { format!("{parent}.{name}") };
        entries.push((key.clone(), Written::of(value)));
        add_entries(value, &key, entries);
    }
}

/// Whether it has a value of Python's own. The parser treats their tags as YAML's own, so they are read as
/// tags that it shows.
fn has_python_tag(text: &str) -> bool {
    text.contains(PYTHON_TAG)
        && Yaml::load_from_str(&text.replace(PYTHON_TAG, OWN_PYTHON_TAG))
            .is_ok_and(|documents| documents.iter().any(|document| misread(document).is_some()))
}

/// The text of a number, a boolean or a text.
fn scalar(node: &Yaml<'_>) -> Option<String> {
    let text = node.as_str().map(str::to_owned);
    let whole = || node.as_integer().map(|number| number.to_string());
    let number = || node.as_floating_point().map(|number| number.to_string());
    let truth = || node.as_bool().map(|truth| truth.to_string());
    text.or_else(whole).or_else(number).or_else(truth)
}

/// Why a trainer would not read the config, or would read it differently from this module.
fn misread(node: &Yaml<'_>) -> Option<String> {
    if let Yaml::Tagged(tag, _) = node {
        return Some(format!("it has the tag `{tag}`, which trainers do not read: leave it out"));
    }
    let mut items = node.as_vec().into_iter().flatten();
    let mut entries = node.as_mapping().into_iter().flatten();
    let of_items = items.find_map(misread);
    of_items.or_else(|| entries.find_map(|(name, value)| misread(name).or_else(|| misread(value))))
}

/// The same with each merge key (`<<`) replaced by what it stands for. Own entries come first, and then those
/// of the first mapping that has them.
fn merged(node: Yaml<'_>) -> Result<Yaml<'_>, String> {
    let entries = match node {
        Yaml::Sequence(items) => {
            return Ok(Yaml::Sequence(items.into_iter().map(merged).collect::<Result<_, _>>()?));
        }
        Yaml::Mapping(entries) => entries,
        other => return Ok(other),
    };
    let (mut own, mut others) = (Mapping::new(), Vec::new());
    for (name, value) in entries {
        match (name.as_str() == Some(MERGE), merged(value)?) {
            (false, value) => drop(own.insert(name, value)),
            (true, Yaml::Sequence(all)) => others.extend(all),
            (true, one) => others.push(one),
        }
    }
    for other in others {
        let Yaml::Mapping(entries) = other else {
            return Err(format!("its merge key (`{MERGE}`) takes a mapping, such as `*name`"));
        };
        for (name, value) in entries {
            own.entry(name).or_insert(value);
        }
    }
    Ok(Yaml::Mapping(own))
}

/// Why trainers would not read a text that the parser here reads: control characters, and tabs after a value.
fn unreadable(text: &str) -> Option<String> {
    let is_json = text.trim_start().starts_with('{');
    let has_block = [": |", ": >", "- |", "- >"].iter().any(|start| text.contains(start));
    let controls = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    let is_tabbed = |line: &str| {
        let before = line.split('\t').next().filter(|before| before.len() < line.len());
        before.is_some_and(|before| !before.contains(['#', '"', '\'']))
    };
    text.lines().enumerate().find_map(|(index, line)| {
        let has = match line {
            line if line.contains(controls) => "a control character",
            line if !is_json && !has_block && is_tabbed(line) => "a tab outside of quotes",
            _ => return None,
        };
        Some(format!("line {} has {has}, which trainers do not read: write spaces", index + 1))
    })
}

/// Visits the texts below `node`, whose dotted key is `key`. The parser has bounded the depth.
fn each_text(node: &Yaml<'_>, key: &mut String, see: &mut impl FnMut(&str, &str)) {
    if let Yaml::Tagged(_, inner) = node {
        each_text(inner, key, see);
    }
    if let Some(text) = node.as_str() {
        see(key, text);
    }
    for item in node.as_vec().into_iter().flatten() {
        each_text(item, key, see);
    }
    for (name, value) in node.as_mapping().into_iter().flatten() {
        each_text(name, key, see);
        let length = key.len();
        let name = scalar(name).unwrap_or_default();
        if length > 0 {
            key.push('.');
        }
        key.push_str(&name);
        each_text(value, key, see);
        key.truncate(length);
    }
}

/// Whether the nesting of `text` stays within the bounds.
fn is_within_bounds(text: &str) -> bool {
    let flow = text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count();
    let nested = |line: &str| {
        line.split_whitespace().filter(|word| matches!(*word, "-" | "?" | ":")).count()
    };
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let is_bounded = |line: &str| nested(line) <= MAX_NESTED_IN_LINE && indent(line) <= MAX_INDENT;
    flow <= MAX_FLOW && text.lines().all(is_bounded)
}

/// The keys whose value is not null.
fn set_keys(node: &Yaml<'_>) -> Vec<String> {
    let Some(mapping) = node.as_mapping() else { return Vec::new() };
    let set = mapping.iter().filter(|(_, value)| !value.is_null());
    let keys = set.filter_map(|(key, _)| key.as_str());
    keys.filter(|key| key.len() <= 64).take(MAX_MODEL_TYPES).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_python_are_told_from_texts_about_them() {
        for text in [
            "a: !!python/tuple [1, 2]\n",
            "a:\n- !!python/object/apply:os.system ['x']\n",
            "? !!python/name:os.system\n: b\n",
        ] {
            let why = Config::read(text).err().unwrap();
            assert!(why.contains(PYTHON_TAG), "{text}: {why}");
        }
        for text in
            ["# was !!python/tuple\na: 1\n", "a: 'no !!python/tuple'\n", "a: 1 # !!python/x\n"]
        {
            assert!(Config::read(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn merge_keys_stand_for_the_entries_of_other_mappings() {
        let anchors = "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\n";
        for (own, expected) in [
            ("<<: *a", ["1", "2", ""]),
            ("<<: *a\n  x: 9", ["9", "2", ""]),
            ("x: 9\n  <<: [*b, *a]", ["9", "3", "4"]),
            ("<<: {<<: *b, y: 7}", ["", "7", "4"]),
        ] {
            let text = format!("{anchors}c:\n  {own}\n");
            let config = Config::read(&text).unwrap();
            let found = ["c.x", "c.y", "c.z"].map(|key| config.texts(key).concat());
            assert_eq!(found, expected, "{own}");
            assert!(!config.has("c.<<"));
        }
        for wrong in ["<<: 1", "<<: [*a, 1]"] {
            assert!(Config::read(&format!("{anchors}c:\n  {wrong}\n")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_trainers_do_not_read_is_named_with_its_line() {
        for text in ["a: 1\nb: 2\t# c\n", "a: 1\nb: 2\t\n", "# c\na: x\x07\n", "a: 1\n\t\nb: 2\n"] {
            let why = Config::read(text).err().unwrap();
            assert!(why.starts_with("line 2 has "), "{text:?}: {why}");
        }
        for text in [
            "a: \"x\ty\"\n",
            "a: 1 #\tx\n",
            "a: |\n  x\ty\n",
            "{\n\t\"a\": 1\n}\n",
            "\u{FEFF}a: 1\n",
        ] {
            assert!(Config::read(text).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn a_config_that_is_nested_deeply_is_refused_before_it_is_parsed() {
        for level in ["a:", "-"] {
            let lines = (1..700).map(|depth| format!("{}{level}\n", " ".repeat(depth)));
            let text: String = std::iter::once("x:\n".to_owned()).chain(lines).collect();
            let why = Config::read(&text).err().unwrap();
            assert!(why.contains("nested more deeply"), "{why}");
        }
        // What is just within the bound fits on the stack of any thread.
        let lines = (1..MAX_INDENT).map(|depth| format!("{}a:\n", " ".repeat(depth)));
        let text: String = std::iter::once("a:\n".to_owned()).chain(lines).collect();
        let visit = move || {
            let mut keys = 0;
            Config::read(&text)
                .unwrap_or_else(|why| panic!("{why}"))
                .each_text(&mut |_, _| keys += 1);
            keys
        };
        let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(visit).unwrap();
        assert_eq!(thread.join().unwrap(), MAX_INDENT);
    }
}
