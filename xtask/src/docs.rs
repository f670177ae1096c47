//! Pages that are made from the code: one for every error code.

use std::fs;

use anyhow::{Context, Result};
use commute_core::Code;

use crate::run::root;

/// Where a code's page is, and what it must say.
pub(crate) fn pages() -> impl Iterator<Item = (String, String)> {
    Code::ALL.iter().map(|code| {
        let again = if code.is_retryable() {
            "The same call may succeed later without anybody changing anything."
        } else {
            "Trying again without a change does not help."
        };
        let text = format!(
            "# {number}\n\n{meaning}\n\n**What to do:** {remedy}.\n\n{again}\n",
            number = code.number(),
            meaning = code.meaning(),
            remedy = code.remedy(),
        );
        (format!("docs/errors/{}.md", code.number()), text)
    })
}

/// Writes all pages.
pub(crate) fn write() -> Result<()> {
    for (path, text) in pages() {
        let file = root().join(&path);
        fs::create_dir_all(file.parent().unwrap_or(&file))?;
        fs::write(&file, text).with_context(|| format!("cannot write {path}"))?;
    }
    Ok(())
}
