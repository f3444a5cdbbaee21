//! The contract only grows: what was published stays as it is.

use std::collections::BTreeMap;

/// The interfaces and worlds of a contract, without comments.
fn items(contract: &str) -> BTreeMap<&str, Vec<&str>> {
    let lines = contract.lines().filter(|line| !line.trim().is_empty());
    let code = lines.filter(|line| !line.trim_start().starts_with("///"));
    let (mut items, mut name) = (BTreeMap::<&str, Vec<&str>>::new(), "");
    for line in code {
        if !line.starts_with([' ', '}']) {
            name = line;
        }
        items.entry(name).or_default().push(line);
    }
    items
}

#[test]
fn everything_of_the_first_contract_is_unchanged() {
    let first = items(include_str!("policy-0.1.0.wit"));
    let now = items(include_str!("../../wit/policy.wit"));
    assert!(first.len() > 8, "{:?}", first.keys());
    for (name, lines) in &first {
        assert_eq!(now.get(name), Some(lines), "{name}");
    }
    let new: Vec<&&str> = now.keys().filter(|name| !first.contains_key(*name)).collect();
    assert_eq!(new, [&"interface queueing {", &"world full-plugin {", &"world queueing-plugin {"]);
}
