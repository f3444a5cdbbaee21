//! The table of requirements in `tests/README.md` speaks of tests that exist.

use crate::support::tests_folder;
use std::fs;

#[test]
fn every_test_that_the_table_names_exists() {
    let table = fs::read_to_string(tests_folder().join("README.md")).unwrap();
    let mut named = 0;
    for name in table.split('`').skip(1).step_by(2) {
        let Some((module, test)) = name.split_once("::").filter(|_| !name.contains(' ')) else {
            continue;
        };
        let file = tests_folder().join("e2e").join(module).with_extension("rs");
        let source = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(source.contains(&format!("#[test]\nfn {test}()")), "{name} does not exist");
        named += 1;
    }
    assert!(named > 50, "only {named} tests named");
}
