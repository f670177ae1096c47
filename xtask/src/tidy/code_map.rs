//! The code map of ARCHITECTURE.md: every crate's folder once, and no path that is gone.
//!
//! A path counts as named by the map when it stands in backticks, or first on a line of a code block.

use super::tree::Tree;

const PAGE: &str = "ARCHITECTURE.md";

/// Compares the map with the tree.
pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let Some(page) = tree.files.get(PAGE) else {
        return vec![format!(
            "{PAGE} is missing: write one with a \"## Code map\" that names every crate's folder once"
        )];
    };
    let Some(map) = section(page) else {
        return vec![format!("{PAGE} has no heading with the words \"code map\"")];
    };
    let named = paths(map);
    let mut found = Vec::new();
    for folder in tree.crate_folders() {
        match named.iter().filter(|path| path.trim_end_matches('/') == folder).count() {
            1 => {}
            0 => found.push(format!("{PAGE}: the code map does not name {folder}; add a line saying what it is")),
            times => found.push(format!("{PAGE}: the code map names {folder} {times} times; once is enough")),
        }
    }
    for path in named.iter().filter(|path| !tree.has(path)) {
        found.push(format!("{PAGE}: the code map names {path}, which does not exist"));
    }
    found
}

/// The text from the map's heading to the next heading of its level.
fn section(page: &str) -> Option<&str> {
    let heading = page.lines().find(|line| line.starts_with('#') && line.to_lowercase().contains("code map"))?;
    let level = heading.chars().take_while(|c| *c == '#').count();
    let begin = heading.as_ptr() as usize - page.as_ptr() as usize + heading.len();
    let map = &page[begin..];
    let next = format!("\n{} ", "#".repeat(level));
    Some(&map[..map.find(&next).unwrap_or(map.len())])
}

fn paths(map: &str) -> Vec<&str> {
    let mut paths = Vec::new();
    let mut in_block = false;
    for line in map.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if in_block {
            paths.extend(line.split_whitespace().next());
        } else {
            paths.extend(line.split('`').skip(1).step_by(2));
        }
    }
    paths.retain(|word| is_path(word));
    paths
}

/// Words of the code, patterns and commands stand in backticks too.
fn is_path(word: &str) -> bool {
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    plain
        && (word.contains('/')
            || word.ends_with(".rs")
            || word.ends_with(".md")
            || ["bench", "bench-brokers", "fuzz", "hostile", "servers", "xtask"].contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(map: &str) -> Vec<String> {
        let page = format!("# Architecture\n\n## Code map\n\n{map}\n\n## Arrows\n\n`crates/gone`\n");
        check(&Tree::of(&[
            ("ARCHITECTURE.md", &page),
            ("crates/one/Cargo.toml", ""),
            ("crates/one/src/lib.rs", ""),
            ("xtask/Cargo.toml", ""),
            ("Cargo.toml", ""),
        ]))
    }

    #[test]
    fn a_map_that_is_right_is_left_alone() {
        assert!(found("- `crates/one/`: the first. See `Thing::new` and `crates/*`.\n- `xtask`: chores").is_empty());
        assert!(
            found("```text\ncrates/one   the first\nxtask        chores\n```\nRead `crates/one/src/lib.rs`.")
                .is_empty()
        );
    }

    #[test]
    fn a_folder_left_out_named_twice_or_gone_is_found() {
        assert!(found("`crates/one`")[0].contains("does not name xtask"));
        assert!(found("`crates/one` `crates/one/` `xtask`")[0].contains("names crates/one 2 times"));
        assert!(found("`crates/one` `xtask` `crates/two/src/a.rs`")[0].contains("does not exist"));
    }

    #[test]
    fn a_missing_page_or_map_is_said() {
        assert!(check(&Tree::of(&[]))[0].contains("ARCHITECTURE.md is missing"));
        assert!(check(&Tree::of(&[("ARCHITECTURE.md", "# Architecture\n")]))[0].contains("no heading"));
    }
}
