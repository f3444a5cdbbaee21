//! The tables in `tests/README.md` and in the docs only name existing tests.

use crate::support::tests_folder;
use std::{collections::HashSet, fs, path::Path};

/// Checks each `module::test` in the file at `path`. Returns their number.
fn check(path: &Path) -> usize {
    let table = fs::read_to_string(path).unwrap();
    let mut named = 0;
    for name in table.split('`').skip(1).step_by(2) {
        // A type's `Name::function` is not a test.
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

/// All tests of the repository, by their names without modules.
fn all_tests(folder: &Path, found: &mut HashSet<String>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            all_tests(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let source = fs::read_to_string(&path).unwrap();
            let after = source.split("#[test]").chain(source.split("#[tokio::test")).skip(1);
            let name = |text: &str| Some(text.split_once("fn ")?.1.split_once('(')?.0.to_owned());
            found.extend(after.filter_map(name));
        }
    }
}

#[test]
fn every_line_of_what_is_supported_names_its_tests() {
    let root = tests_folder().join("..");
    let mut tests = HashSet::new();
    for folder in ["host", "tests/e2e"] {
        all_tests(&root.join(folder), &mut tests);
    }
    let table = fs::read_to_string(root.join("docs/packages.md")).unwrap();
    let mut rows = 0;
    for row in table.lines().filter(|line| line.starts_with('|') && !line.starts_with("|---")) {
        let (_, last) = row.trim_end_matches('|').rsplit_once('|').unwrap();
        let names: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
        if last.trim() == "tests" {
            continue;
        }
        assert!(!names.is_empty(), "no test: {row}");
        for name in names {
            assert!(tests.contains(name), "{name} does not exist: {row}");
        }
        rows += 1;
    }
    assert!(rows > 40, "only {rows} lines");
}
