//! Naps: a test that sleeps is slow on a good day and wrong on a bad one.

use super::tree::{Tree, tests_begin};

const NAP: &str = concat!("sleep", "(");

/// Finds tests that sleep, unless their time is paused, so that sleeping costs nothing and cannot be too short.
pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.rust() {
        let is_test = path.contains("/tests/") || path.ends_with("/tests.rs");
        let first = if is_test { 0 } else { tests_begin(text) };
        if text.contains("start_paused = true") || text.contains("time::pause()") {
            continue;
        }
        for (n, line) in text.lines().enumerate().skip(first).filter(|(_, line)| line.contains(NAP)) {
            if !line.trim_start().starts_with("//") {
                found.push(format!("{path}:{}: a test sleeps; wait for what it waits for, or pause the time", n + 1));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_sleeps_is_found_and_code_that_sleeps_is_not() {
        let nap = format!("tokio::time::{NAP}A_SECOND).await;\n");
        let unit = format!("//! A file.\n#[cfg(test)]\nmod tests {{\n{nap}}}\n");
        assert_eq!(check(&Tree::of(&[("crates/a/src/b.rs", &unit)])).len(), 1);
        assert_eq!(check(&Tree::of(&[("crates/a/tests/b.rs", &nap)])).len(), 1);
        assert!(check(&Tree::of(&[("crates/a/src/b.rs", &nap)])).is_empty());
        let paused = format!("#[tokio::test(start_paused = true)]\n{nap}");
        assert!(check(&Tree::of(&[("crates/a/tests/b.rs", &paused)])).is_empty());
    }
}
