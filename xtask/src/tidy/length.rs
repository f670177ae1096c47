//! Length: a long file usually hides a second room.

use super::tree::{Tree, tests_begin};

/// Without tests; one idea repeated, like a list of flags, seldom needs more.
const LINES: usize = 700;

/// Finds files longer than that.
pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let lengths = tree.rust().map(|(path, text)| (path, tests_begin(text)));
    let long = lengths.filter(|(_, lines)| *lines > LINES);
    long.map(|(path, lines)| {
        format!("{path}: {lines} lines without tests, more than {LINES}; find the second room in it")
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_found_and_its_tests_do_not_count() {
        let code = "//! A file.\n".repeat(LINES);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "    // A line.\n".repeat(LINES));
        assert!(check(&Tree::of(&[("a.rs", &format!("{code}{tests}"))])).is_empty());
        assert_eq!(check(&Tree::of(&[("a.rs", &format!("{code}// One more.\n{tests}"))])).len(), 1);
    }
}
