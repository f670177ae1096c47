//! Documents that are written twice: pages of error codes, and the README in two languages.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::docs;

/// Every code has its page as the code says, and both READMEs show the same commands and code.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (path, text) in docs::pages() {
        if fs::read_to_string(root.join(&path)).ok().as_deref() != Some(&*text) {
            found.push(format!("{path}: not as the code says; run `cargo xtask docs`"));
        }
    }
    let read = |name: &str| fs::read_to_string(root.join(name)).with_context(|| format!("{name} is missing"));
    if blocks(&read("README.md")?) != blocks(&read("README.zh-CN.md")?) {
        found.push("README.zh-CN.md: its code blocks are not those of README.md".to_owned());
    }
    Ok(found)
}

/// The code blocks of a document.
fn blocks(text: &str) -> Vec<&str> {
    text.split("```").skip(1).step_by(2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_blocks_are_compared() {
        let english = "# One\n```sh\nrun\n```\nand\n```rust\nfn f() {}\n```\n";
        assert_eq!(blocks(english), blocks(&english.replace("One", "一")));
        assert_ne!(blocks(english), blocks(&english.replace("run", "walk")));
    }
}
