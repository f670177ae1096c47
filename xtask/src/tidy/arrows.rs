//! The arrows between crates: who may depend on whom, and who may name a backend.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

/// A dependency of a crate of ours.
struct Arrow {
    from: String,
    to: String,
    dev: bool,
}

const BACKENDS: [&str; 2] = ["commute-embedded", "commute-sqlite"];
/// What a crate without I/O and without a runtime does not depend on.
const RUNTIMES: [&str; 5] = ["tokio", "tokio-util", "async-std", "rusqlite", "futures-util"];

/// Checks manifests, and that one file of the engine names backends.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let args = ["metadata", "--no-deps", "--format-version", "1", "--offline"];
    let output = Command::new("cargo").current_dir(root).args(args).output().context("cannot run cargo metadata")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata gave no JSON")?;
    let mut arrows = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            arrows.push(Arrow {
                from: package["name"].as_str().unwrap_or_default().to_owned(),
                to: dependency["name"].as_str().unwrap_or_default().to_owned(),
                dev: dependency["kind"] == "dev",
            });
        }
    }
    let mut found: Vec<String> = arrows.iter().filter_map(wrong).collect();
    for (folder, allowed) in [("crates/commute/src", Some("drivers.rs")), ("crates/commute-core/src", None)] {
        for file in fs::read_dir(root.join(folder))? {
            let file = file?;
            let name = file.file_name().to_string_lossy().into_owned();
            if !file.path().is_file() || Some(name.as_str()) == allowed {
                continue;
            }
            let text = fs::read_to_string(file.path())?;
            for backend in BACKENDS.map(|name| name.replace('-', "_")) {
                if text.contains(&backend) {
                    found.push(format!("{folder}/{name}: names the backend {backend}"));
                }
            }
        }
    }
    Ok(found)
}

/// What is wrong with an arrow.
fn wrong(arrow: &Arrow) -> Option<String> {
    let Arrow { from, to, dev } = arrow;
    let ours = to == "commute" || to.starts_with("commute-");
    let allowed = match from.as_str() {
        "commute-core" => !ours && (*dev || !RUNTIMES.contains(&to.as_str())),
        "commute-scheduler" => (!ours || to == "commute-core") && (*dev || !RUNTIMES.contains(&to.as_str())),
        "commute-macros" => !ours || (*dev && to == "commute-core"),
        "commute-conformance" => !ours || to == "commute-core",
        backend if BACKENDS.contains(&backend) => {
            !ours || to == "commute-core" || (*dev && ["commute-conformance", "commute-macros"].contains(&to.as_str()))
        }
        "commute" => to != "commute-sqlite" || *dev,
        _ => true,
    };
    (!allowed).then(|| format!("{from} must not depend on {to}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_wrong(from: &str, to: &str, dev: bool) -> bool {
        wrong(&Arrow { from: from.to_owned(), to: to.to_owned(), dev }).is_some()
    }

    #[test]
    fn arrows_against_the_grain_are_found() {
        assert!(is_wrong("commute-core", "commute-scheduler", false));
        assert!(is_wrong("commute-core", "tokio", false));
        assert!(is_wrong("commute-scheduler", "tokio", false));
        assert!(is_wrong("commute-embedded", "commute", false));
        assert!(is_wrong("commute-embedded", "commute-sqlite", true));
        assert!(is_wrong("commute", "commute-sqlite", false));
    }

    #[test]
    fn arrows_of_the_design_are_allowed() {
        assert!(!is_wrong("commute-scheduler", "commute-core", false));
        assert!(!is_wrong("commute-embedded", "tokio", false));
        assert!(!is_wrong("commute-embedded", "commute-conformance", true));
        assert!(!is_wrong("commute", "commute-embedded", false));
        assert!(!is_wrong("shop", "commute-sqlite", false));
    }
}
