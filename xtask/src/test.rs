//! Everything that must be green.

use anyhow::Result;

use crate::run::{cargo, step};
use crate::{shop_check, tidy};

/// Runs all steps; the first one that fails ends it.
pub(crate) fn test() -> Result<()> {
    step("format", || cargo(["fmt", "--all", "--check"], &[]))?;
    step("tidy", tidy::tidy)?;
    step("lints", || cargo(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"], &[]))?;
    step("tests", || cargo(["test", "--workspace"], &[]))?;
    step("documentation", || {
        cargo(["rustdoc", "--quiet", "--package", "commute", "--", "-D", "rustdoc::broken-intra-doc-links"], &[])
    })?;
    step("shop-check, short", || shop_check::check(&shop_check::Args::short()))
}
