//! Headers: the first line of every Rust file is a sentence that says what the file is.

use super::tree::Tree;

/// Finds files that open with anything else.
pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let bad = tree.rust().filter(|(_, text)| !opens_well(text));
    bad.map(|(path, _)| format!("{path}: line 1 should be a whole sentence, `//! The room: what happens here.`"))
        .collect()
}

fn opens_well(text: &str) -> bool {
    let Some(line) = text.lines().next().and_then(|line| line.strip_prefix("//! ")) else { return false };
    // A second sentence may run on to the next line; the first may not.
    line.trim_end().ends_with(['.', '!', '?', ':']) || line.contains(". ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_opening_sentence_is_found() {
        for bad in [
            "use std::fs;\n",
            "",
            "//! Settling\n",
            "/// Settling.\n",
            "\n//! Settling.\n",
            "//! One that\n//! runs on.\n",
        ] {
            assert_eq!(check(&Tree::of(&[("crates/a/src/b.rs", bad)])).len(), 1, "{bad:?}");
        }
    }

    #[test]
    fn a_sentence_is_enough_and_other_files_need_none() {
        let good = [
            ("crates/a/src/b.rs", "//! Settling: the last word on a delivery.\n"),
            ("crates/a/src/c.rs", "//! Settling. What follows runs\n//! on.\n"),
            ("crates/a/tests/ui/wrong.rs", "struct Wrong;\n"),
            ("notes.md", "notes\n"),
        ];
        assert!(check(&Tree::of(&good)).is_empty());
    }
}
