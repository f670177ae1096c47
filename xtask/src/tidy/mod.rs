//! Tidy: what the documents say of the tree is true, and every file keeps the house rules.

mod arrows;
mod files;
mod map;
mod pages;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::root;

/// Runs all checks and reports everything that they find.
pub(crate) fn tidy() -> Result<()> {
    let root = root();
    let files = tracked(&root)?;
    let mut found = Vec::new();
    found.extend(map::check(&root)?);
    found.extend(arrows::check(&root)?);
    found.extend(pages::check(&root)?);
    for path in files.iter().filter(|path| path.ends_with(".rs")) {
        let text = std::fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"))?;
        found.extend(files::check(path, &text));
    }
    if found.is_empty() {
        println!("{} files are tidy", files.len());
        return Ok(());
    }
    for problem in &found {
        println!("{problem}");
    }
    bail!("{} things are not tidy", found.len())
}

/// The files that git knows or would take.
fn tracked(root: &Path) -> Result<Vec<String>> {
    let args = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").current_dir(root).args(args).output().context("cannot run git")?;
    let listed = String::from_utf8(output.stdout)?;
    Ok(listed.lines().filter(|path| root.join(path).is_file()).map(str::to_owned).collect())
}
