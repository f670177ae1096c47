//! Error pages: every code has one that says what the code says, and no page is left of a code that is gone.

use super::tree::Tree;
use crate::docs;

/// Compares docs/errors, if it is there, with the codes.
pub(crate) fn check(tree: &Tree) -> Vec<String> {
    if !tree.has(docs::FOLDER) {
        return Vec::new();
    }
    let pages = docs::pages();
    let mut found = Vec::new();
    for (path, made) in &pages {
        match tree.files.get(path) {
            None => found.push(format!("{path} is missing; run `cargo xtask docs --write`")),
            Some(there) if !docs::is_current(made, there) => {
                found.push(format!("{path} does not say what its code says; run `cargo xtask docs --write`"));
            }
            Some(_) => {}
        }
    }
    let folder = format!("{}/", docs::FOLDER);
    let there = tree.files.keys().filter(|path| path.starts_with(&folder));
    found.extend(
        there
            .filter(|path| !pages.contains_key(*path))
            .map(|path| format!("{path}: no code has this number; remove it")),
    );
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_is_missing_wrong_or_left_over_is_found() {
        let tree = |pages: std::collections::BTreeMap<String, String>| check(&Tree { files: pages, ..Tree::default() });
        assert!(tree(docs::pages()).is_empty());
        let mut pages = docs::pages();
        pages.remove("docs/errors/CM0001.md");
        pages.insert("docs/errors/CM0002.md".to_owned(), "# Something else\n".to_owned());
        pages.insert("docs/errors/CM9999.md".to_owned(), String::new());
        let found = tree(pages);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("is missing") && found[1].contains("CM0002") && found[2].contains("CM9999"));
    }

    #[test]
    fn a_tree_without_the_folder_is_left_alone() {
        assert!(check(&Tree::of(&[])).is_empty());
    }
}
