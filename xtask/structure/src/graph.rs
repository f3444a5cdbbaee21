//! Finds which module uses which, and circles among them.
//!
//! Uses between a module and the modules inside it do not count. Names are followed through `use` to the
//! module that defines them.

use crate::source::{Crate, Module};
use std::collections::BTreeSet;

/// How many `use`s to follow before giving up.
const MAX_STEPS: usize = 16;

/// Modules that use each other, directly or through others of the circle.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Circle {
    pub modules: Vec<String>,
    /// The uses that make up the circle.
    pub uses: Vec<String>,
}

/// The circles of a crate.
pub fn circles(found: &Crate) -> Vec<Circle> {
    let uses: Vec<BTreeSet<usize>> = (0..found.modules.len()).map(|m| uses(found, m)).collect();
    let reach: Vec<BTreeSet<usize>> = (0..uses.len()).map(|module| reach(&uses, module)).collect();
    let mut circles = BTreeSet::new();
    for module in 0..uses.len() {
        let both = |other: &usize| reach[module].contains(other) && reach[*other].contains(&module);
        let members: Vec<usize> = (0..uses.len()).filter(both).collect();
        if members.len() < 2 {
            continue;
        }
        let name = |module: usize| found.modules[module].path.clone();
        let mut modules: Vec<String> = members.iter().map(|module| name(*module)).collect();
        modules.sort();
        let inside = members.iter().flat_map(|from| {
            uses[*from]
                .iter()
                .filter(|to| members.contains(to))
                .map(move |to| format!("{} → {}", name(*from), name(*to)))
        });
        circles.insert(Circle { uses: inside.collect(), modules });
    }
    circles.into_iter().collect()
}

/// Everything reachable by one or more uses.
fn reach(uses: &[BTreeSet<usize>], from: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<usize> = uses[from].iter().copied().collect();
    while let Some(module) = open.pop() {
        if reached.insert(module) {
            open.extend(&uses[module]);
        }
    }
    reached
}

/// The modules whose items `module` names.
fn uses(found: &Crate, module: usize) -> BTreeSet<usize> {
    let own = &found.modules[module];
    let named = own.paths.iter().chain(own.imports.values());
    let resolved = named.filter_map(|path| match resolve(found, module, path, MAX_STEPS)? {
        Named::Item(of) => Some(of),
        // The paths that begin with its name show what is used.
        Named::Module(_) => None,
    });
    let globs = own.globs.iter().filter_map(|path| resolve(found, module, path, MAX_STEPS));
    let all = resolved.chain(globs.map(|named| named.module()));
    all.filter(|other| !is_inside(found, module, *other) && !is_inside(found, *other, module))
        .collect()
}

/// Whether `module` is `outer` or inside it.
fn is_inside(found: &Crate, module: usize, outer: usize) -> bool {
    let mut at = Some(module);
    while let Some(module) = at {
        if module == outer {
            return true;
        }
        at = found.modules[module].parent;
    }
    false
}

/// The meaning of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    Module(usize),
    /// An item that this module defines.
    Item(usize),
}

impl Named {
    fn module(self) -> usize {
        match self {
            Self::Module(module) | Self::Item(module) => module,
        }
    }
}

/// Resolves `path`, as it is written in the module `from`. `None` for items of other crates.
fn resolve(found: &Crate, from: usize, path: &[String], steps: usize) -> Option<Named> {
    let (first, rest) = path.split_first()?;
    let start = match first.as_str() {
        "crate" => Named::Module(0),
        "self" => Named::Module(from),
        "super" => Named::Module(found.modules[from].parent?),
        name => enter(found, from, name, steps)?,
    };
    rest.iter().try_fold(start, |at, name| match at {
        Named::Item(_) => Some(at),
        Named::Module(at) if name == "super" => found.modules[at].parent.map(Named::Module),
        Named::Module(at) if name == "self" => Some(Named::Module(at)),
        Named::Module(at) => enter(found, at, name, steps),
    })
}

/// The meaning of `name` in `module`.
fn enter(found: &Crate, module: usize, name: &str, steps: usize) -> Option<Named> {
    let at: &Module = &found.modules[module];
    if let Some(child) = at.children.get(name) {
        return Some(Named::Module(*child));
    }
    if at.defined.contains(name) {
        return Some(Named::Item(module));
    }
    let steps = steps.checked_sub(1)?;
    if let Some(path) = at.imports.get(name) {
        // `use serde::serde` would lead back here.
        return (path[0] != name).then(|| resolve(found, module, path, steps))?;
    }
    at.globs.iter().find_map(|path| {
        let opened = resolve(found, module, path, steps)?.module();
        (opened != module).then(|| enter(found, opened, name, steps))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn circles_of(files: &[(&str, &str)]) -> Vec<Circle> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        circles(&crate::source::read("x", &folder.path().join("lib.rs"), folder.path()).unwrap())
    }

    #[test]
    fn a_circle_through_a_reexport_is_found() {
        let circles = circles_of(&[
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a/mod.rs", "mod inner; pub use inner::A;"),
            ("a/inner.rs", "use crate::b; pub struct A; fn f() { b::f() }"),
            ("b.rs", "pub fn f() { g!(crate::a::A) }"),
            ("c.rs", "use crate::a::A; pub struct C(A);"),
        ]);
        assert_eq!(circles.len(), 1);
        assert_eq!(circles[0].modules, ["a::inner", "b"]);
        assert_eq!(circles[0].uses, ["a::inner → b", "b → a::inner"]);
    }

    #[test]
    fn parents_tests_and_other_crates_make_no_circle() {
        let circles = circles_of(&[
            ("lib.rs", "mod a; mod b; pub struct Shared; use a::A; fn f(a: A) {}"),
            ("a.rs", "use super::Shared; pub struct A(Shared); use std::fmt;"),
            ("b.rs", "pub struct B(crate::a::A);\n#[cfg(test)] mod tests { use crate::a::A; }"),
            ("unused.rs", "compile_error!()"),
        ]);
        assert!(circles.is_empty(), "{circles:?}");
    }
}
