//! `plugin new`: creates a plugin project from a template.

use super::super::exit::{Exit, ExitWith, Failure};
use super::super::print;
use clap::{Args, ValueEnum};
use sleap_rtc_policy::ExtensionPoint;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The name of the projects in `templates/`.
const TEMPLATE_NAME: &str = "my-policy";

#[derive(Args)]
pub(crate) struct NewArgs {
    /// Name of the plugin and its folder: lower-case letters, digits and single hyphens
    #[arg(value_name = "NAME", value_parser = name)]
    name: String,
    /// The plugin's language
    #[arg(long, value_enum)]
    lang: Lang,
    /// The decision that the plugin makes
    #[arg(long = "for", value_enum, default_value_t = Answers::Selection)]
    answers: Answers,
}

/// `plugin new`, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct NewOptions {
    name: String,
    lang: Lang,
    answers: Answers,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Lang {
    Rust,
    Python,
    Js,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Answers {
    Selection,
    Compatibility,
    Estimate,
    Queueing,
    All,
}

impl NewArgs {
    pub(crate) fn check(self) -> NewOptions {
        NewOptions { name: self.name, lang: self.lang, answers: self.answers }
    }
}

impl Answers {
    fn covers(self, point: ExtensionPoint) -> bool {
        match self {
            Self::All => true,
            Self::Selection => point == ExtensionPoint::Selection,
            Self::Compatibility => point == ExtensionPoint::Compatibility,
            Self::Estimate => point == ExtensionPoint::Estimate,
            Self::Queueing => point == ExtensionPoint::Queueing,
        }
    }

    fn world(self) -> &'static str {
        match self {
            Self::All => "full-plugin",
            Self::Selection => ExtensionPoint::Selection.world(),
            Self::Compatibility => ExtensionPoint::Compatibility.world(),
            Self::Estimate => ExtensionPoint::Estimate.world(),
            Self::Queueing => ExtensionPoint::Queueing.world(),
        }
    }
}

/// A file of a template.
struct TemplateFile {
    name: &'static str,
    text: &'static str,
    /// The extension point that needs it. `None` if all do.
    point: Option<ExtensionPoint>,
}

macro_rules! template {
    ($folder:literal, $from:literal as $name:literal $(, $point:ident)?) => {
        TemplateFile {
            name: $name,
            text: include_str!(concat!("../../../../../templates/", $folder, "/", $from)),
            point: template!(@point $($point)?),
        }
    };
    ($folder:literal, $name:literal $(, $point:ident)?) => {
        template!($folder, $name as $name $(, $point)?)
    };
    (@point) => { None };
    (@point $point:ident) => { Some(ExtensionPoint::$point) };
}

const RUST: &[TemplateFile] = &[
    template!("rust", "README.md"),
    template!("rust", "gitignore" as ".gitignore"),
    template!("rust", "Cargo.toml"),
    template!("rust", "src/lib.rs"),
    template!("rust", "src/selection.rs", Selection),
    template!("rust", "src/compatibility.rs", Compatibility),
    template!("rust", "src/estimate.rs", Estimate),
    template!("rust", "src/queueing.rs", Queueing),
];

const PYTHON: &[TemplateFile] = &[
    template!("python", "README.md"),
    template!("python", "gitignore" as ".gitignore"),
    template!("python", "pyproject.toml"),
    template!("python", "app.py"),
    template!("python", "selection.py", Selection),
    template!("python", "rank.py", Selection),
    template!("python", "test_rank.py", Selection),
    template!("python", "compatibility.py", Compatibility),
    template!("python", "admit.py", Compatibility),
    template!("python", "test_admit.py", Compatibility),
    template!("python", "estimate.py", Estimate),
    template!("python", "minutes.py", Estimate),
    template!("python", "test_minutes.py", Estimate),
    template!("python", "queueing.py", Queueing),
    template!("python", "order.py", Queueing),
    template!("python", "test_order.py", Queueing),
];

const JS: &[TemplateFile] = &[
    template!("js", "README.md"),
    template!("js", "gitignore" as ".gitignore"),
    template!("js", "package.json"),
    template!("js", "plugin.js"),
    template!("js", "selection.js", Selection),
    template!("js", "selection.test.js", Selection),
    template!("js", "compatibility.js", Compatibility),
    template!("js", "compatibility.test.js", Compatibility),
    template!("js", "estimate.js", Estimate),
    template!("js", "estimate.test.js", Estimate),
    template!("js", "queueing.js", Queueing),
    template!("js", "queueing.test.js", Queueing),
];

/// Files with one line per extension point, from which the lines of unused ones are removed.
const LISTS: [&str; 3] = ["src/lib.rs", "app.py", "plugin.js"];

/// Writes the project into a new folder.
pub(crate) fn run(options: &NewOptions) -> Result<Exit, Failure> {
    let folder = PathBuf::from(&options.name);
    fs::create_dir(&folder).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::usage(format!("{} already exists; choose another name", folder.display()))
        }
        _ => {
            let text = format!("cannot create the folder {}", folder.display());
            Failure::new(Exit::Usage, anyhow::Error::new(error).context(text))
        }
    })?;
    let (test, files) = match options.lang {
        Lang::Rust => ("cargo test", RUST),
        Lang::Python => ("python3 -m unittest", PYTHON),
        Lang::Js => ("npm test", JS),
    };
    let is_needed =
        |file: &&TemplateFile| file.point.is_none_or(|point| options.answers.covers(point));
    for file in files.iter().filter(is_needed) {
        write(&folder.join(file.name), &file.filled(options))?;
    }
    write(&folder.join("wit/policy.wit"), include_str!("../../../../../wit/policy.wit"))?;
    let name = &options.name;
    let next = format!("created {name}; next:\n  cd {name}\n  {test}\n  sleap-rtc plugin build");
    print::line(&next).exit(Exit::Unexpected)?;
    Ok(Exit::Success)
}

impl TemplateFile {
    /// Its text for this plugin.
    fn filled(&self, NewOptions { name, answers, .. }: &NewOptions) -> String {
        let text = self.text.replace(TEMPLATE_NAME, name);
        let mut text = text.replace("full-plugin", answers.world());
        let points = ExtensionPoint::ALL.into_iter().filter(|point| answers.covers(*point));
        if let [only] = points.collect::<Vec<_>>()[..] {
            text = text.replace("[policy.POINT]", &format!("[policy.{}]", only.key()));
        }
        if LISTS.contains(&self.name) {
            for absent in ExtensionPoint::ALL.into_iter().filter(|point| !answers.covers(*point)) {
                let lines = text.split_inclusive('\n');
                text = lines.filter(|line| !line.contains(absent.key())).collect();
            }
        }
        text
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let written = || -> io::Result<()> {
        path.parent().map(fs::create_dir_all).transpose()?;
        File::create_new(path)?.write_all(text.as_bytes())
    };
    written().map_err(|error| {
        let text = format!("cannot write {}", path.display());
        Failure::new(Exit::Unexpected, anyhow::Error::new(error).context(text))
    })
}

fn name(text: &str) -> Result<String, &'static str> {
    let fits = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    let begins = text.starts_with(|c: char| c.is_ascii_lowercase());
    if begins && text.len() <= 64 && text.split('-').all(fits) {
        Ok(text.to_owned())
    } else {
        Err("expects lower-case letters, digits and single hyphens, such as fair-share")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(files: &[TemplateFile], name: &str, answers: Answers) -> String {
        let options = NewOptions { name: "fair-share".into(), lang: Lang::Rust, answers };
        files.iter().find(|file| file.name == name).unwrap().filled(&options)
    }

    #[test]
    fn names_are_valid_for_folders_and_packages() {
        for good in ["fair", "fair-share", "a1-2"] {
            assert!(name(good).is_ok(), "{good}");
        }
        for bad in ["", "Fair", "-a", "a-", "a--b", "1a", "a/b", "..", "a_b", &"a".repeat(65)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_list_names_only_existing_files() {
        let lib = text(RUST, "src/lib.rs", Answers::Estimate);
        assert!(lib.contains("mod estimate;") && lib.contains("\"estimation-plugin\""), "{lib}");
        assert!(!lib.contains("mod selection;") && !lib.contains("mod compatibility;"), "{lib}");
        let app = text(PYTHON, "app.py", Answers::Selection);
        assert!(app.contains("Selection") && !app.contains("Estimation"), "{app}");
        let readme = text(PYTHON, "README.md", Answers::Queueing);
        assert!(readme.contains("under `[policy.queueing]`"), "{readme}");
        assert_eq!(text(JS, "plugin.js", Answers::All).matches("export *").count(), 4);
    }

    #[test]
    fn a_project_carries_its_own_name() {
        for files in [RUST, PYTHON, JS] {
            for TemplateFile { name, .. } in files {
                let text = text(files, name, Answers::All);
                assert!(!text.contains(TEMPLATE_NAME), "{name}");
            }
        }
        assert!(text(RUST, "Cargo.toml", Answers::All).contains("name = \"fair-share\""));
    }
}
