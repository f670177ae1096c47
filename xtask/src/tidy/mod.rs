//! Tidy: what the documents say about the tree, compared with the tree.
//!
//! Each check is one file and one pure function from a [`Tree`] to findings, so that its tests can show it a bad tree.

mod arrows;
mod code_map;
mod error_pages;
mod headers;
mod languages;
mod leftovers;
mod length;
mod naps;
mod tree;

use anyhow::{Result, bail};

use crate::run;
use tree::Tree;

type Check = fn(&Tree) -> Vec<String>;

const CHECKS: &[(&str, Check)] = &[
    ("the code map names every folder once, and nothing that is gone", code_map::check),
    ("the arrows between crates point one way", arrows::check),
    ("every file opens by saying what it is", headers::check),
    ("no file hides a second room", length::check),
    ("every error code has its page", error_pages::check),
    ("both READMEs show the same code", languages::check),
    ("nothing is left for later", leftovers::check),
    ("no test sleeps", naps::check),
];

/// Reads the tree, runs every check and prints what it found.
///
/// # Errors
/// When anything was found.
pub(crate) fn run() -> Result<()> {
    let tree = Tree::read(run::root())?;
    let mut count = 0;
    for (name, check) in CHECKS {
        let found = check(&tree);
        println!("{} {name}", if found.is_empty() { "ok  " } else { "FAIL" });
        for finding in &found {
            println!("       {finding}");
        }
        count += found.len();
    }
    if count > 0 {
        bail!("tidy found {count} things to put right; they are listed above");
    }
    Ok(())
}
