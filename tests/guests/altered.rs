//! Plugins for contracts that differ slightly from the host's, in the version of the WIT package or in
//! its records. They do nothing.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{ManglingAndAbi, Resolve};

/// The component's name, and a replacement in the WIT.
const ALTERED: [(&str, &str, &str); 6] = [
    ("unaltered", "@0.1.0", "@0.1.0"),
    ("newer-patch", "@0.1.0", "@0.1.1"),
    ("newer-minor", "@0.1.0", "@0.2.0"),
    ("another-field", "record job {", "record job { priority: u32,"),
    ("another-case", "variant worker-status {", "variant worker-status { asleep,"),
    ("another-argument", "check: func(", "check: func(hour: u32, "),
];

/// Writes each as `NAME.wasm` into `out`.
pub fn build(wit: &Path, out: &Path) -> Result<()> {
    let mut contract = String::new();
    for file in fs::read_dir(wit)? {
        contract += &fs::read_to_string(file?.path())?;
    }
    for (name, from, to) in ALTERED {
        ensure!(contract.contains(from), "the WIT has no {from:?} to alter");
        let component = component(&contract.replace(from, to));
        fs::write(out.join(name).with_extension("wasm"), component.context(name)?)?;
    }
    Ok(())
}

/// A component of the world `policy-plugin` whose functions reach `unreachable`.
fn component(contract: &str) -> Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("contract.wit", contract)?;
    let world = resolve.select_world(&[package], Some("policy-plugin"))?;
    let legacy = ManglingAndAbi::Legacy(wit_parser::LiftLowerAbi::Sync);
    let mut module = dummy_module(&resolve, world, legacy);
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    ComponentEncoder::default().validate(true).module(&module)?.encode()
}
