//! House rules of a source file.

/// A file longer than this without its tests has a second room inside.
const LONGEST: usize = 700;

/// Checks one Rust file.
pub(crate) fn check(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let first = text.lines().next().unwrap_or_default();
    let ends = |line: &str| line.ends_with(['.', ':', '!', '?']);
    let sentence = text.lines().take_while(|line| line.starts_with("//! ")).last().is_some_and(ends);
    let is_ui_test = path.contains("/tests/ui/");
    if !first.starts_with("//! ") || !sentence {
        found.push(format!("{path}: the first lines do not say in a `//!` sentence which room this is"));
    }
    let code = text.split("\n#[cfg(test)]\n").next().unwrap_or(text);
    let lines = code.lines().count();
    if lines > LONGEST && !path.contains("/tests/") {
        found.push(format!("{path}: {lines} lines without its tests; is there a second room inside?"));
    }
    // Put together here, so that this file does not find itself.
    for marker in ["TO", "FIX", "XX"].iter().zip(["DO", "ME", "X"]).map(|(a, b)| format!("{a}{b}")) {
        if text.contains(&marker) {
            found.push(format!("{path}: an unfinished marker, {marker}"));
        }
    }
    let in_tests = path.contains("/tests/") || text.contains("#[cfg(test)]");
    let tests = if path.contains("/tests/") { text } else { &text[code.len()..] };
    if in_tests && !is_ui_test && tests.contains(concat!("sle", "ep(")) {
        found.push(format!("{path}: a test that waits by the clock"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        check(path, text).len()
    }

    #[test]
    fn a_file_without_a_sentence_at_its_head_is_found() {
        assert_eq!(count("src/a.rs", "//! A room.\n\nfn f() {}\n"), 0);
        assert_eq!(count("src/a.rs", "//! A room that\n//! goes on.\n"), 0);
        assert_eq!(count("src/a.rs", "//! A room\n"), 1);
        assert_eq!(count("src/a.rs", "use x;\n"), 1);
    }

    #[test]
    fn a_long_file_is_found_and_its_tests_do_not_count() {
        assert_eq!(count("src/a.rs", &format!("//! A room.\n{}", "x\n".repeat(701))), 1);
        assert_eq!(count("src/a.rs", &format!("//! A room.\n\n#[cfg(test)]\n{}", "x\n".repeat(701))), 0);
    }

    #[test]
    fn markers_and_waiting_tests_are_found() {
        assert_eq!(count("src/a.rs", &format!("//! A room.\n// {}{}: later\n", "TO", "DO")), 1);
        assert_eq!(count("a/tests/a.rs", &format!("//! A room.\nfn t() {{ sle{} }}\n", "ep(x)")), 1);
        assert_eq!(count("src/a.rs", &format!("//! A room.\nfn t() {{ sle{} }}\n", "ep(x)")), 0);
    }
}
