//! The tree as the checks see it: every text file by its path, and what cargo knows about the crates.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::run;

/// A tree; tests make small ones up.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Text by path from the root, with `/` between the parts.
    pub(crate) files: BTreeMap<String, String>,
    /// `cargo metadata` of the workspace.
    pub(crate) metadata: Value,
}

/// What is not the project's: built, or the repository's own.
const SKIPPED: &[&str] = &["target", ".git"];

impl Tree {
    /// Reads the folder and asks cargo.
    ///
    /// # Errors
    /// When a file cannot be read or cargo fails.
    pub(crate) fn read(root: &Path) -> Result<Tree> {
        let mut files = BTreeMap::new();
        walk(root, "", &mut files)?;
        // Only what this machine would build: other systems' crates need not be downloaded to draw the arrows.
        let version = run::read(run::rustc(&["-vV"]))?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
        let text = run::read(run::cargo(&["metadata", "--format-version", "1", "--filter-platform", host]))?;
        Ok(Tree { files, metadata: serde_json::from_str(&text)? })
    }

    /// The folders of crates: of `crates/`, `backends/` and `examples/`, and the two that stand alone.
    pub(crate) fn crate_folders(&self) -> Vec<&str> {
        let manifests = self.files.keys().filter_map(|path| path.strip_suffix("/Cargo.toml"));
        manifests.filter(|folder| matches!(folder.split('/').count(), 1 | 2)).collect()
    }

    /// The names of the backends, without `commute-`.
    pub(crate) fn backends(&self) -> Vec<&str> {
        let folders = self.crate_folders().into_iter();
        folders.filter_map(|folder| folder.strip_prefix("backends/commute-")).collect()
    }

    /// Rust files of the project by path, without those that show compile errors on purpose.
    pub(crate) fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        let rust = self.files.iter().filter(|(path, _)| path.ends_with(".rs") && !path.contains("/tests/ui/"));
        rust.map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Whether a path is a file or a folder of the tree.
    pub(crate) fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let inside = format!("{path}/");
        let below = self.files.range(inside.clone()..).next();
        self.files.contains_key(path) || below.is_some_and(|(found, _)| found.starts_with(&inside))
    }
}

fn walk(folder: &Path, name: &str, files: &mut BTreeMap<String, String>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let file_name = entry.file_name().to_string_lossy().into_owned();
        if SKIPPED.contains(&file_name.as_str()) {
            continue;
        }
        let path = if name.is_empty() { file_name } else { format!("{name}/{file_name}") };
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), &path, files)?;
        } else if let Ok(text) = fs::read_to_string(entry.path()) {
            // What is not text has nothing that a check could read.
            files.insert(path, text);
        }
    }
    Ok(())
}

/// Where the tests at the bottom of a file begin, in lines; its length when there are none.
pub(crate) fn tests_begin(text: &str) -> usize {
    let lines: Vec<_> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod "));
    tests.unwrap_or(lines.len())
}

#[cfg(test)]
impl Tree {
    /// A tree of these files and no crates.
    pub(crate) fn of(files: &[(&str, &str)]) -> Tree {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        Tree { files, metadata: Value::Null }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_there_when_a_file_is_in_it() {
        let tree = Tree::of(&[("crates/a/Cargo.toml", ""), ("crates/ab/src/lib.rs", "")]);
        assert!(tree.has("crates/a") && tree.has("crates/ab/src/") && tree.has("crates/a/Cargo.toml"));
        assert!(!tree.has("crates/abc") && !tree.has("crates/a/src"));
        assert_eq!(tree.crate_folders(), ["crates/a"]);
    }
}
