//! Leftovers: nothing in the tree waits for later.

use super::tree::Tree;

/// Put together here, so that this file does not find itself.
const WORDS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
const CALLS: &[&str] = &[concat!("todo", "!("), concat!("unimplemented", "!(")];

/// Finds notes to self and code that is not there yet.
pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.files.iter().filter(|(path, _)| *path != "Cargo.lock") {
        for (n, line) in text.lines().enumerate() {
            let words = || line.split(|c: char| !c.is_alphanumeric() && c != '_');
            let word = WORDS.iter().find(|word| words().any(|there| there == **word));
            if let Some(what) = word.or_else(|| CALLS.iter().find(|call| line.contains(**call))) {
                found.push(format!("{path}:{}: {what}; do it, or say in an issue what is missing", n + 1));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_to_self_are_found_and_ordinary_words_are_not() {
        for word in WORDS.iter().chain(CALLS) {
            assert_eq!(check(&Tree::of(&[("a.rs", &format!("// x\n// {word}: later\n"))])).len(), 1, "{word}");
        }
        assert!(check(&Tree::of(&[("a.rs", "let todos = vec![\"XXXL\"]; // what to do\n")])).is_empty());
    }
}
