//! Compares the messages that the author's guide quotes with those of the program.

use crate::support::{guest, refused};
use sleap_rtc_policy::examine::PluginFile;
use sleap_rtc_policy::{ExtensionPoint, OnFailure, PluginConfig, Policies, PolicyConfig};
use std::path::Path;

const GUIDE: &str = include_str!("../../plugins/README.md");

/// The first column of the table below `heading`.
fn quoted(heading: &str) -> Vec<&'static str> {
    let (_, section) = GUIDE.split_once(&format!("\n## {heading}\n")).unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let quotes = rows.map(|row| row.split(" | ").next().unwrap().trim_matches(['`', ' ']));
    quotes.collect()
}

/// Fails unless each of `quotes`, in which `…` stands for anything, is in one of `texts`, and each
/// text contains one of the quotes.
#[track_caller]
fn compare(quotes: &[&str], texts: &[String]) {
    let says = |text: &str, quote: &str| {
        let mut rest = text;
        quote.split('…').all(|part| {
            let part = part.trim();
            let found = rest.find(part).map(|place| &rest[place + part.len()..]);
            rest = found.unwrap_or_default();
            found.is_some()
        })
    };
    assert!(quotes.len() > 5, "{quotes:?}");
    for quote in quotes {
        assert!(texts.iter().any(|text| says(text, quote)), "no {quote:?} in:\n{texts:#?}");
    }
    for text in texts {
        assert!(quotes.iter().any(|quote| says(text, quote)), "the guide lacks: {text}");
    }
}

/// The messages about a plugin that nobody accepted, and about one that has changed since it was
/// accepted.
fn locked() -> [String; 2] {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("some.wasm"), guest("custom-policy")).unwrap();
    let mut config = PolicyConfig::new(dir.path().to_owned());
    (config.locked, config.selection[0].plugin) = (true, Some("some".into()));
    ["", "[plugins]\n\"some.wasm\" = \"0000\"\n"].map(|accepted| {
        std::fs::write(dir.path().join("plugins.lock"), accepted).unwrap();
        Policies::load(&config).err().unwrap().to_string()
    })
}

#[test]
fn it_quotes_why_a_plugin_is_refused() {
    let whole = guest("hostile-guest");
    let mut absent = PolicyConfig::new("plugins/here".into());
    absent.selection[0].plugin = Some("fair".into());
    let nothing = {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("some.wasm");
        std::fs::write(&file, b"\0asm\x0d\0\x01\0").unwrap();
        PluginFile::open(&file, Path::new("")).unwrap().exports_nothing().to_string()
    };
    let mut texts = vec![
        Policies::load(&absent).err().unwrap().to_string(),
        nothing,
        refused(b"def check(): pass"),
        refused(b"\0asm\x0d\0\x01\0\xff\xfe\xfd\xfc"),
        refused(&whole[..whole.len() / 2]),
        refused(&guest("hostile-guest.core")),
        refused(&guest("custom-policy")),
        refused(&guest("wasi")),
        refused(&guest("newer-minor")),
        refused(&guest("another-field")),
    ];
    texts.extend(locked());
    compare(&quoted("When it is refused"), &texts);
}

#[test]
fn it_quotes_how_a_plugin_fails() {
    let file = PluginFile::open(Path::new("hostile-guest"), test_guests::dir()).unwrap();
    let said = |point: ExtensionPoint, deed: &str| {
        let mut config = PluginConfig::new(OnFailure::Refuse);
        config.settings.insert("do".into(), deed.into());
        // The guide quotes the usual limit for plugins that never end. All others get enough time
        // for a busy machine.
        if deed != "loop" {
            config.timeout_ms = 30_000;
        }
        let candidate = file.load(point, &config).unwrap();
        let case = candidate.cases().into_iter().next().unwrap();
        let failure = candidate.try_case(&case).answer;
        format!("the plugin hostile-guest failed: {}", failure.unwrap_err())
    };
    let mut texts: Vec<String> =
        ["loop", "grow", "recurse", "panic", "huge", "out-of-range", "twice", "nan", "error"]
            .map(|deed| said(ExtensionPoint::Selection, deed))
            .to_vec();
    texts.push(said(ExtensionPoint::Compatibility, "no-reason"));
    texts.push(said(ExtensionPoint::Estimate, "nan"));
    texts.extend(["out-of-range", "twice"].map(|deed| said(ExtensionPoint::Queueing, deed)));
    for text in &texts {
        println!("{text}");
    }
    compare(&quoted("When it fails"), &texts);
}
