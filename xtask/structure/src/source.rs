//! Reads the modules of a crate, without tests.

use anyhow::{Context, Result};
use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use syn::spanned::Spanned;
use syn::{Attribute, ImplItem, Item, ItemMod, TraitItem, UseTree};

/// One library or program.
pub struct Crate {
    pub name: String,
    /// The first is the crate's root.
    pub modules: Vec<Module>,
    pub files: Vec<SourceFile>,
}

/// A module: a file, or a `mod name { … }` in a file.
#[derive(Default)]
pub struct Module {
    /// `a::b`, or empty for the root.
    pub path: String,
    pub parent: Option<usize>,
    pub children: BTreeMap<String, usize>,
    /// Names of the types, functions and constants that are defined here.
    pub defined: BTreeSet<String>,
    /// Names of the types alone, with the kind of definition.
    pub types: Vec<String>,
    /// The names that `use` brings in, and their paths.
    pub imports: BTreeMap<String, Vec<String>>,
    /// The modules that `use …::*` opens.
    pub globs: Vec<Vec<String>>,
    /// Every other path with at least two names.
    pub paths: BTreeSet<Vec<String>>,
}

/// A file and its measurements.
pub struct SourceFile {
    /// Relative to the workspace's folder.
    pub path: String,
    /// The number of lines without blank lines, comments and tests.
    pub code_lines: usize,
    /// Each function with its number of lines from `fn` to `}`.
    pub functions: Vec<(String, usize)>,
}

/// Reads the crate with the root file `root`. Paths are relative to `workspace`.
pub fn read(name: &str, root: &Path, workspace: &Path) -> Result<Crate> {
    let mut reader = Reader {
        workspace: workspace.to_owned(),
        found: Crate { name: name.to_owned(), modules: Vec::new(), files: Vec::new() },
    };
    let folder = root.parent().unwrap_or(root).to_owned();
    reader.file(root, &folder, Module::default())?;
    Ok(reader.found)
}

struct Reader {
    workspace: PathBuf,
    found: Crate,
}

impl Reader {
    /// Reads a module that is a file. `folder` contains its child modules.
    fn file(&mut self, file: &Path, folder: &Path, module: Module) -> Result<usize> {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let parsed = syn::parse_file(&text).with_context(|| file.display().to_string())?;
        let file = file.canonicalize()?;
        let shown = file.strip_prefix(&self.workspace).unwrap_or(&file);
        let mut measured = SourceFile {
            path: shown.display().to_string(),
            code_lines: code_lines(&text, &parsed.items),
            functions: Vec::new(),
        };
        let index = self.module(&parsed.items, folder, module, &mut measured)?;
        self.found.files.push(measured);
        Ok(index)
    }

    fn module(
        &mut self,
        items: &[Item],
        folder: &Path,
        module: Module,
        file: &mut SourceFile,
    ) -> Result<usize> {
        let index = self.found.modules.len();
        self.found.modules.push(module);
        for item in items.iter().filter(|item| !is_test(item)) {
            if let Item::Mod(child) = item {
                let child_index = self.child(index, child, folder, file)?;
                let children = &mut self.found.modules[index].children;
                children.insert(child.ident.to_string(), child_index);
            } else {
                self.found.modules[index].add(item);
                functions(item, &mut file.functions);
            }
        }
        Ok(index)
    }

    fn child(
        &mut self,
        parent: usize,
        item: &ItemMod,
        folder: &Path,
        file: &mut SourceFile,
    ) -> Result<usize> {
        let name = item.ident.to_string();
        let path = match self.found.modules[parent].path.as_str() {
            "" => name.clone(),
            above => format!("{above}::{name}"),
        };
        let module = Module { path, parent: Some(parent), ..Module::default() };
        let below = folder.join(&name);
        if let Some((_, items)) = &item.content {
            return self.module(items, &below, module, file);
        }
        if let Some(path) = path_attribute(&item.attrs) {
            let file = folder.join(path);
            let below = file.parent().unwrap_or(folder).to_owned();
            return self.file(&file, &below, module);
        }
        let beside = folder.join(format!("{name}.rs"));
        let source = if beside.is_file() { beside } else { below.join("mod.rs") };
        self.file(&source, &below, module)
    }
}

impl Module {
    fn add(&mut self, item: &Item) {
        if let Item::Use(item) = item {
            self.import(Vec::new(), &item.tree);
            return;
        }
        let (name, is_type) = match item {
            Item::Struct(item) => (Some(&item.ident), true),
            Item::Enum(item) => (Some(&item.ident), true),
            Item::Union(item) => (Some(&item.ident), true),
            Item::Trait(item) => (Some(&item.ident), true),
            Item::Type(item) => (Some(&item.ident), true),
            Item::Fn(item) => (Some(&item.sig.ident), false),
            Item::Const(item) => (Some(&item.ident), false),
            Item::Static(item) => (Some(&item.ident), false),
            _ => (None, false),
        };
        if let Some(name) = name {
            self.defined.insert(name.to_string());
            if is_type {
                self.types.push(name.to_string());
            }
        }
        // The arguments of macros contain paths, too, so this reads tokens instead of the parsed
        // item.
        scan(item.to_token_stream(), &mut self.paths);
    }

    fn import(&mut self, mut path: Vec<String>, tree: &UseTree) {
        match tree {
            UseTree::Path(part) => {
                path.push(part.ident.to_string());
                self.import(path, &part.tree);
            }
            UseTree::Name(part) if part.ident == "self" => {
                if let Some(name) = path.last().cloned() {
                    self.imports.insert(name, path);
                }
            }
            UseTree::Name(part) => {
                path.push(part.ident.to_string());
                self.imports.insert(part.ident.to_string(), path);
            }
            UseTree::Rename(part) => {
                if part.ident != "self" {
                    path.push(part.ident.to_string());
                }
                self.imports.insert(part.rename.to_string(), path);
            }
            UseTree::Glob(_) => self.globs.push(path),
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.import(path.clone(), tree));
            }
        }
    }
}

/// Collects the paths `a::b::…` among tokens.
fn scan(tokens: TokenStream, paths: &mut BTreeSet<Vec<String>>) {
    let mut path: Vec<String> = Vec::new();
    let mut colons = 0;
    let mut end = |path: &mut Vec<String>| {
        let path = std::mem::take(path);
        if path.len() > 1 {
            paths.insert(path);
        }
    };
    let mut groups = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
            TokenTree::Ident(name) => {
                if colons != 2 {
                    end(&mut path);
                }
                path.push(name.to_string());
                colons = 0;
            }
            other => {
                end(&mut path);
                colons = 0;
                if let TokenTree::Group(group) = other {
                    groups.push(group.stream());
                }
            }
        }
    }
    end(&mut path);
    groups.into_iter().for_each(|group| scan(group, paths));
}

/// The functions of an item, each with its number of lines.
fn functions(item: &Item, found: &mut Vec<(String, usize)>) {
    let mut add = |owner: Option<String>, signature: &syn::Signature, end: usize| {
        let name = match owner {
            Some(owner) => format!("{owner}::{}", signature.ident),
            None => signature.ident.to_string(),
        };
        found.push((name, end + 1 - signature.span().start().line));
    };
    match item {
        Item::Fn(function) => add(None, &function.sig, function.block.span().end().line),
        Item::Impl(item) => {
            let owner = item.self_ty.to_token_stream().to_string().replace(' ', "");
            for item in &item.items {
                if let ImplItem::Fn(f) = item {
                    add(Some(owner.clone()), &f.sig, f.block.span().end().line);
                }
            }
        }
        Item::Trait(item) => {
            for part in &item.items {
                if let TraitItem::Fn(f) = part
                    && let Some(block) = &f.default
                {
                    add(Some(item.ident.to_string()), &f.sig, block.span().end().line);
                }
            }
        }
        _ => {}
    }
}

/// The number of lines without blank lines, comments and items for tests.
fn code_lines(text: &str, items: &[Item]) -> usize {
    let tests: Vec<_> = items
        .iter()
        .filter(|item| is_test(item))
        .map(|item| item.span().start().line..=item.span().end().line)
        .collect();
    let is_code = |(index, line): &(usize, &str)| {
        let line = line.trim();
        !line.is_empty()
            && !line.starts_with("//")
            && !tests.iter().any(|test| test.contains(&(index + 1)))
    };
    text.lines().enumerate().filter(is_code).count()
}

fn is_test(item: &Item) -> bool {
    attributes(item).iter().any(|attribute| {
        let Ok(list) = attribute.meta.require_list() else { return false };
        let tokens = list.tokens.to_string();
        attribute.path().is_ident("cfg") && tokens == "test"
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.path().is_ident("path"))?;
    let value = &attribute.meta.require_name_value().ok()?.value;
    match value {
        syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_in_macros_and_generics() {
        let tokens = "fn f(a: Vec<super::x::Y>) { log!(\"{}\", crate::b::C::new(a)); a::<u8>() }";
        let mut paths = BTreeSet::new();
        scan(tokens.parse().unwrap(), &mut paths);
        let paths: Vec<String> = paths.iter().map(|path| path.join("::")).collect();
        assert_eq!(paths, ["crate::b::C::new", "super::x::Y"]);
    }

    #[test]
    fn comments_blank_lines_and_tests_are_no_code() {
        let text = "//! Doc.\n\nfn f() {\n    // Why.\n}\n#[cfg(test)]\nmod tests {\n}\n";
        let file = syn::parse_file(text).unwrap();
        assert_eq!(code_lines(text, &file.items), 2);
    }
}
