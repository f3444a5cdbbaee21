//! Builds the guests that only tests load.

#[path = "../../host/build/guests.rs"]
mod guests;

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::{env, fs};
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    guests::embed(root, &["tests/hostile-guest", "examples/custom-policy"])?;
    let contract = fs::read_to_string(root.join("wit/policy.wit"))?;
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set")?);
    let module = fs::read(out.join("hostile-guest.core.wasm"))?;
    let component = with_another_field(&contract, module)?;
    Ok(fs::write(out.join("another-field.wasm"), component)?)
}

/// The module as a component of a contract whose workers have one field more, as somebody has it
/// who changed the contract for a need of the lab's.
fn with_another_field(contract: &str, module: Vec<u8>) -> Result<Vec<u8>> {
    let (before, after) = ("record worker {", "record worker { rack: string,");
    ensure!(contract.contains(before), "wit/policy.wit has no {before:?}");
    let mut resolve = Resolve::default();
    let package = resolve.push_str("policy.wit", &contract.replace(before, after))?;
    let world = resolve.select_world(&[package], Some("policy-plugin"))?;
    let mut module = without_contract(&module)?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    guests::componentize(&module)
}

/// A core module without the sections in which wit-bindgen wrote its contract.
fn without_contract(module: &[u8]) -> Result<Vec<u8>> {
    let (header, mut rest) = module.split_at_checked(8).context("no module")?;
    let mut kept = header.to_vec();
    while let [id, after @ ..] = rest {
        let (length, bytes) = number(after).context("a section without a length")?;
        let (section, next) = bytes.split_at_checked(length).context("a section is cut off")?;
        let is_contract = *id == 0
            && number(section).is_some_and(|(_, name)| name.starts_with(b"component-type"));
        if !is_contract {
            kept.extend_from_slice(&rest[..rest.len() - next.len()]);
        }
        rest = next;
    }
    Ok(kept)
}

/// An unsigned LEB128 number, and what follows it.
fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let last = bytes.iter().take(5).position(|byte| byte & 0x80 == 0)?;
    let value =
        bytes[..=last].iter().rev().fold(0, |value, byte| value << 7 | usize::from(byte & 0x7f));
    Some((value, &bytes[last + 1..]))
}
