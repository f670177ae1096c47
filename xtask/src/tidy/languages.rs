//! Languages: a README and its translation show the same code.

use super::tree::Tree;

const PAGES: [&str; 2] = ["README.md", "README.zh-CN.md"];

/// Compares the code blocks of the two, in their order.
pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let missing = PAGES.iter().filter(|page| !tree.files.contains_key(**page));
    let missing: Vec<_> = missing.map(|page| format!("{page} is missing")).collect();
    if !missing.is_empty() {
        return missing;
    }
    let [ours, theirs] = PAGES.map(|page| blocks(&tree.files[page]));
    if ours.len() != theirs.len() {
        let [one, other] = PAGES;
        return vec![format!("{one} has {} code blocks and {other} has {}", ours.len(), theirs.len())];
    }
    let pairs = ours.iter().zip(&theirs).filter(|((_, one), (_, other))| one != other);
    pairs
        .map(|((line, _), (other, _))| format!("{}:{line} and {}:{other} show different code", PAGES[0], PAGES[1]))
        .collect()
}

/// Each code block with the line it begins on.
fn blocks(page: &str) -> Vec<(usize, Vec<&str>)> {
    let mut blocks: Vec<(usize, Vec<&str>)> = Vec::new();
    let mut open = false;
    for (n, line) in page.lines().enumerate() {
        let fence = line.trim_start().starts_with("```");
        match blocks.last_mut() {
            Some((_, block)) if open => {
                open = !fence;
                block.push(line);
            }
            _ if fence => {
                open = true;
                blocks.push((n + 1, vec![line]));
            }
            _ => {}
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(translation: &str) -> Vec<String> {
        let readme = "# commute\n\nRun it:\n\n```sh\ncargo run\n```\n";
        check(&Tree::of(&[("README.md", readme), ("README.zh-CN.md", translation)]))
    }

    #[test]
    fn only_the_prose_may_differ() {
        assert!(found("# commute\n\n运行：\n```sh\ncargo run\n```\n").is_empty());
        assert_eq!(found("```sh\ncargo test\n```\n"), ["README.md:5 and README.zh-CN.md:1 show different code"]);
        assert!(found("```sh\ncargo run\n```\n```sh\nls\n```\n")[0].contains("1 code blocks"));
    }

    #[test]
    fn a_missing_readme_is_said() {
        assert_eq!(check(&Tree::of(&[("README.md", "")])), ["README.zh-CN.md is missing"]);
    }
}
