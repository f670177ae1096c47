//! The pages of docs/errors, made from the one list of codes in commute-core.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, bail};
use commute_core::Code;

use crate::run;

/// Write, or only compare.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write the pages instead of comparing them.
    #[arg(long)]
    write: bool,
}

/// Where the pages are.
pub(crate) const FOLDER: &str = "docs/errors";

/// What is made ends here; what a person adds below it stays.
const MARK: &str = "<!-- made by `cargo xtask docs --write`; what you add below stays -->";

/// Writes the pages, or says which differ.
///
/// # Errors
/// The disk's, or the list of pages that differ.
pub(crate) fn run(args: &Args) -> Result<()> {
    let folder = run::root().join(FOLDER);
    let mut differing = Vec::new();
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (path, made) in pages() {
        let file = run::root().join(&path);
        let there = fs::read_to_string(&file).unwrap_or_default();
        if is_current(&made, &there) {
            continue;
        }
        if args.write {
            fs::write(&file, renewed(&made, &there)).with_context(|| format!("cannot write {path}"))?;
            println!("wrote {path}");
        } else {
            differing.push(path);
        }
    }
    if !differing.is_empty() {
        bail!("not up to date: {}; run `cargo xtask docs --write`", differing.join(", "));
    }
    Ok(())
}

/// Every page by its path from the root, up to the mark.
pub(crate) fn pages() -> BTreeMap<String, String> {
    let mut index = "# Errors\n\nEvery error a person can meet has a number that stays the same.\n\n".to_owned();
    let mut pages = BTreeMap::new();
    for code in Code::ALL {
        let number = code.number();
        let meaning = code.meaning();
        index.push_str(&format!("- [{number}]({number}.md): {meaning}\n"));
        let again = if code.is_retryable() {
            "The same call may succeed later without anybody changing anything."
        } else {
            "The same call fails again until somebody changes something."
        };
        let page = format!("# {number}: {}\n\n**What to do:** {}.\n\n{again}\n", meaning, code.remedy());
        pages.insert(format!("{FOLDER}/{number}.md"), format!("{page}\n{MARK}\n"));
    }
    pages.insert(format!("{FOLDER}/README.md"), format!("{index}\n{MARK}\n"));
    pages
}

/// Whether a page says what it should, whatever a person added.
pub(crate) fn is_current(made: &str, there: &str) -> bool {
    there.starts_with(made)
}

/// The page made anew, with what a person added to the old one.
fn renewed(made: &str, there: &str) -> String {
    let added = there.split_once(MARK).map_or("", |(_, added)| added.trim_start_matches('\n'));
    if added.is_empty() { made.to_owned() } else { format!("{made}\n{added}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_page_and_the_index_names_it() {
        let pages = pages();
        assert_eq!(pages.len(), Code::ALL.len() + 1);
        let index = &pages["docs/errors/README.md"];
        assert!(Code::ALL.iter().all(|code| index.contains(&format!("{}.md", code.number()))));
    }

    #[test]
    fn what_a_person_added_survives_a_page_made_anew() {
        let old = format!("# old\n\n{MARK}\n\nSeen on full disks.\n");
        let new = format!("# new\n\n{MARK}\n");
        assert!(!is_current(&new, &old));
        let renewed = renewed(&new, &old);
        assert!(is_current(&new, &renewed) && renewed.ends_with("Seen on full disks.\n"), "{renewed}");
        assert_eq!(super::renewed(&new, &renewed), renewed);
    }
}
