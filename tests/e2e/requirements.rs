//! The tables in `tests/README.md` and in the docs speak of tests that exist.

use crate::support::tests_folder;
use std::{fs, path::Path};

/// Looks for each `module::test` that the file at `path` names; gives their number.
fn check(path: &Path) -> usize {
    let table = fs::read_to_string(path).unwrap();
    let mut named = 0;
    for name in table.split('`').skip(1).step_by(2) {
        // A type's `Name::function` is no test.
        let is_test = !name.contains(' ') && !name.starts_with(|c: char| c.is_uppercase());
        let Some((module, test)) = name.rsplit_once("::").filter(|_| is_test) else { continue };
        let module = tests_folder().join("e2e").join(module.replace("::", "/"));
        let source = fs::read_to_string(module.with_extension("rs"));
        let source = source.or_else(|_| fs::read_to_string(module.join("mod.rs")));
        let source = source.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(source.contains(&format!("#[test]\nfn {test}()")), "{name} does not exist");
        named += 1;
    }
    named
}

#[test]
fn every_test_that_the_requirements_name_exists() {
    let named = check(&tests_folder().join("README.md"));
    assert!(named > 50, "only {named} tests named");
}

#[test]
fn every_test_that_the_page_on_switching_names_exists() {
    let named = check(&tests_folder().join("../docs/switching-from-python.md"));
    assert!(named > 40, "only {named} tests named");
}
