//! The code map of ARCHITECTURE.md against the tree.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Every crate stands in the map exactly once, and every path in the map exists.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).context("ARCHITECTURE.md is missing")?;
    let mut crates = BTreeSet::from(["bench".to_owned(), "xtask".to_owned()]);
    for folder in ["crates", "backends", "examples"] {
        for entry in fs::read_dir(root.join(folder))? {
            let entry = entry?;
            if entry.path().join("Cargo.toml").is_file() {
                crates.insert(format!("{folder}/{}", entry.file_name().to_string_lossy()));
            }
        }
    }
    Ok(compare(&text, &crates, |path| root.join(path).exists()))
}

fn compare(text: &str, crates: &BTreeSet<String>, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    let map = text.split("## Code map").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap_or_default();
    let rows: Vec<&str> =
        map.lines().filter_map(|line| line.strip_prefix("| `")).filter_map(|line| line.split('`').next()).collect();
    for path in &rows {
        if !exists(path) {
            found.push(format!("ARCHITECTURE.md: the code map names {path}, which does not exist"));
        }
    }
    for name in crates {
        let count = rows.iter().filter(|row| *row == name).count();
        if count != 1 {
            found.push(format!("ARCHITECTURE.md: the code map has {name} {count} times instead of once"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_a_repeated_and_a_stale_row_are_found() {
        let crates = BTreeSet::from(["crates/a".to_owned(), "crates/b".to_owned()]);
        let map = |rows: &[&str]| {
            let rows: String = rows.iter().map(|row| format!("| `{row}` | what it is |\n")).collect();
            compare(&format!("# A\n\n## Code map\n\n{rows}\n## More\n"), &crates, |path| path != "crates/gone").len()
        };
        assert_eq!(map(&["crates/a", "crates/b"]), 0);
        assert_eq!(map(&["crates/a"]), 1);
        assert_eq!(map(&["crates/a", "crates/b", "crates/b"]), 1);
        assert_eq!(map(&["crates/a", "crates/b", "crates/gone"]), 1);
    }
}
