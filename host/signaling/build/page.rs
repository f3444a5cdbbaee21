//! Builds the page as a WebAssembly module, and writes a table of all its files.

#[path = "../../policy/build/wasm.rs"]
mod wasm;

use anyhow::{Context, Result};
use flate2::{Compression, write::GzEncoder};
use std::fmt::Write as _;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write as _;
use std::path::Path;
use wasm::Workshop;
use wasm_bindgen_cli_support::Bindgen;

const PACKAGE: &str = "sleap-rtc-page";
/// What the page is made of, besides itself.
const CRATES: [&str; 5] =
    ["host/protocol", "host/trust", "host/package", "plugins/largest-gpu", "host/page"];
/// Small before fast, but for what every byte of a package goes through.
const FAST: [&str; 5] = ["blake3", "fastcdc", "ruzstd", "zlib-rs", "crc32fast"];
/// The files that the page's own names stand in, each after those that it names.
const TEXTS: [&str; 5] = ["icon.svg", "page.css", "engine.js", "main.js", "index.html"];

/// A file to serve.
struct Asset {
    /// Its path below `/app/`.
    name: String,
    kind: &'static str,
    content: Vec<u8>,
}

/// Leaves `page.rs` in `OUT_DIR`: the table of the page's files.
pub fn embed(root: &Path) -> Result<()> {
    let workshop = Workshop::new(root)?;
    workshop.depends_on(["wit", "Cargo.toml", "Cargo.lock", "host/policy/build/wasm.rs"]);
    workshop.depends_on(["host/page/assets"]);
    for folder in CRATES {
        workshop.depends_on([format!("{folder}/src"), format!("{folder}/Cargo.toml")]);
    }
    let fast = FAST.map(|name| format!("profile.release.package.{name}.opt-level=3"));
    let mut configured: Vec<&str> = fast.iter().map(String::as_str).collect();
    configured.push("profile.release.panic=\"abort\"");
    workshop.build(&[PACKAGE], "z", &configured)?;

    let mut assets = module(&workshop)?;
    for name in TEXTS {
        let file = root.join("host/page/assets").join(name);
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let text = assets.iter().fold(text, |text, asset| text.replace(&asset.mark(), &asset.name));
        assets.push(Asset::new(name, text.into_bytes()));
    }
    write_table(&workshop, &assets)
}

/// The module, and the code that loads it.
fn module(workshop: &Workshop) -> Result<Vec<Asset>> {
    let mut bindgen = Bindgen::new();
    bindgen.input_bytes("page", workshop.module(PACKAGE)?).typescript(false).web(true)?;
    bindgen.remove_name_section(true).remove_producers_section(true);
    let mut output = bindgen.generate_output().context("cannot make the page's bindings")?;
    let module = output.wasm_mut().emit_wasm();
    let code = output.js().to_owned();
    Ok(vec![Asset::new("page_bg.wasm", module), Asset::new("page.js", code.into_bytes())])
}

impl Asset {
    /// `index.html` has the folder's name, and all others their hash in theirs.
    fn new(file: &str, content: Vec<u8>) -> Self {
        let (stem, ending) = file.split_once('.').unwrap_or((file, ""));
        let kind = match ending {
            "html" => "text/html; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "svg" => "image/svg+xml",
            _ => "application/wasm",
        };
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        let name = match ending {
            "html" => String::new(),
            _ => format!("{stem}-{:016x}.{ending}", hasher.finish()),
        };
        Self { name, kind, content }
    }

    /// What stands for its name in other files: `{page.js}`.
    fn mark(&self) -> String {
        let (stem, rest) = self.name.split_once('-').unwrap_or((&self.name, ""));
        let ending = rest.split_once('.').map_or("", |(_, ending)| ending);
        format!("{{{stem}.{ending}}}")
    }
}

fn write_table(workshop: &Workshop, assets: &[Asset]) -> Result<()> {
    let mut table = String::from("[\n");
    for (number, asset) in assets.iter().enumerate() {
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        packed.write_all(&asset.content)?;
        let file = workshop.out().join(format!("page-{number}.gz"));
        fs::write(&file, packed.finish()?)?;
        let (name, kind) = (&asset.name, asset.kind);
        writeln!(
            table,
            "    Asset {{ name: {name:?}, kind: {kind:?}, gzip: include_bytes!({file:?}) }},"
        )?;
    }
    table.push(']');
    fs::write(workshop.out().join("page.rs"), table)?;
    Ok(())
}
