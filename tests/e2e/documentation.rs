//! The documentation only refers to existing files, headings and modules.

use crate::support::tests_folder;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Every page for people, relative to the top folder of the repository.
fn pages(root: &Path) -> Vec<PathBuf> {
    let mut pages = ["README.md", "ARCHITECTURE.md", "tests/README.md", "plugins/README.md"]
        .map(|page| root.join(page))
        .to_vec();
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    pages.extend(docs.filter(|path| path.extension().is_some_and(|ending| ending == "md")));
    pages
}

/// The text of a page without its code blocks.
fn prose(page: &Path) -> String {
    let text = fs::read_to_string(page).unwrap();
    text.split("```").step_by(2).collect()
}

/// The anchor that a Markdown viewer gives to a heading.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut links = 0;
    for page in pages(&tests_folder().join("..")) {
        let text = prose(&page);
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.starts_with("http")) {
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = match path {
                "" => page.clone(),
                path => page.parent().unwrap().join(path),
            };
            assert!(file.exists(), "{}: {target} does not exist", page.display());
            if !heading.is_empty() {
                let text = prose(&file);
                let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
                let found = headings.map(|line| anchor(line.trim_start_matches('#')));
                let found: Vec<String> = found.collect();
                assert!(
                    found.iter().any(|known| known == heading),
                    "{}: {target} leads to none of {found:?}",
                    page.display()
                );
            }
            links += 1;
        }
    }
    assert!(links > 60, "only {links} links");
}

/// Whether `names` lead from the folder or file `source` to a module, or to an item in one.
fn is_found(source: &Path, names: &[&str]) -> bool {
    let Some((name, rest)) = names.split_first() else { return true };
    if [source.join(name), source.join(format!("{name}.rs"))].iter().any(|path| path.exists()) {
        return is_found(&source.join(name), rest);
    }
    let files = [source.with_extension("rs"), source.join("mod.rs"), source.join("lib.rs")];
    let text: String = files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
    rest.is_empty() && text.contains(name)
}

#[test]
fn every_module_that_the_architecture_names_exists() {
    let root = tests_folder().join("..");
    let text = prose(&root.join("ARCHITECTURE.md"));
    let mut modules = 0;
    for path in text.split('`').skip(1).step_by(2).filter(|text| text.contains("::")) {
        let names: Vec<&str> = path.split("::").collect();
        let (first, rest) = names.split_first().unwrap();
        let is_module = first.chars().all(|c| c.is_lowercase() || c == '_');
        if !is_module || rest.iter().any(|name| name.is_empty()) {
            continue;
        }
        let homes = [root.join("host").join(first).join("src"), root.join("host/src").join(first)];
        assert!(homes.iter().any(|home| is_found(home, rest)), "{path} does not exist");
        modules += 1;
    }
    assert!(modules > 30, "only {modules} modules");
}
