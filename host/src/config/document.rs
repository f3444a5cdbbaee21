//! Parses a TOML file, merges its layers, and finds the line of each value.

use super::deserialize::{Lines, Node, ValueError};
use super::error::ConfigError;
use serde::Deserialize;
use std::borrow::Cow;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A configuration file, parsed.
pub(crate) struct Document<'t> {
    path: &'t Path,
    lines: Lines,
    /// The top level, without the tables of other layers.
    top: DeTable<'t>,
    default: DeTable<'t>,
    environments: Vec<(String, DeTable<'t>)>,
}

impl<'t> Document<'t> {
    /// Parses `text`, the content of `path`, and separates its layers.
    pub(crate) fn parse(path: &'t Path, text: &'t str) -> Result<Self, ConfigError> {
        let lines = Lines::new(text);
        let parsed = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            line: lines.at(error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        })?;
        let (top, default, environments) = (parsed.into_inner(), DeTable::new(), Vec::new());
        let mut document = Self { path, lines, top, default, environments };
        document.default = document.remove_layer("default")?;
        for (name, value) in document.remove_layer("environments")? {
            let layer =
                document.layer(&format!("environments.{}", name.get_ref()), &name, value)?;
            document.environments.push((name.get_ref().to_string(), layer));
        }
        Ok(document)
    }

    fn remove_layer(&mut self, key: &str) -> Result<DeTable<'t>, ConfigError> {
        match self.top.remove_entry(key) {
            Some((name, value)) => self.layer(key, &name, value),
            None => Ok(DeTable::new()),
        }
    }

    fn layer(
        &self,
        key: &str,
        name: &Spanned<Cow<'_, str>>,
        value: Spanned<DeValue<'t>>,
    ) -> Result<DeTable<'t>, ConfigError> {
        let line = self.lines.at(name.span().start);
        match value.into_inner() {
            DeValue::Table(table) => Ok(table),
            other => {
                Err(ValueError::wrong_type("a table", &other).at(line, key).in_file(self.path))
            }
        }
    }

    /// The names of all environments.
    pub(crate) fn environments(&self) -> impl Iterator<Item = &str> {
        self.environments.iter().map(|(name, _)| name.as_str())
    }

    /// Removes a key that has no effect. Returns its lines.
    pub(crate) fn remove(&mut self, sections: &[&str], key: &str) -> Vec<usize> {
        let named = self.environments.iter_mut().map(|(_, layer)| layer);
        let layers = [&mut self.top, &mut self.default].into_iter().chain(named);
        let keys = layers.filter_map(|layer| {
            let section = sections.iter().try_fold(layer, |table, name| {
                match table.get_mut(*name)?.get_mut() {
                    DeValue::Table(table) => Some(table),
                    _ => None,
                }
            });
            section?.remove_entry(key)
        });
        keys.map(|(key, _)| self.lines.at(key.span().start)).collect()
    }

    /// Reads each layer by itself, because layers that are not in effect must be correct too.
    pub(crate) fn check<T: for<'de> Deserialize<'de>>(&self) -> Result<(), ConfigError> {
        let named = self.environments.iter().map(|(_, layer)| layer);
        for layer in [&self.top, &self.default].into_iter().chain(named) {
            self.read::<T>(layer.clone())?;
        }
        Ok(())
    }

    /// Reads the layers in effect: the environment called `name`, in any case, wins over the default
    /// layer, and that over the top level, key by key. Returns whether there is such an environment.
    pub(crate) fn merge<T: for<'de> Deserialize<'de>>(
        &self,
        name: &str,
    ) -> Result<(T, bool), ConfigError> {
        let mut merged = self.top.clone();
        overlay(&mut merged, &self.default);
        let environment =
            self.environments.iter().find(|(each, _)| each.eq_ignore_ascii_case(name));
        if let Some((_, layer)) = environment {
            overlay(&mut merged, layer);
        }
        Ok((self.read(merged)?, environment.is_some()))
    }

    fn read<T: for<'de> Deserialize<'de>>(&self, table: DeTable<'t>) -> Result<T, ConfigError> {
        let value = DeValue::Table(table);
        T::deserialize(Node::root(&value, &self.lines)).map_err(|error| error.in_file(self.path))
    }
}

/// Puts `special` over `general`: tables merge key by key, and other values are replaced.
fn overlay<'t>(general: &mut DeTable<'t>, special: &DeTable<'t>) {
    for (key, value) in special {
        let below = general.get_mut(key.get_ref().as_ref()).map(Spanned::get_mut);
        if let (Some(DeValue::Table(below)), DeValue::Table(above)) = (below, value.get_ref()) {
            overlay(below, above);
        } else {
            // An insertion alone would keep the position of the replaced key.
            general.remove(key.get_ref().as_ref());
            general.insert(key.clone(), value.clone());
        }
    }
}
