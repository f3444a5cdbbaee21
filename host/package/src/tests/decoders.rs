//! Reading hostile labels, configs and scripts neither panics nor hangs.

use crate::config::Config;
use crate::labels::Labels;
use crate::script::{Run, ScriptFile, parse};
use crate::tests::{MemoryFiles, fixture as package};
use hostile_input::{damaged, damaged_bytes, each};
use proptest::prelude::*;
use std::io::Cursor;
use std::path::Path;

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name);
    std::fs::read(path).unwrap()
}

#[test]
fn labels_decoder() {
    let whole = MemoryFiles::of(&package("train_single.zip")).0["one.pkg.slp"].clone();
    let outside = fixture("outside.slp");
    // Most of what is read is at the beginning, and lengths and addresses have eight bytes.
    let field = (0..1024_usize, prop::sample::select(vec![0, 1, u64::MAX, 1 << 63, 4096]));
    let fields = prop::collection::vec(field, 0..3);
    let files = prop::sample::select(vec![whole, outside]);
    let changed = (files.clone(), fields).prop_map(|(mut bytes, fields)| {
        for (at, number) in fields {
            let at = (at * 8).min(bytes.len() - 8);
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        bytes
    });
    each("labels", damaged_bytes(prop_oneof![changed, files]), |bytes| {
        if let Some(labels) = Labels::read(Box::new(Cursor::new(bytes))) {
            prop_assert!(labels.videos.len() <= 10_000);
        }
        Ok(())
    });
}

#[test]
fn config_decoder() {
    let whole = MemoryFiles::of(&package("train_single.zip")).text("single_instance.yaml");
    let lines: Vec<&str> = whole.lines().collect();
    let small =
        lines[..12].join("\n") + "\nmodel_config: {a: [1, {b: \"${x}\"}], c: &d e, f: *d}\n";
    each("configs", damaged(vec![whole, small]), |text| {
        if let Ok(config) = Config::read(&text) {
            let mut texts = 0;
            config.each_text(&mut |_, _| texts += 1);
            prop_assert!(texts <= 2 * text.len() + 64, "{texts} texts in {} bytes", text.len());
            config.model_types();
        }
        Ok(())
    });
}

#[test]
fn script_decoder() {
    let names = ["1.4.1", "1.5.0", "1.5.2", "1.6.0", "1.6.6", "sleap-rtc"];
    let scripts = names.map(|name| {
        String::from_utf8(fixture(&format!("scripts/train-script.{name}.sh"))).unwrap()
    });
    each("scripts", damaged(scripts.to_vec()), |text| {
        for file in [ScriptFile::Train, ScriptFile::Inference] {
            let Ok(script) = parse(file, &text) else { continue };
            for run in script.runs {
                if let Run::Train(train) = run {
                    let config = train.config.path.to_string();
                    prop_assert!(!config.split('/').any(|part| part.is_empty() || part == ".."));
                    for setting in &train.settings {
                        let texts = setting.value.texts();
                        prop_assert!(!texts.iter().any(|text| text.contains("${")), "{texts:?}");
                    }
                }
            }
        }
        Ok(())
    });
}
